package agent

import "time"

const (
	// graceRatio is the part of a certificate's life after which it is renewed, and
	// graceJitter how far single agents may be off it (Istio's SECRET_GRACE_PERIOD_RATIO
	// and its jitter, which is 0.01: too little to spread a thousand pods that started together).
	graceRatio  = 0.5
	graceJitter = 0.1

	minRetry = 100 * time.Millisecond // the CA may be starting with us
	maxRetry = 30 * time.Second

	// firstMaxRetry holds while there is no certificate at all: without one the
	// workload serves nobody, so it is worth more questions.
	firstMaxRetry = time.Second

	minRenew = time.Second // whatever the CA issues, it is not asked more often
)

// renewAfter returns how long a certificate that came at the given time is used
// before a new one is asked for. The time it came counts, not NotBefore, which CAs
// put into the past for the sake of slow clocks. jitter is from -1 to 1.
func renewAfter(came, notAfter time.Time, jitter float64) time.Duration {
	life := notAfter.Sub(came)
	return max(minRenew, time.Duration(float64(life)*(graceRatio+graceJitter*jitter)))
}

// retryAfter returns the pause after the given number of failures before this one,
// most at the most, give or take the jitter.
func retryAfter(failures int, jitter float64, most time.Duration) time.Duration {
	wait := most
	if failures < 10 {
		wait = min(most, minRetry<<failures)
	}
	return wait + time.Duration(float64(wait)*0.25*jitter)
}
