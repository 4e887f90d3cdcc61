package stats

// Of HTTP.

// HTTP holds "http.<stat prefix>.": one connection manager.
type HTTP struct {
	DownstreamCxTotal                    Counter   `stat:"downstream_cx_total"`
	DownstreamCxSSLTotal                 Counter   `stat:"downstream_cx_ssl_total"`
	DownstreamCxHTTP1Total               Counter   `stat:"downstream_cx_http1_total"`
	DownstreamCxHTTP2Total               Counter   `stat:"downstream_cx_http2_total"`
	DownstreamCxUpgradesTotal            Counter   `stat:"downstream_cx_upgrades_total"`
	DownstreamCxActive                   Gauge     `stat:"downstream_cx_active"`
	DownstreamCxSSLActive                Gauge     `stat:"downstream_cx_ssl_active"`
	DownstreamCxHTTP1Active              Gauge     `stat:"downstream_cx_http1_active"`
	DownstreamCxHTTP2Active              Gauge     `stat:"downstream_cx_http2_active"`
	DownstreamCxUpgradesActive           Gauge     `stat:"downstream_cx_upgrades_active"`
	DownstreamCxDestroy                  Counter   `stat:"downstream_cx_destroy"`
	DownstreamCxDestroyLocal             Counter   `stat:"downstream_cx_destroy_local"`
	DownstreamCxDestroyRemote            Counter   `stat:"downstream_cx_destroy_remote"`
	DownstreamCxDestroyActiveRq          Counter   `stat:"downstream_cx_destroy_active_rq"`
	DownstreamCxDestroyLocalActiveRq     Counter   `stat:"downstream_cx_destroy_local_active_rq"`
	DownstreamCxDestroyRemoteActiveRq    Counter   `stat:"downstream_cx_destroy_remote_active_rq"`
	DownstreamCxIdleTimeout              Counter   `stat:"downstream_cx_idle_timeout"`
	DownstreamCxMaxDurationReached       Counter   `stat:"downstream_cx_max_duration_reached"`
	DownstreamCxMaxRequestsReached       Counter   `stat:"downstream_cx_max_requests_reached"`
	DownstreamCxDelayedCloseTimeout      Counter   `stat:"downstream_cx_delayed_close_timeout"`
	DownstreamCxDrainClose               Counter   `stat:"downstream_cx_drain_close"`
	DownstreamCxOverloadDisableKeepalive Counter   `stat:"downstream_cx_overload_disable_keepalive"`
	DownstreamCxProtocolError            Counter   `stat:"downstream_cx_protocol_error"`
	DownstreamCxRxBytesTotal             Counter   `stat:"downstream_cx_rx_bytes_total"`
	DownstreamCxTxBytesTotal             Counter   `stat:"downstream_cx_tx_bytes_total"`
	DownstreamCxRxBytesBuffered          Gauge     `stat:"downstream_cx_rx_bytes_buffered"`
	DownstreamCxTxBytesBuffered          Gauge     `stat:"downstream_cx_tx_bytes_buffered"`
	DownstreamCxLengthMS                 Histogram `stat:"downstream_cx_length_ms"`

	DownstreamRq                             ClassCodes `stat:"downstream_rq"`
	DownstreamRqTotal                        Counter    `stat:"downstream_rq_total"`
	DownstreamRqHTTP1Total                   Counter    `stat:"downstream_rq_http1_total"`
	DownstreamRqHTTP2Total                   Counter    `stat:"downstream_rq_http2_total"`
	DownstreamRqActive                       Gauge      `stat:"downstream_rq_active"`
	DownstreamRqCompleted                    Counter    `stat:"downstream_rq_completed"`
	DownstreamRqFailedPathNormalization      Counter    `stat:"downstream_rq_failed_path_normalization"`
	DownstreamRqRedirectedWithNormalizedPath Counter    `stat:"downstream_rq_redirected_with_normalized_path"`
	DownstreamRqHeaderTimeout                Counter    `stat:"downstream_rq_header_timeout"`
	DownstreamRqIdleTimeout                  Counter    `stat:"downstream_rq_idle_timeout"`
	DownstreamRqTimeout                      Counter    `stat:"downstream_rq_timeout"`
	DownstreamRqMaxDurationReached           Counter    `stat:"downstream_rq_max_duration_reached"`
	DownstreamRqNonRelativePath              Counter    `stat:"downstream_rq_non_relative_path"`
	DownstreamRqOverloadClose                Counter    `stat:"downstream_rq_overload_close"`
	DownstreamRqTooLarge                     Counter    `stat:"downstream_rq_too_large"`
	RsTooLarge                               Counter    `stat:"rs_too_large"`
	DownstreamRqTooManyPrematureResets       Counter    `stat:"downstream_rq_too_many_premature_resets"`
	DownstreamRqRxReset                      Counter    `stat:"downstream_rq_rx_reset"`
	DownstreamRqTxReset                      Counter    `stat:"downstream_rq_tx_reset"`
	DownstreamRqResponseBeforeRqComplete     Counter    `stat:"downstream_rq_response_before_rq_complete"`
	DownstreamRqWSOnNonWSRoute               Counter    `stat:"downstream_rq_ws_on_non_ws_route"`
	DownstreamRqRejectedViaIPDetection       Counter    `stat:"downstream_rq_rejected_via_ip_detection"`
	DownstreamRqTime                         Histogram  `stat:"downstream_rq_time"`
	DownstreamFlowControlPausedReading       Counter    `stat:"downstream_flow_control_paused_reading_total"`
	DownstreamFlowControlResumedReading      Counter    `stat:"downstream_flow_control_resumed_reading_total"`

	NoRoute                               Counter `stat:"no_route"`
	NoCluster                             Counter `stat:"no_cluster"`
	RqDirectResponse                      Counter `stat:"rq_direct_response"`
	RqRedirect                            Counter `stat:"rq_redirect"`
	RqResetAfterDownstreamResponseStarted Counter `stat:"rq_reset_after_downstream_response_started"`
	RqTotal                               Counter `stat:"rq_total"`
	RqOverloadLocalReply                  Counter `stat:"rq_overload_local_reply"`

	PassthroughInternalRedirectBadLocation      Counter `stat:"passthrough_internal_redirect_bad_location"`
	PassthroughInternalRedirectUnsafeScheme     Counter `stat:"passthrough_internal_redirect_unsafe_scheme"`
	PassthroughInternalRedirectTooManyRedirects Counter `stat:"passthrough_internal_redirect_too_many_redirects"`
	PassthroughInternalRedirectNoRoute          Counter `stat:"passthrough_internal_redirect_no_route"`
	PassthroughInternalRedirectPredicate        Counter `stat:"passthrough_internal_redirect_predicate"`

	TracingRandomSampling Counter `stat:"tracing.random_sampling"`
	TracingServiceForced  Counter `stat:"tracing.service_forced"`
	TracingClientEnabled  Counter `stat:"tracing.client_enabled"`
	TracingNotTraceable   Counter `stat:"tracing.not_traceable"`
	TracingHealthCheck    Counter `stat:"tracing.health_check"`

	Fault Fault `stat:"fault"`
}

// Route counts the requests of a route that has a name of its own for it (stat_prefix).
type Route struct {
	UpstreamRq                   Codes   `stat:"upstream_rq"`
	UpstreamRqCompleted          Counter `stat:"upstream_rq_completed"`
	UpstreamRqTotal              Counter `stat:"upstream_rq_total"`
	UpstreamRqTimeout            Counter `stat:"upstream_rq_timeout"`
	UpstreamRqRetry              Counter `stat:"upstream_rq_retry"`
	UpstreamRqRetrySuccess       Counter `stat:"upstream_rq_retry_success"`
	UpstreamRqRetryOverflow      Counter `stat:"upstream_rq_retry_overflow"`
	UpstreamRqRetryLimitExceeded Counter `stat:"upstream_rq_retry_limit_exceeded"`
}

// VirtualCluster counts the requests of a virtual host that its configuration has given a name.
type VirtualCluster struct {
	Route          `stat:""`
	UpstreamRqTime Histogram `stat:"upstream_rq_time,late"`
}

// HTTP1 holds "<prefix>.http1.".
type HTTP1 struct {
	Optional // from the first connection on

	DroppedHeadersWithUnderscores            Counter `stat:"dropped_headers_with_underscores"`
	RequestsRejectedWithUnderscoresInHeaders Counter `stat:"requests_rejected_with_underscores_in_headers"`
	MetadataNotSupportedError                Counter `stat:"metadata_not_supported_error"`
	ResponseFlood                            Counter `stat:"response_flood"`
}

// HTTP2 holds "http2.", of clients' connections, and "cluster.<name>.http2.".
type HTTP2 struct {
	DroppedHeadersWithUnderscores            Counter `stat:"dropped_headers_with_underscores"`
	RequestsRejectedWithUnderscoresInHeaders Counter `stat:"requests_rejected_with_underscores_in_headers"`
	GoAwaySent                               Counter `stat:"goaway_sent"`
	HeaderListSizeTooLarge                   Counter `stat:"header_list_size_too_large"`
	HeaderOverflow                           Counter `stat:"header_overflow"`
	InboundEmptyFramesFlood                  Counter `stat:"inbound_empty_frames_flood"`
	InboundPriorityFramesFlood               Counter `stat:"inbound_priority_frames_flood"`
	InboundWindowUpdateFramesFlood           Counter `stat:"inbound_window_update_frames_flood"`
	KeepaliveTimeout                         Counter `stat:"keepalive_timeout"`
	OutboundControlFlood                     Counter `stat:"outbound_control_flood"`
	OutboundFlood                            Counter `stat:"outbound_flood"`
	RxMessagingError                         Counter `stat:"rx_messaging_error"`
	RxReset                                  Counter `stat:"rx_reset"`
	StreamRefusedErrors                      Counter `stat:"stream_refused_errors"`
	StreamsActive                            Gauge   `stat:"streams_active"`
	Trailers                                 Counter `stat:"trailers"`
	TxFlushTimeout                           Counter `stat:"tx_flush_timeout"`
	TxReset                                  Counter `stat:"tx_reset"`
}

// Fault holds "http.<stat prefix>.fault.", of connection managers with that filter.
type Fault struct {
	Optional
	AbortsInjected Counter `stat:"aborts_injected"`
	DelaysInjected Counter `stat:"delays_injected"`
	Overflow       Counter `stat:"faults_overflow"`
	ResponseLimits Counter `stat:"response_rl_injected"`
	Active         Gauge   `stat:"active_faults"`
}

// ListenerHTTP holds "listener.<address>.http.<stat prefix>.": responses of one connection manager by listener.
type ListenerHTTP struct {
	DownstreamRq          ClassCodes `stat:"downstream_rq"`
	DownstreamRqCompleted Counter    `stat:"downstream_rq_completed"`
}
