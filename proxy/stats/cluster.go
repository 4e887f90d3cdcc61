package stats

// Of a cluster.

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
func (r *Responses) Count(code int, internal bool) { r.CountAs(code, code, internal) }

// CountAs is Count for a response that counts with another status, or with none (0), where it does not matter who has asked.
func (r *Responses) CountAs(own, code int, internal bool) {
	r.UpstreamRq.Add(own)
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

// InternalUpstream holds "cluster.<name>.internal_upstream.", which only clusters with such a transport socket have.
type InternalUpstream struct {
	NoMetadata Counter `stat:"no_metadata"`
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
	Cx      Hash `stat:"remaining_cx"`
	CxPools Hash `stat:"remaining_cx_pools"`
	Pending Hash `stat:"remaining_pending"`
	Retries Hash `stat:"remaining_retries"`
	Rq      Hash `stat:"remaining_rq"`
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
	EjectionsDetectedDegradation      Counter `stat:"ejections_detected_degradation"`
	EjectionsDetectedLocalFailure     Counter `stat:"ejections_detected_local_origin_failure_percentage"`
	EjectionsEnforcedLocalFailure     Counter `stat:"ejections_enforced_local_origin_failure_percentage"`

	// Envoy's older names, which dashboards still ask for.
	EjectionsTotal          Counter `stat:"ejections_total"`
	EjectionsConsecutive5xx Counter `stat:"ejections_consecutive_5xx"`
	EjectionsSuccessRate    Counter `stat:"ejections_success_rate"`
}
