package mesh

import (
	"slices"
	"strings"
)

// repeating are conditions of retries on which an application may have done what it was asked: it has answered, or
// its connection has ended while it was about to. Status codes are, too. What is left are connections that were never made, streams that a
// host says it has not begun, and statuses of gRPC by which servers say that they did nothing.
var repeating = []string{"5xx", "gateway-error", "reset", "retriable-4xx", "retriable-status-codes", "retriable-headers", "deadline-exceeded", "internal"}

// RepeatsCode is the code of what is said of retries that may have an application do twice what it is to do once.
const RepeatsCode = "MAL0003"

// Repeating returns those conditions of a retryOn on which an application may have done what it was asked.
func Repeating(retryOn string) (found []string) {
	for c := range strings.SplitSeq(retryOn, ",") {
		if c = strings.TrimSpace(c); slices.Contains(repeating, c) || len(c) == 3 && c[0] >= '1' && c[0] <= '5' {
			found = append(found, c)
		}
	}
	return found
}
