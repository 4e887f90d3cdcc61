package route

import "time"

// Backoff returns how long to wait before the given retry (1 is the first): a random
// time below base x (2^retry - 1), at most the maximum, as Envoy's jittered
// exponential back-off.
func (p *RetryPolicy) Backoff(retry uint32, random uint64) time.Duration { return 0 }

// ParseRetryOn reads a comma-separated list of conditions. Status codes in the list are
// returned apart, as Istio's retryOn has them.
func ParseRetryOn(s string) (on RetryOn, codes []uint16, err error) { return 0, nil, nil }
