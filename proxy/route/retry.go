package route

import (
	"time"
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

// A RetryPolicy says when and how often a request is sent again. It never changes.
type RetryPolicy struct {
	On                 RetryOn
	NumRetries         uint32 // 0 means 1 if On is set, as Envoy
	PerTryTimeout      time.Duration
	PerTryIdle         time.Duration
	StatusCodes        []uint16
	ResponseHeaders    []HeaderMatch // retriable_headers
	RequestHeaders     []HeaderMatch // retriable_request_headers; empty: any request
	BaseInterval       time.Duration // 0: 25 ms
	MaxInterval        time.Duration // 0: ten times the base
	HostAttempts       int           // host_selection_retry_max_attempts; 0: 1
	PreviousHosts      bool          // predicate previous_hosts: prefer hosts that were not tried
	PreviousPriorities int           // previous_priorities update frequency, 0: off
}
