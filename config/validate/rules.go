package validate

import "k8s.io/apimachinery/pkg/runtime"

// rules holds, for kinds that need more than their type says, what checks it.
var rules = map[string]func(*ruler, runtime.Object){}
