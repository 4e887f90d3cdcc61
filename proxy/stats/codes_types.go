package stats

// ClassCodes counts HTTP responses by class only: "<name>_2xx".
type ClassCodes struct{ class [5]Counter }

// numBuckets is the number of Envoy's default upper bounds and one for what lies above.
const numBuckets = 20
