package table

// native are the drawings of Kubernetes' own kinds, by kind and group.
var native = map[string]*Drawing{}
