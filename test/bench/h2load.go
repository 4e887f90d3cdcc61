package main

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

var (
	h2loadRequests = regexp.MustCompile(`(?m)^requests: .* (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout$`)
	h2loadStatus   = regexp.MustCompile(`(?m)^status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx$`)
)

// parseH2load reads how many requests h2load says were answered well. A round
// with failures is no measurement.
func parseH2load(out string) (int, error) {
	m := h2loadRequests.FindStringSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("h2load: found no number of requests in:\n%s", out)
	}
	if m[2] != "0" || m[3] != "0" || m[4] != "0" {
		return 0, fmt.Errorf("h2load: %s", strings.TrimSpace(m[0]))
	}
	if s := h2loadStatus.FindStringSubmatch(out); s == nil || s[2] != "0" || s[3] != "0" || s[4] != "0" {
		return 0, fmt.Errorf("h2load: %q, want 2xx only", h2loadStatus.FindString(out))
	}
	n, err := strconv.Atoi(m[1])
	if err == nil && n == 0 {
		err = fmt.Errorf("h2load: 0 requests were answered")
	}
	return n, err
}
