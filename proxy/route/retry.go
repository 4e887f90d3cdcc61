package route

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mallamesh/malla/proxy/header"
)

// RetryOn is a set of retry conditions.
type RetryOn uint32

// The conditions, with Envoy's names.
const (
	Retry5xx RetryOn = 1 << iota
	RetryGatewayError
	RetryReset
	RetryResetBeforeRequest
	RetryConnectFailure
	RetryEnvoyRateLimited
	RetryRetriable4xx
	RetryRefusedStream
	RetryStatusCodes // retriable-status-codes
	RetryHeaders     // retriable-headers
	RetryHTTP3PostConnect
	RetryGRPCCancelled
	RetryGRPCDeadlineExceeded
	RetryGRPCInternal
	RetryGRPCResourceExhausted
	RetryGRPCUnavailable
)

var retryNames = []string{
	"5xx", "gateway-error", "reset", "reset-before-request", "connect-failure", "envoy-ratelimited", "retriable-4xx", "refused-stream",
	"retriable-status-codes", "retriable-headers", "http3-post-connect-failure",
	"cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable",
}

// ParseRetryOn reads a comma-separated list of conditions, HTTP's and gRPC's. Status codes
// in the list, which Istio's retryOn may hold, are returned apart.
func ParseRetryOn(s string) (on RetryOn, codes []uint16, err error) {
	for _, name := range strings.Split(s, ",") {
		name = strings.TrimSpace(name)
		if name == "" {
			continue
		}
		if i := slices.Index(retryNames, name); i >= 0 {
			on |= 1 << i
			continue
		}
		code, err := strconv.Atoi(name)
		if err != nil || code < 100 || code > 599 {
			return 0, nil, fmt.Errorf("retry condition %q, want one of %s, or a status code", name, strings.Join(retryNames, ", "))
		}
		codes = append(codes, uint16(code))
	}
	if len(codes) > 0 {
		on |= RetryStatusCodes
	}
	return on, codes, nil
}

// ParseRetryHeader reads x-envoy-retry-on or x-envoy-retry-grpc-on of a request, of which each knows the
// conditions of its kind: what is not known is ignored there, as Envoy does. It allocates nothing.
func ParseRetryHeader(v []byte, grpc bool) (on RetryOn) {
	for len(v) > 0 {
		name := v
		if i := slices.Index(v, ','); i >= 0 {
			name, v = v[:i], v[i+1:]
		} else {
			v = nil
		}
		for len(name) > 0 && name[0] == ' ' {
			name = name[1:]
		}
		for len(name) > 0 && name[len(name)-1] == ' ' {
			name = name[:len(name)-1]
		}
		for i, known := range retryNames {
			if string(name) == known {
				on |= 1 << i
			}
		}
	}
	if grpc {
		return on & grpcConditions
	}
	return on &^ grpcConditions
}

// A RetryPolicy says when and how often a request is sent again. It never changes once it is
// part of a Table.
type RetryPolicy struct {
	On                 RetryOn
	NumRetries         *uint32 // nil: 1
	PerTryTimeout      time.Duration
	PerTryIdle         time.Duration
	StatusCodes        []uint16
	ResponseHeaders    []HeaderMatch // retriable_headers
	RequestHeaders     []HeaderMatch // retriable_request_headers; empty: any request
	BaseInterval       time.Duration // 0: 25 ms
	MaxInterval        time.Duration // 0: ten times the base
	ResetHeaders       []ResetHeader // rate_limited_retry_back_off: fields of a response that say when to come again
	MaxTold            time.Duration // how long these may have us wait; 0: 300 s
	HostAttempts       int           // host_selection_retry_max_attempts; 0: 1
	PreviousHosts      bool          // predicate previous_hosts: prefer hosts that were not tried
	OmitCanary         bool          // predicate omit_canary_hosts: prefer others
	OmitHosts          any           // predicate omit_host_metadata: prefer hosts without it; opaque here
	PreviousPriorities int           // previous_priorities update frequency, 0: off

	response, request []headerMatcher
}

// A ResetHeader is a field of a response that says when a request may be sent again.
type ResetHeader struct {
	Name string // lower case
	Unix bool   // a Unix time, else a number of seconds
}

// Told returns how long a response asks to wait, 0 if it does not, or for too long. The first field that says so much that
// it is not too long counts, be it nothing.
func (p *RetryPolicy) Told(m *header.Map, now time.Time) time.Duration {
	longest := p.MaxTold
	if longest == 0 {
		longest = 300 * time.Second
	}
	for _, h := range p.ResetHeaders {
		n, err := strconv.ParseUint(string(m.LookupString(h.Name)), 10, 33)
		if err != nil {
			continue
		}
		seconds := int64(n)
		if h.Unix {
			seconds -= now.Unix()
		}
		if d := time.Duration(seconds) * time.Second; d >= 0 && d <= longest {
			return d
		}
	}
	return 0
}

// compiled returns a copy with defaults filled in and matchers compiled.
func (p RetryPolicy) compiled() (*RetryPolicy, error) {
	if p.NumRetries == nil {
		one := uint32(1)
		p.NumRetries = &one
	}
	if p.BaseInterval == 0 {
		p.BaseInterval = 25 * time.Millisecond
	}
	if p.MaxInterval == 0 {
		p.MaxInterval = 10 * p.BaseInterval
	}
	if p.MaxInterval < p.BaseInterval {
		return nil, fmt.Errorf("retry_back_off: max_interval %s, want at least base_interval %s", p.MaxInterval, p.BaseInterval)
	}
	if p.HostAttempts == 0 {
		p.HostAttempts = 1
	}
	for i, h := range p.ResponseHeaders {
		m, err := newHeaderMatcher(h)
		if err != nil {
			return nil, fmt.Errorf("retriable_headers[%d]: %w", i, err)
		}
		p.response = append(p.response, m)
	}
	for i, h := range p.RequestHeaders {
		m, err := newHeaderMatcher(h)
		if err != nil {
			return nil, fmt.Errorf("retriable_request_headers[%d]: %w", i, err)
		}
		p.request = append(p.request, m)
	}
	return &p, nil
}

// Retriable reports whether the policy applies to a request at all.
func (p *RetryPolicy) Retriable(r *Request) bool {
	if len(p.request) == 0 {
		return true
	}
	for i := range p.request {
		if p.request[i].match(r) {
			return true
		}
	}
	return false
}

// OnResponse reports whether a response asks for another try. On is the policy's set, or that of the request's
// headers. Headers are those of the response.
func (p *RetryPolicy) OnResponse(on RetryOn, code int, headers *header.Map) bool {
	if headers.Has(header.XEnvoyRateLimited) {
		return on&RetryEnvoyRateLimited != 0 // and for nothing else
	}
	switch {
	case on&Retry5xx != 0 && code >= 500 && code < 600,
		on&RetryGatewayError != 0 && code >= 502 && code <= 504,
		on&RetryRetriable4xx != 0 && code == 409,
		on&RetryStatusCodes != 0 && slices.Contains(p.StatusCodes, uint16(code)):
		return true
	}
	if on&RetryHeaders != 0 {
		r := Request{Headers: headers}
		for i := range p.response {
			if p.response[i].match(&r) {
				return true
			}
		}
	}
	return on&grpcConditions != 0 && on&grpcCondition(headers.Get(header.GrpcStatus)) != 0
}

const grpcConditions = RetryGRPCCancelled | RetryGRPCDeadlineExceeded | RetryGRPCInternal | RetryGRPCResourceExhausted | RetryGRPCUnavailable

func grpcCondition(status []byte) RetryOn {
	switch string(status) {
	case "1":
		return RetryGRPCCancelled
	case "4":
		return RetryGRPCDeadlineExceeded
	case "8":
		return RetryGRPCResourceExhausted
	case "13":
		return RetryGRPCInternal
	case "14":
		return RetryGRPCUnavailable
	}
	return 0
}

// A ResetReason says how a try ended without a response.
type ResetReason uint8

// The reasons.
const (
	ResetConnectFailure ResetReason = iota // no connection, or not in time
	ResetByPeer                            // the stream or its connection was closed
	ResetRefused                           // the peer says that it has not begun (REFUSED_STREAM)
	ResetPerTryTimeout
	ResetOverflow // a circuit breaker; never tried again
)

// OnReset reports whether a try that ended without a response asks for another. Sent says whether
// anything of the request had gone upstream.
func (p *RetryPolicy) OnReset(on RetryOn, reason ResetReason, sent bool) bool {
	switch {
	case reason == ResetOverflow:
		return false
	case on&(Retry5xx|RetryGatewayError|RetryReset) != 0,
		on&RetryResetBeforeRequest != 0 && !sent,
		on&RetryRefusedStream != 0 && reason == ResetRefused,
		on&RetryConnectFailure != 0 && reason == ResetConnectFailure:
		return true
	}
	return false
}

// Overridden is the policy with what the request's own x-envoy-retry fields say; p may be nil. Those
// fields reach us from trusted clients only. It allocates, for requests that carry them.
func (p *RetryPolicy) Overridden(m *header.Map) *RetryPolicy {
	own := RetryPolicy{}
	if p != nil {
		own = *p
	} else {
		c, err := own.compiled()
		if err != nil {
			panic("route: an empty retry policy does not compile: " + err.Error())
		}
		own = *c
	}
	own.On |= ParseRetryHeader(m.Get(header.XEnvoyRetryOn), false) | ParseRetryHeader(m.Get(header.XEnvoyRetryGrpcOn), true)
	if n, err := strconv.ParseUint(string(m.Get(header.XEnvoyMaxRetries)), 10, 32); err == nil {
		retries := uint32(n)
		own.NumRetries = &retries
	}
	if own.On&RetryStatusCodes != 0 {
		own.StatusCodes = slices.Clone(own.StatusCodes)
		for _, c := range strings.Split(string(m.Get(header.XEnvoyRetriableStatusCodes)), ",") {
			if code, err := strconv.ParseUint(strings.TrimSpace(c), 10, 16); err == nil {
				own.StatusCodes = append(own.StatusCodes, uint16(code))
			}
		}
	}
	if names := m.Get(header.XEnvoyRetriableHeaderNames); len(names) > 0 {
		own.response = slices.Clone(own.response)
		for _, name := range strings.Split(string(names), ",") {
			if h, err := newHeaderMatcher(HeaderMatch{Name: strings.TrimSpace(name), StringMatch: StringMatch{Kind: Present}}); err == nil {
				own.response = append(own.response, h)
			}
		}
	}
	return &own
}

// Backoff returns how long to wait before a retry (the first is 1), as Envoy's jittered exponential back-off.
func (p *RetryPolicy) Backoff(retry uint32, random uint64) time.Duration {
	return Backoff{p.BaseInterval, p.MaxInterval}.Wait(retry, random)
}

// A Backoff is how long one waits before the next of several tries.
type Backoff struct{ Base, Max time.Duration }

// Wait returns a random time below an interval that starts at the base, with the first retry, and doubles up to the maximum.
func (b Backoff) Wait(retry uint32, random uint64) time.Duration {
	interval := b.Base
	for ; retry > 1 && interval < b.Max; retry-- {
		interval *= 2
	}
	return time.Duration(random % uint64(max(1, min(interval, b.Max))))
}
