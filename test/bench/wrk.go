package main

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// A wrkLoad is what wrk --latency told of one round; latencies are in milliseconds.
type wrkLoad struct {
	requests int
	p50, p99 float64
}

var (
	wrkRequests = regexp.MustCompile(`(?m)^ *(\d+) requests in `)
	wrkLatency  = regexp.MustCompile(`(?m)^ +(50|99)% +(\S+)$`)
	wrkFailures = regexp.MustCompile(`(?m)^ *(Socket errors|Non-2xx).*$`)
)

// parseWrk reads what wrk printed. A round with failures is no measurement.
func parseWrk(out string) (wrkLoad, error) {
	var l wrkLoad
	if bad := wrkFailures.FindString(out); bad != "" {
		return l, fmt.Errorf("wrk: %s", strings.TrimSpace(bad))
	}
	m := wrkRequests.FindStringSubmatch(out)
	if m == nil {
		return l, fmt.Errorf("wrk: found no number of requests in:\n%s", out)
	}
	l.requests, _ = strconv.Atoi(m[1])
	if l.requests == 0 {
		return l, fmt.Errorf("wrk: 0 requests were answered")
	}
	for _, p := range wrkLatency.FindAllStringSubmatch(out, -1) {
		d, err := time.ParseDuration(p[2]) // 812.00us, 1.02ms, 2.10s
		if err != nil {
			return l, fmt.Errorf("wrk: latency: %w", err)
		}
		ms := float64(d) / float64(time.Millisecond)
		if p[1] == "50" {
			l.p50 = ms
		} else {
			l.p99 = ms
		}
	}
	return l, nil
}
