package stats

// The sets below hold Envoy's metrics of one cluster, connection manager or
// listener. A field's tag is its name under the set's prefix.

// Cluster holds "cluster.<name>.": what happens between us and a cluster.
type Cluster struct {
	UpstreamCxTotal                     Counter   `stat:"upstream_cx_total"`
	UpstreamCxHTTP1Total                Counter   `stat:"upstream_cx_http1_total"`
	UpstreamCxHTTP2Total                Counter   `stat:"upstream_cx_http2_total"`
	UpstreamCxActive                    Gauge     `stat:"upstream_cx_active"`
	UpstreamCxConnectFail               Counter   `stat:"upstream_cx_connect_fail"`
	UpstreamCxConnectTimeout            Counter   `stat:"upstream_cx_connect_timeout"`
	UpstreamCxConnectAttemptsExceeded   Counter   `stat:"upstream_cx_connect_attempts_exceeded"`
	UpstreamCxOverflow                  Counter   `stat:"upstream_cx_overflow"`
	UpstreamCxPoolOverflow              Counter   `stat:"upstream_cx_pool_overflow"`
	UpstreamCxIdleTimeout               Counter   `stat:"upstream_cx_idle_timeout"`
	UpstreamCxMaxRequests               Counter   `stat:"upstream_cx_max_requests"`
	UpstreamCxMaxDurationReached        Counter   `stat:"upstream_cx_max_duration_reached"`
	UpstreamCxNoneHealthy               Counter   `stat:"upstream_cx_none_healthy"`
	UpstreamCxProtocolError             Counter   `stat:"upstream_cx_protocol_error"`
	UpstreamCxDestroy                   Counter   `stat:"upstream_cx_destroy"`
	UpstreamCxDestroyLocal              Counter   `stat:"upstream_cx_destroy_local"`
	UpstreamCxDestroyRemote             Counter   `stat:"upstream_cx_destroy_remote"`
	UpstreamCxDestroyWithActiveRq       Counter   `stat:"upstream_cx_destroy_with_active_rq"`
	UpstreamCxDestroyLocalWithActiveRq  Counter   `stat:"upstream_cx_destroy_local_with_active_rq"`
	UpstreamCxDestroyRemoteWithActiveRq Counter   `stat:"upstream_cx_destroy_remote_with_active_rq"`
	UpstreamCxCloseNotify               Counter   `stat:"upstream_cx_close_notify"`
	UpstreamCxRxBytesTotal              Counter   `stat:"upstream_cx_rx_bytes_total"`
	UpstreamCxTxBytesTotal              Counter   `stat:"upstream_cx_tx_bytes_total"`
	UpstreamCxRxBytesBuffered           Gauge     `stat:"upstream_cx_rx_bytes_buffered"`
	UpstreamCxTxBytesBuffered           Gauge     `stat:"upstream_cx_tx_bytes_buffered"`
	UpstreamRqPerCx                     Histogram `stat:"upstream_rq_per_cx"`
	UpstreamCxConnectMS                 Histogram `stat:"upstream_cx_connect_ms"`
	UpstreamCxLengthMS                  Histogram `stat:"upstream_cx_length_ms"`

	Responses                         `stat:""`
	UpstreamRqTotal                   Counter `stat:"upstream_rq_total"`
	UpstreamRqActive                  Gauge   `stat:"upstream_rq_active"`
	UpstreamRqPendingTotal            Counter `stat:"upstream_rq_pending_total"`
	UpstreamRqActiveOverflow          Counter `stat:"upstream_rq_active_overflow"`
	UpstreamRqPendingOverflow         Counter `stat:"upstream_rq_pending_overflow"`
	UpstreamRqPendingFailureEject     Counter `stat:"upstream_rq_pending_failure_eject"`
	UpstreamRqPendingActive           Gauge   `stat:"upstream_rq_pending_active"`
	UpstreamRqCancelled               Counter `stat:"upstream_rq_cancelled"`
	UpstreamRqMaintenanceMode         Counter `stat:"upstream_rq_maintenance_mode"`
	UpstreamRqMaxDurationReached      Counter `stat:"upstream_rq_max_duration_reached"`
	UpstreamRqTimeout                 Counter `stat:"upstream_rq_timeout"`
	UpstreamRqPerTryTimeout           Counter `stat:"upstream_rq_per_try_timeout"`
	UpstreamRqPerTryIdleTimeout       Counter `stat:"upstream_rq_per_try_idle_timeout"`
	UpstreamRqRxReset                 Counter `stat:"upstream_rq_rx_reset"`
	UpstreamRqTxReset                 Counter `stat:"upstream_rq_tx_reset"`
	UpstreamRqRetry                   Counter `stat:"upstream_rq_retry"`
	UpstreamRqRetryBackoffExponential Counter `stat:"upstream_rq_retry_backoff_exponential"`
	UpstreamRqRetryBackoffRatelimited Counter `stat:"upstream_rq_retry_backoff_ratelimited"`
	UpstreamRqRetryLimitExceeded      Counter `stat:"upstream_rq_retry_limit_exceeded"`
	UpstreamRqRetryOverflow           Counter `stat:"upstream_rq_retry_overflow"`
	UpstreamRqRetrySuccess            Counter `stat:"upstream_rq_retry_success"`
	UpstreamFlowControlPausedReading  Counter `stat:"upstream_flow_control_paused_reading_total"`
	UpstreamFlowControlResumedReading Counter `stat:"upstream_flow_control_resumed_reading_total"`
	UpstreamFlowControlBackedUp       Counter `stat:"upstream_flow_control_backed_up_total"`
	UpstreamFlowControlDrained        Counter `stat:"upstream_flow_control_drained_total"`
	UpstreamInternalRedirectFailed    Counter `stat:"upstream_internal_redirect_failed_total"`
	UpstreamInternalRedirectSucceeded Counter `stat:"upstream_internal_redirect_succeeded_total"`
	BindErrors                        Counter `stat:"bind_errors"`
	RetryOrShadowAbandoned            Counter `stat:"retry_or_shadow_abandoned"`
	AssignmentStale                   Counter `stat:"assignment_stale"`
	AssignmentTimeoutReceived         Counter `stat:"assignment_timeout_received"`

	MembershipChange   Counter `stat:"membership_change"`
	MembershipTotal    Gauge   `stat:"membership_total"`
	MembershipHealthy  Gauge   `stat:"membership_healthy"`
	MembershipDegraded Gauge   `stat:"membership_degraded"`
	MembershipExcluded Gauge   `stat:"membership_excluded"`
	UpdateAttempt      Counter `stat:"update_attempt"`
	UpdateSuccess      Counter `stat:"update_success"`
	UpdateFailure      Counter `stat:"update_failure"`
	UpdateEmpty        Counter `stat:"update_empty"`
	UpdateNoRebuild    Counter `stat:"update_no_rebuild"`
	Version            Hash    `stat:"version"`
	MaxHostWeight      Gauge   `stat:"max_host_weight"`

	LBHealthyPanic               Counter `stat:"lb_healthy_panic"`
	LBLocalClusterNotOK          Counter `stat:"lb_local_cluster_not_ok"`
	LBRecalculateZone            Counter `stat:"lb_recalculate_zone_structures"`
	LBZoneClusterTooSmall        Counter `stat:"lb_zone_cluster_too_small"`
	LBZoneNoCapacityLeft         Counter `stat:"lb_zone_no_capacity_left"`
	LBZoneRoutingAllDirectly     Counter `stat:"lb_zone_routing_all_directly"`
	LBZoneRoutingCrossZone       Counter `stat:"lb_zone_routing_cross_zone"`
	LBZoneRoutingSampled         Counter `stat:"lb_zone_routing_sampled"`
	LBSubsetsActive              Gauge   `stat:"lb_subsets_active"`
	LBSubsetsCreated             Counter `stat:"lb_subsets_created"`
	LBSubsetsRemoved             Counter `stat:"lb_subsets_removed"`
	LBSubsetsSelected            Counter `stat:"lb_subsets_selected"`
	LBSubsetsFallback            Counter `stat:"lb_subsets_fallback"`
	LBSubsetsFallbackPanic       Counter `stat:"lb_subsets_fallback_panic"`
	LBSubsetsSingleHostDuplicate Gauge   `stat:"lb_subsets_single_host_per_subset_duplicate,late"`
	OriginalDstHostInvalid       Counter `stat:"original_dst_host_invalid"`

	DefaultBreakers Breakers `stat:"circuit_breakers.default"`
	HighBreakers    Breakers `stat:"circuit_breakers.high"`
	Outlier         Outlier  `stat:"outlier_detection"`
	TLS             TLS      `stat:"ssl"`
	HTTP1           HTTP1    `stat:"http1"`
}

// Budget is how much of the time that requests and their tries had they took, in percent.
type Budget struct {
	PercentUsed       Histogram `stat:"percent_used"`
	PerTryPercentUsed Histogram `stat:"per_try_percent_used"`
}

// Sizes are those of the requests of a cluster, of all their tries, and of their responses.
type Sizes struct {
	RqHeadersSize  Histogram `stat:"rq_headers_size"`
	RqHeadersCount Histogram `stat:"rq_headers_count"`
	RqBodySize     Histogram `stat:"rq_body_size"`
	RsHeadersSize  Histogram `stat:"rs_headers_size"`
	RsHeadersCount Histogram `stat:"rs_headers_count"`
	RsBodySize     Histogram `stat:"rs_body_size"`
}

// Responses holds what is counted of responses: of all that a cluster has, and once more below a name that a request has
// given ("cluster.<name>.<that name>.").
type Responses struct {
	UpstreamRq          Codes     `stat:"upstream_rq"`
	ExternalRq          Codes     `stat:"external.upstream_rq"`
	InternalRq          Codes     `stat:"internal.upstream_rq"`
	UpstreamRqCompleted Counter   `stat:"upstream_rq_completed"`
	ExternalRqCompleted Counter   `stat:"external.upstream_rq_completed,late"`
	InternalRqCompleted Counter   `stat:"internal.upstream_rq_completed,late"`
	UpstreamRqTime      Histogram `stat:"upstream_rq_time,late"`
	ExternalRqTime      Histogram `stat:"external.upstream_rq_time,late"`
	InternalRqTime      Histogram `stat:"internal.upstream_rq_time,late"`
	RetryRq             Codes     `stat:"retry.upstream_rq"` // of responses that were not the last word
	RetryRqCompleted    Counter   `stat:"retry.upstream_rq_completed,late"`
}

// Took notes how long a response took.
func (r *Responses) Took(ms uint64, internal bool) {
	r.UpstreamRqTime.Record(ms)
	if internal {
		r.InternalRqTime.Record(ms)
	} else {
		r.ExternalRqTime.Record(ms)
	}
}

// Retried counts a response after which the request was sent once more.
func (r *Responses) Retried(code int) {
	r.RetryRq.Add(code)
	r.RetryRqCompleted.Inc()
}

// Count counts a response, to a client inside of the mesh or not.
func (r *Responses) Count(code int, internal bool) {
	r.UpstreamRq.Add(code)
	r.UpstreamRqCompleted.Inc()
	codes, all := &r.ExternalRq, &r.ExternalRqCompleted
	if internal {
		codes, all = &r.InternalRq, &r.InternalRqCompleted
	}
	codes.Add(code)
	all.Inc()
}

// CountDestroyed counts a connection that has ended: by its host or by us, with requests in flight or without.
func (c *Cluster) CountDestroyed(byHost, withRequests bool) {
	c.UpstreamCxDestroy.Inc()
	by, with := &c.UpstreamCxDestroyLocal, &c.UpstreamCxDestroyLocalWithActiveRq
	if byHost {
		by, with = &c.UpstreamCxDestroyRemote, &c.UpstreamCxDestroyRemoteWithActiveRq
	}
	by.Inc()
	if withRequests {
		c.UpstreamCxDestroyWithActiveRq.Inc()
		with.Inc()
	}
}

// RingHash holds "cluster.<name>.ring_hash_lb.".
type RingHash struct {
	Size             Gauge `stat:"size"`
	MinHashesPerHost Gauge `stat:"min_hashes_per_host"`
	MaxHashesPerHost Gauge `stat:"max_hashes_per_host"`
}

// Maglev holds "cluster.<name>.maglev_lb.".
type Maglev struct {
	MinEntriesPerHost Gauge `stat:"min_entries_per_host"`
	MaxEntriesPerHost Gauge `stat:"max_entries_per_host"`
}

// HealthChecks holds "cluster.<name>.health_check.", which only clusters with active checks have.
type HealthChecks struct {
	Attempt        Counter `stat:"attempt"`
	Success        Counter `stat:"success"`
	Failure        Counter `stat:"failure"`
	PassiveFailure Counter `stat:"passive_failure"`
	NetworkFailure Counter `stat:"network_failure"`
	VerifyCluster  Counter `stat:"verify_cluster"`
	Degraded       Gauge   `stat:"degraded"`
	Healthy        Gauge   `stat:"healthy"`
}

// Breakers holds "cluster.<name>.circuit_breakers.<priority>.".
type Breakers struct {
	CxOpen        Gauge `stat:"cx_open"`
	CxPoolOpen    Gauge `stat:"cx_pool_open"`
	RqOpen        Gauge `stat:"rq_open"`
	RqPendingOpen Gauge `stat:"rq_pending_open"`
	RqRetryOpen   Gauge `stat:"rq_retry_open"`
}

// Remaining holds "cluster.<name>.circuit_breakers.<priority>.remaining_...", which exist only where
// track_remaining asks for them: a 0 would read as "nothing left".
type Remaining struct {
	Cx      Gauge `stat:"remaining_cx"`
	CxPools Gauge `stat:"remaining_cx_pools"`
	Pending Gauge `stat:"remaining_pending"`
	Retries Gauge `stat:"remaining_retries"`
	Rq      Gauge `stat:"remaining_rq"`
}

// Outlier holds "cluster.<name>.outlier_detection.".
type Outlier struct {
	Optional

	EjectionsActive                 Gauge   `stat:"ejections_active"`
	EjectionsOverflow               Counter `stat:"ejections_overflow"`
	EjectionsEnforcedTotal          Counter `stat:"ejections_enforced_total"`
	EjectionsEnforcedConsecutive5xx Counter `stat:"ejections_enforced_consecutive_5xx"`
	EjectionsDetectedConsecutive5xx Counter `stat:"ejections_detected_consecutive_5xx"`
	EjectionsEnforcedGateway        Counter `stat:"ejections_enforced_consecutive_gateway_failure"`
	EjectionsDetectedGateway        Counter `stat:"ejections_detected_consecutive_gateway_failure"`
	EjectionsEnforcedLocalOrigin    Counter `stat:"ejections_enforced_consecutive_local_origin_failure"`
	EjectionsDetectedLocalOrigin    Counter `stat:"ejections_detected_consecutive_local_origin_failure"`

	EjectionsDetectedSuccessRate      Counter `stat:"ejections_detected_success_rate"`
	EjectionsEnforcedSuccessRate      Counter `stat:"ejections_enforced_success_rate"`
	EjectionsDetectedLocalSuccessRate Counter `stat:"ejections_detected_local_origin_success_rate"`
	EjectionsEnforcedLocalSuccessRate Counter `stat:"ejections_enforced_local_origin_success_rate"`
	EjectionsDetectedFailure          Counter `stat:"ejections_detected_failure_percentage"`
	EjectionsEnforcedFailure          Counter `stat:"ejections_enforced_failure_percentage"`
	EjectionsDetectedLocalFailure     Counter `stat:"ejections_detected_local_origin_failure_percentage"`
	EjectionsEnforcedLocalFailure     Counter `stat:"ejections_enforced_local_origin_failure_percentage"`

	// Envoy's older names, which dashboards still ask for.
	EjectionsTotal          Counter `stat:"ejections_total"`
	EjectionsConsecutive5xx Counter `stat:"ejections_consecutive_5xx"`
	EjectionsSuccessRate    Counter `stat:"ejections_success_rate"`
}

// TLS holds "<prefix>.ssl.".
type TLS struct {
	Optional

	ConnectionError    Counter `stat:"connection_error"`
	Handshake          Counter `stat:"handshake"`
	SessionReused      Counter `stat:"session_reused"`
	NoCertificate      Counter `stat:"no_certificate"`
	FailVerifyNoCert   Counter `stat:"fail_verify_no_cert"`
	FailVerifyError    Counter `stat:"fail_verify_error"`
	FailVerifySAN      Counter `stat:"fail_verify_san"`
	FailVerifyCertHash Counter `stat:"fail_verify_cert_hash"`
	Ciphers            Named   `stat:"ciphers" tag:"envoy.ssl_cipher"`
	Versions           Named   `stat:"versions" tag:"envoy.ssl_version"`
	Curves             Named   `stat:"curves" tag:"envoy.ssl_curve"`
	SigAlgs            Named   `stat:"sigalgs" tag:"envoy.ssl_sigalg"`
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

// Fault holds "http.<stat prefix>.fault.", of connection managers with that filter.
type Fault struct {
	Optional
	AbortsInjected Counter `stat:"aborts_injected"`
	DelaysInjected Counter `stat:"delays_injected"`
	Overflow       Counter `stat:"faults_overflow"`
	ResponseLimits Counter `stat:"response_rl_injected"`
	Active         Gauge   `stat:"active_faults"`
}

// Listener holds "listener.<address>.".
type Listener struct {
	DownstreamCxTotal                         Counter   `stat:"downstream_cx_total"`
	DownstreamCxDestroy                       Counter   `stat:"downstream_cx_destroy"`
	DownstreamCxActive                        Gauge     `stat:"downstream_cx_active"`
	DownstreamCxLengthMS                      Histogram `stat:"downstream_cx_length_ms"`
	DownstreamCxTransportSocketConnectTimeout Counter   `stat:"downstream_cx_transport_socket_connect_timeout"`
	DownstreamCxOverflow                      Counter   `stat:"downstream_cx_overflow"`
	DownstreamCxOverloadReject                Counter   `stat:"downstream_cx_overload_reject"`
	DownstreamGlobalCxOverflow                Counter   `stat:"downstream_global_cx_overflow"`
	ConnectionsAcceptedPerSocketEvent         Histogram `stat:"connections_accepted_per_socket_event"`
	DownstreamPreCxTimeout                    Counter   `stat:"downstream_pre_cx_timeout"`
	DownstreamPreCxActive                     Gauge     `stat:"downstream_pre_cx_active"`
	DownstreamListenerFilterRemoteClose       Counter   `stat:"downstream_listener_filter_remote_close"`
	DownstreamListenerFilterError             Counter   `stat:"downstream_listener_filter_error"`
	NoFilterChainMatch                        Counter   `stat:"no_filter_chain_match"`
	TLS                                       TLS       `stat:"ssl"`
}

// ListenerHTTP holds "listener.<address>.http.<stat prefix>.": responses of one connection manager by listener.
type ListenerHTTP struct {
	DownstreamRq          ClassCodes `stat:"downstream_rq"`
	DownstreamRqCompleted Counter    `stat:"downstream_rq_completed"`
}

// TCP holds "tcp.<stat prefix>.": one TCP proxy.
type TCP struct {
	DownstreamCxTotal                   Counter `stat:"downstream_cx_total"`
	DownstreamCxNoRoute                 Counter `stat:"downstream_cx_no_route"`
	DownstreamCxTxBytesTotal            Counter `stat:"downstream_cx_tx_bytes_total"`
	DownstreamCxTxBytesBuffered         Gauge   `stat:"downstream_cx_tx_bytes_buffered"`
	DownstreamCxRxBytesTotal            Counter `stat:"downstream_cx_rx_bytes_total"`
	DownstreamCxRxBytesBuffered         Gauge   `stat:"downstream_cx_rx_bytes_buffered"`
	DownstreamFlowControlPausedReading  Counter `stat:"downstream_flow_control_paused_reading_total"`
	DownstreamFlowControlResumedReading Counter `stat:"downstream_flow_control_resumed_reading_total"`
	EarlyDataReceivedCountTotal         Counter `stat:"early_data_received_count_total"`
	IdleTimeout                         Counter `stat:"idle_timeout"`
	MaxDownstreamConnectionDuration     Counter `stat:"max_downstream_connection_duration"`
	UpstreamFlushTotal                  Counter `stat:"upstream_flush_total"`
	UpstreamFlushActive                 Gauge   `stat:"upstream_flush_active"`
}

// ProxyProtocol holds "proxy_proto.": the listener filter of that name.
type ProxyProtocol struct {
	NotFoundAllowed    Counter              `stat:"not_found_allowed"`
	NotFoundDisallowed Counter              `stat:"not_found_disallowed"`
	V1                 ProxyProtocolVersion `stat:"versions.v1"`
	V2                 ProxyProtocolVersion `stat:"versions.v2"`
}

// ProxyProtocolErrors holds what Envoy counts without a prefix, for all versions and listeners together.
type ProxyProtocolErrors struct {
	Error Counter `stat:"proxy_proto_error"`
}

// ProxyProtocolVersion holds "proxy_proto.versions.<version>.".
type ProxyProtocolVersion struct {
	Found      Counter `stat:"found"`
	Disallowed Counter `stat:"disallowed"`
	Error      Counter `stat:"error"`
}

// TLSInspector holds "tls_inspector.": the listener filter of that name.
type TLSInspector struct {
	ClientHelloTooLarge Counter   `stat:"client_hello_too_large"`
	TLSFound            Counter   `stat:"tls_found"`
	TLSNotFound         Counter   `stat:"tls_not_found"`
	ALPNFound           Counter   `stat:"alpn_found"`
	ALPNNotFound        Counter   `stat:"alpn_not_found"`
	SNIFound            Counter   `stat:"sni_found"`
	SNINotFound         Counter   `stat:"sni_not_found"`
	BytesProcessed      Histogram `stat:"bytes_processed"`
}

// Found counts a client hello: whether it names a server and protocols, and its length.
func (t *TLSInspector) Found(server, protocols bool, length int) {
	t.TLSFound.Inc()
	sni, alpn := &t.SNINotFound, &t.ALPNNotFound
	if server {
		sni = &t.SNIFound
	}
	if protocols {
		alpn = &t.ALPNFound
	}
	sni.Inc()
	alpn.Inc()
	t.BytesProcessed.Record(uint64(length))
}

// HTTPInspector holds "http_inspector.": the listener filter of that name.
type HTTPInspector struct {
	HTTP10   Counter `stat:"http10_found"`
	HTTP11   Counter `stat:"http11_found"`
	HTTP2    Counter `stat:"http2_found"`
	NotFound Counter `stat:"http_not_found"`
}

// ConnectionRate holds "listener_local_ratelimit.<stat prefix>." and "local_rate_limit.<stat prefix>.".
type ConnectionRate struct {
	RateLimited Counter `stat:"rate_limited"`
}

// ConnectionLimit holds "connection_limit.<stat prefix>.".
type ConnectionLimit struct {
	Limited Counter `stat:"limited_connections"`
	Active  Gauge   `stat:"active_connections"`
}

// TCPFault holds "tcp_fault.<stat prefix>.".
type TCPFault struct {
	Refused Counter `stat:"refused"`
	Delayed Counter `stat:"delayed"`
	Resets  Counter `stat:"resets"`
}

// ListenerManager holds "listener_manager.".
type ListenerManager struct {
	ListenerAdded             Counter      `stat:"listener_added"`
	ListenerModified          Counter      `stat:"listener_modified"`
	ListenerRemoved           Counter      `stat:"listener_removed"`
	ListenerStopped           Counter      `stat:"listener_stopped"`
	ListenerCreateSuccess     Counter      `stat:"listener_create_success"`
	ListenerCreateFailure     Counter      `stat:"listener_create_failure"`
	ListenerInPlaceUpdated    Counter      `stat:"listener_in_place_updated"`
	TotalListenersWarming     Gauge        `stat:"total_listeners_warming"`
	TotalListenersActive      Gauge        `stat:"total_listeners_active"`
	TotalListenersDraining    Gauge        `stat:"total_listeners_draining"`
	TotalFilterChainsDraining Gauge        `stat:"total_filter_chains_draining"`
	WorkersStarted            Gauge        `stat:"workers_started"`
	LDS                       Subscription `stat:"lds"`
}

// ClusterManager holds "cluster_manager.".
type ClusterManager struct {
	ClusterAdded           Counter `stat:"cluster_added"`
	ClusterModified        Counter `stat:"cluster_modified"`
	ClusterRemoved         Counter `stat:"cluster_removed"`
	ClusterUpdated         Counter `stat:"cluster_updated"`
	ClusterUpdatedViaMerge Counter `stat:"cluster_updated_via_merge"`
	UpdateMergeCancelled   Counter `stat:"update_merge_cancelled"`
	UpdateOutOfMergeWindow Counter `stat:"update_out_of_merge_window"`
	ActiveClusters         Gauge   `stat:"active_clusters"`
	WarmingClusters        Gauge   `stat:"warming_clusters"`
	CDS                    CDS     `stat:"cds"`
}

// CDS counts the subscription to clusters.
type CDS struct {
	Subscription `stat:""`
	Reloads      `stat:""`
}

// Server holds "server.".
type Server struct {
	Live                          Gauge     `stat:"live"`
	State                         Gauge     `stat:"state"`
	Uptime                        Gauge     `stat:"uptime"`
	Concurrency                   Gauge     `stat:"concurrency"`
	MemoryAllocated               Gauge     `stat:"memory_allocated"`
	MemoryHeapSize                Gauge     `stat:"memory_heap_size"`
	MemoryPhysicalSize            Gauge     `stat:"memory_physical_size"`
	Goroutines                    Gauge     `stat:"goroutines"` // ours: what leaks shows there
	TotalConnections              Gauge     `stat:"total_connections"`
	ParentConnections             Gauge     `stat:"parent_connections"`
	DaysUntilFirstCertExpiring    Gauge     `stat:"days_until_first_cert_expiring"`
	SecondsUntilFirstOCSPExpiring Gauge     `stat:"seconds_until_first_ocsp_response_expiring"`
	Version                       Hash      `stat:"version"`
	HotRestartEpoch               Gauge     `stat:"hot_restart_epoch"`
	StatsRecentLookups            Gauge     `stat:"stats_recent_lookups"`
	InitializationTimeMS          Histogram `stat:"initialization_time_ms"`
	EnvoyBugFailures              Counter   `stat:"envoy_bug_failures"`
	DebugAssertionFailures        Counter   `stat:"debug_assertion_failures"`
	StaticUnknownFields           Counter   `stat:"static_unknown_fields"`
	DynamicUnknownFields          Counter   `stat:"dynamic_unknown_fields"`
	AccessLogDropped              Counter   `stat:"access_log_dropped"`
}

// ControlPlane holds "control_plane.".
type ControlPlane struct {
	ConnectedState    Gauge   `stat:"connected_state"`
	PendingRequests   Gauge   `stat:"pending_requests"`
	RateLimitEnforced Counter `stat:"rate_limit_enforced"`
}
