package model

// What a workload that is no pod says of its health, in Istio's words: where the annotation is "true" the
// workload's entry is one of a proxy that probes its application, and healthy if this condition says so.
const (
	HealthAnnotation = "proxy.istio.io/health-checks-enabled"
	ConditionHealthy = "Healthy"
)
