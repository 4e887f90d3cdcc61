package stats

// The sets below hold Envoy's metrics of one cluster, connection manager or
// listener. A field's tag is its name under the set's prefix.

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
	ExtensionConfigMissing                    Counter   `stat:"extension_config_missing"`
	NetworkExtensionConfigMissing             Counter   `stat:"network_extension_config_missing"`
	TLS                                       TLS       `stat:"ssl"`
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
	ListenerAdded             Counter `stat:"listener_added"`
	ListenerModified          Counter `stat:"listener_modified"`
	ListenerRemoved           Counter `stat:"listener_removed"`
	ListenerStopped           Counter `stat:"listener_stopped"`
	ListenerCreateSuccess     Counter `stat:"listener_create_success"`
	ListenerCreateFailure     Counter `stat:"listener_create_failure"`
	ListenerInPlaceUpdated    Counter `stat:"listener_in_place_updated"`
	TotalListenersWarming     Gauge   `stat:"total_listeners_warming"`
	TotalListenersActive      Gauge   `stat:"total_listeners_active"`
	TotalListenersDraining    Gauge   `stat:"total_listeners_draining"`
	TotalFilterChainsDraining Gauge   `stat:"total_filter_chains_draining"`
	WorkersStarted            Gauge   `stat:"workers_started"`
	LDS                       LDS     `stat:"lds"`
}

// LDS counts the subscription to listeners.
type LDS struct {
	Optional // where there are some that come

	Subscription `stat:""`
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
	Optional // where there are some that come

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
