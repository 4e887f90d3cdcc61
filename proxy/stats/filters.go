package stats

// The sets below hold metrics of HTTP filters.

// Cors holds "http.<prefix>.cors.".
type Cors struct {
	OriginValid   Counter `stat:"origin_valid"`
	OriginInvalid Counter `stat:"origin_invalid"`
}

// NameCache holds "dns_cache.<name>.".
type NameCache struct {
	QueryAttempt    Counter `stat:"dns_query_attempt"`
	QuerySuccess    Counter `stat:"dns_query_success"`
	QueryFailure    Counter `stat:"dns_query_failure"`
	QueryTimeout    Counter `stat:"dns_query_timeout"`
	AddressChanged  Counter `stat:"host_address_changed"`
	HostAdded       Counter `stat:"host_added"`
	HostRemoved     Counter `stat:"host_removed"`
	HostOverflow    Counter `stat:"host_overflow"`
	PendingOverflow Counter `stat:"dns_rq_pending_overflow"`
	NumHosts        Gauge   `stat:"num_hosts"`
}

// LocalRateLimit holds "<prefix>.http_local_rate_limit.".
type LocalRateLimit struct {
	Enabled     Counter `stat:"enabled"`
	Enforced    Counter `stat:"enforced"`
	RateLimited Counter `stat:"rate_limited"`
	OK          Counter `stat:"ok"`
	ShadowMode  Counter `stat:"shadow_mode"`
}

// RateLimit holds "cluster.<name>.ratelimit.", with a filter's own prefix behind it if it has one.
type RateLimit struct {
	OK                 Counter `stat:"ok,late"`
	OverLimit          Counter `stat:"over_limit,late"`
	Error              Counter `stat:"error,late"`
	FailureModeAllowed Counter `stat:"failure_mode_allowed,late"`
}

// BandwidthLimit holds "<prefix>.http_bandwidth_limit.".
type BandwidthLimit struct {
	RequestEnabled           Counter   `stat:"request_enabled"`
	RequestEnforced          Counter   `stat:"request_enforced"`
	RequestPending           Gauge     `stat:"request_pending"`
	RequestIncomingSize      Gauge     `stat:"request_incoming_size"`
	RequestIncomingTotal     Counter   `stat:"request_incoming_total_size"`
	RequestAllowedSize       Gauge     `stat:"request_allowed_size"`
	RequestAllowedTotal      Counter   `stat:"request_allowed_total_size"`
	RequestTransferDuration  Histogram `stat:"request_transfer_duration"`
	ResponseEnabled          Counter   `stat:"response_enabled"`
	ResponseEnforced         Counter   `stat:"response_enforced"`
	ResponsePending          Gauge     `stat:"response_pending"`
	ResponseIncomingSize     Gauge     `stat:"response_incoming_size"`
	ResponseIncomingTotal    Counter   `stat:"response_incoming_total_size"`
	ResponseAllowedSize      Gauge     `stat:"response_allowed_size"`
	ResponseAllowedTotal     Counter   `stat:"response_allowed_total_size"`
	ResponseTransferDuration Histogram `stat:"response_transfer_duration"`
}

// AdmissionControl holds "http.<prefix>.admission_control.".
type AdmissionControl struct {
	Rejected Counter `stat:"rq_rejected"`
	Success  Counter `stat:"rq_success"`
	Failure  Counter `stat:"rq_failure"`
}

// Gradient holds "http.<prefix>.adaptive_concurrency.gradient_controller.".
type Gradient struct {
	Blocked          Counter `stat:"rq_blocked"`
	BurstQueueSize   Gauge   `stat:"burst_queue_size"`
	ConcurrencyLimit Gauge   `stat:"concurrency_limit"`
	Gradient         Gauge   `stat:"gradient"` // thousandths
	Measuring        Gauge   `stat:"min_rtt_calculation_active"`
	MinRTT           Gauge   `stat:"min_rtt_msecs"`
	SampleRTT        Gauge   `stat:"sample_rtt_msecs"`
}

// Tap holds "http.<prefix>.tap.".
type Tap struct {
	Tapped  Counter `stat:"rq_tapped"`
	Dropped Counter `stat:"dropped"` // traces that nobody took in time; Envoy has no such thing
}

// CSRF holds "http.<prefix>.csrf.".
type CSRF struct {
	MissingSourceOrigin Counter `stat:"missing_source_origin"`
	RequestInvalid      Counter `stat:"request_invalid"`
	RequestValid        Counter `stat:"request_valid"`
}

// BasicAuth holds "http.<prefix>.basic_auth.".
type BasicAuth struct {
	Allowed Counter `stat:"allowed"`
	Denied  Counter `stat:"denied"`
}

// APIKeyAuth holds "http.<prefix>.api_key_auth.".
type APIKeyAuth struct {
	Allowed      Counter `stat:"allowed"`
	Unauthorized Counter `stat:"unauthorized"`
	Forbidden    Counter `stat:"forbidden"`
}

// StatefulSession holds "http.<prefix>.stateful_session.<filter's prefix>.".
type StatefulSession struct {
	Routed       Counter `stat:"routed"`
	FailedOpen   Counter `stat:"failed_open"`
	FailedClosed Counter `stat:"failed_closed"`
	NoSession    Counter `stat:"no_session"`
}

// Compressor holds "http.<prefix>.compressor.<library>.<coding>.", with "request." or "response." behind it.
type Compressor struct {
	Compressed            Counter `stat:"compressed"`
	NotCompressed         Counter `stat:"not_compressed"`
	UncompressedBytes     Counter `stat:"total_uncompressed_bytes"`
	CompressedBytes       Counter `stat:"total_compressed_bytes"`
	ContentLengthTooSmall Counter `stat:"content_length_too_small"`
}

// CompressorChoice holds "http.<prefix>.compressor.<library>.<coding>.": why clients got what they got.
type CompressorChoice struct {
	CompressorUsed    Counter `stat:"header_compressor_used"`
	Overshadowed      Counter `stat:"header_compressor_overshadowed"`
	Identity          Counter `stat:"header_identity"`
	NotValid          Counter `stat:"header_not_valid"`
	Wildcard          Counter `stat:"header_wildcard"`
	NoAcceptHeader    Counter `stat:"no_accept_header"`
	NotCompressedETag Counter `stat:"not_compressed_etag"`
}

// Decompressor holds "http.<prefix>.decompressor.<library>.<coding>.", with "request." or "response." behind it.
type Decompressor struct {
	Decompressed      Counter `stat:"decompressed"`
	NotDecompressed   Counter `stat:"not_decompressed"`
	UncompressedBytes Counter `stat:"total_uncompressed_bytes"`
	CompressedBytes   Counter `stat:"total_compressed_bytes"`
}

// Gunzip holds "http.<prefix>.decompressor.<library>.gzip.decompressor_library.".
type Gunzip struct {
	DataError Counter `stat:"zlib_data_error"`
}

// Unbrotli holds "http.<prefix>.decompressor.<library>.brotli.decompressor_library.".
type Unbrotli struct {
	Error    Counter `stat:"brotli_error"`
	Overflow Counter `stat:"brotli_output_overflow"`
}

// Unzstd holds "http.<prefix>.decompressor.<library>.zstd.decompressor_library.".
type Unzstd struct {
	Error Counter `stat:"zstd_generic_error"`
}

// Lua holds "http.<prefix>.lua.", with a filter's own prefix behind it if it has one.
type Lua struct {
	Errors     Counter `stat:"errors"`
	Executions Counter `stat:"executions"`
	Own        Made    `stat:""` // that scripts make
}

// LuaVMs holds "lua.".
type LuaVMs struct {
	Count Gauge `stat:"lua_vm_count"`
}

// SetMetadata holds "http.<prefix>.set_metadata.".
type SetMetadata struct {
	OverwriteDenied Counter `stat:"overwrite_denied"`
}

// HeaderToMetadata holds "http_filter_name.<filter's prefix>.".
type HeaderToMetadata struct {
	RequestRulesProcessed   Counter `stat:"request_rules_processed"`
	RequestMetadataAdded    Counter `stat:"request_metadata_added"`
	RequestHeaderNotFound   Counter `stat:"request_header_not_found"`
	ResponseRulesProcessed  Counter `stat:"response_rules_processed"`
	ResponseMetadataAdded   Counter `stat:"response_metadata_added"`
	ResponseHeaderNotFound  Counter `stat:"response_header_not_found"`
	Base64DecodeFailed      Counter `stat:"base64_decode_failed"`
	HeaderValueTooLong      Counter `stat:"header_value_too_long"`
	RegexSubstitutionFailed Counter `stat:"regex_substitution_failed"`
}

// HealthCheck holds "http.<prefix>.health_check.".
type HealthCheck struct {
	RequestTotal           Counter `stat:"request_total"`
	Failed                 Counter `stat:"failed"`
	OK                     Counter `stat:"ok"`
	Degraded               Counter `stat:"degraded"`
	CachedResponse         Counter `stat:"cached_response"`
	FailedClusterNotFound  Counter `stat:"failed_cluster_not_found"`
	FailedClusterEmpty     Counter `stat:"failed_cluster_empty"`
	FailedClusterUnhealthy Counter `stat:"failed_cluster_unhealthy"`
}

// GRPC holds "cluster.<name>.grpc.<service>.<method>.", or "cluster.<name>.grpc." for the methods
// that are not told apart.
type GRPC struct {
	Total                Counter   `stat:"total"`
	Success              Counter   `stat:"success"`
	Failure              Counter   `stat:"failure"`
	RequestMessageCount  Counter   `stat:"request_message_count"`
	ResponseMessageCount Counter   `stat:"response_message_count"`
	UpstreamRqTime       Histogram `stat:"upstream_rq_time"`

	OK                 Counter `stat:"0"`
	Cancelled          Counter `stat:"1"`
	Unknown            Counter `stat:"2"`
	InvalidArgument    Counter `stat:"3"`
	DeadlineExceeded   Counter `stat:"4"`
	NotFound           Counter `stat:"5"`
	AlreadyExists      Counter `stat:"6"`
	PermissionDenied   Counter `stat:"7"`
	ResourceExhausted  Counter `stat:"8"`
	FailedPrecondition Counter `stat:"9"`
	Aborted            Counter `stat:"10"`
	OutOfRange         Counter `stat:"11"`
	Unimplemented      Counter `stat:"12"`
	Internal           Counter `stat:"13"`
	Unavailable        Counter `stat:"14"`
	DataLoss           Counter `stat:"15"`
	Unauthenticated    Counter `stat:"16"`
}

// Code returns the counter of a status, nil for one that gRPC does not have.
func (g *GRPC) Code(status int) *Counter {
	all := [...]*Counter{
		&g.OK, &g.Cancelled, &g.Unknown, &g.InvalidArgument, &g.DeadlineExceeded, &g.NotFound, &g.AlreadyExists, &g.PermissionDenied,
		&g.ResourceExhausted, &g.FailedPrecondition, &g.Aborted, &g.OutOfRange, &g.Unimplemented, &g.Internal, &g.Unavailable, &g.DataLoss, &g.Unauthenticated,
	}
	if status < 0 || status >= len(all) {
		return nil
	}
	return all[status]
}

// Tags of gRPC's methods, as Envoy has them.
const (
	TagGRPCService = "envoy.grpc_bridge_service"
	TagGRPCMethod  = "envoy.grpc_bridge_method"
)

// TagLocalRateLimit is the tag of the local rate limit's prefix, as Envoy has it.
const TagLocalRateLimit = "envoy.local_http_ratelimit_prefix"

// Cors returns the set of "http.<prefix>.cors.".
func (r *Registry) Cors(prefix string) (*Cors, *Scope) {
	s := r.add("http."+prefix+".cors.", "http.cors.", func() any { return new(Cors) }, Tag{TagHTTP, prefix})
	return s.set.Addr().Interface().(*Cors), s
}

// TagDNSCache is the tag of a DNS cache's name, as Envoy has it.
const TagDNSCache = "envoy.dns_cache"

// NameCache returns the set of "dns_cache.<name>.".
func (r *Registry) NameCache(name string) (*NameCache, *Scope) {
	s := r.add("dns_cache."+name+".", "dns_cache.", func() any { return new(NameCache) }, Tag{TagDNSCache, name})
	return s.set.Addr().Interface().(*NameCache), s
}

// LocalRateLimit returns the set of "<prefix>.http_local_rate_limit.".
func (r *Registry) LocalRateLimit(prefix string) (*LocalRateLimit, *Scope) {
	s := r.add(prefix+".http_local_rate_limit.", "http_local_rate_limit.", func() any { return new(LocalRateLimit) }, Tag{TagLocalRateLimit, prefix})
	return s.set.Addr().Interface().(*LocalRateLimit), s
}

// BandwidthLimit returns the set of "<prefix>.http_bandwidth_limit.".
func (r *Registry) BandwidthLimit(prefix string) (*BandwidthLimit, *Scope) {
	return Shared[BandwidthLimit](r, prefix+".http_bandwidth_limit.")
}

// RateLimit returns the set of "cluster.<name>.ratelimit.<prefix>."; the prefix may be empty.
func (r *Registry) RateLimit(cluster, prefix string) (*RateLimit, *Scope) {
	after := "ratelimit."
	if prefix != "" {
		after += prefix + "."
	}
	s := r.add("cluster."+cluster+"."+after, "cluster."+after, func() any { return new(RateLimit) }, Tag{TagCluster, cluster})
	return s.set.Addr().Interface().(*RateLimit), s
}

// AdmissionControl returns the set of "http.<prefix>.admission_control.".
func (r *Registry) AdmissionControl(prefix string) (*AdmissionControl, *Scope) {
	return ofManager[AdmissionControl](r, prefix, "admission_control.")
}

// Gradient returns the set of "http.<prefix>.adaptive_concurrency.gradient_controller.".
func (r *Registry) Gradient(prefix string) (*Gradient, *Scope) {
	return ofManager[Gradient](r, prefix, "adaptive_concurrency.gradient_controller.")
}

// Tap returns the set of "http.<prefix>.tap.".
func (r *Registry) Tap(prefix string) (*Tap, *Scope) { return ofManager[Tap](r, prefix, "tap.") }

// CSRF returns the set of "http.<prefix>.csrf.".
func (r *Registry) CSRF(prefix string) (*CSRF, *Scope) { return ofManager[CSRF](r, prefix, "csrf.") }

// BasicAuth returns the set of "http.<prefix>.basic_auth.".
func (r *Registry) BasicAuth(prefix string) (*BasicAuth, *Scope) {
	return ofManager[BasicAuth](r, prefix, "basic_auth.")
}

// APIKeyAuth returns the set of "http.<prefix>.api_key_auth.".
func (r *Registry) APIKeyAuth(prefix string) (*APIKeyAuth, *Scope) {
	return ofManager[APIKeyAuth](r, prefix, "api_key_auth.")
}

// StatefulSession returns the set of "http.<prefix>.stateful_session.<filter>.".
func (r *Registry) StatefulSession(prefix, filter string) (*StatefulSession, *Scope) {
	return ofManager[StatefulSession](r, prefix, "stateful_session."+filter+".")
}

// Compressor returns the set of "http.<prefix>.compressor.<library>." with its direction behind it.
func (r *Registry) Compressor(prefix, library string) (*Compressor, *Scope) {
	return ofManager[Compressor](r, prefix, "compressor."+library+".")
}

// CompressorChoice returns the set of "http.<prefix>.compressor.<library>.".
func (r *Registry) CompressorChoice(prefix, library string) (*CompressorChoice, *Scope) {
	return ofManager[CompressorChoice](r, prefix, "compressor."+library+".")
}

// Decompressor returns the set of "http.<prefix>.decompressor.<library>." with its direction behind it.
func (r *Registry) Decompressor(prefix, library string) (*Decompressor, *Scope) {
	return ofManager[Decompressor](r, prefix, "decompressor."+library+".")
}

// DecompressorLibrary returns the set of "http.<prefix>.decompressor.<library>.decompressor_library.": T is [Gunzip], [Unbrotli] or [Unzstd].
func DecompressorLibrary[T any](r *Registry, prefix, library string) (*T, *Scope) {
	return ofManager[T](r, prefix, "decompressor."+library+".decompressor_library.")
}

// ofManager returns a set of a filter of a connection manager.
func ofManager[T any](r *Registry, prefix, after string) (*T, *Scope) {
	s := r.add("http."+prefix+"."+after, "http."+after, func() any { return new(T) }, Tag{TagHTTP, prefix})
	return s.set.Addr().Interface().(*T), s
}

// Lua returns the set of "http.<prefix>.lua.<filter>."; the filter's prefix may be empty.
func (r *Registry) Lua(prefix, filter string) (*Lua, *Scope) {
	after := "lua."
	if filter != "" {
		after += filter + "."
	}
	return ofManager[Lua](r, prefix, after)
}

// SetMetadata returns the set of "http.<prefix>.set_metadata.".
func (r *Registry) SetMetadata(prefix string) (*SetMetadata, *Scope) {
	return ofManager[SetMetadata](r, prefix, "set_metadata.")
}

// HeaderToMetadata returns the set of "http_filter_name.<filter>.".
func (r *Registry) HeaderToMetadata(filter string) (*HeaderToMetadata, *Scope) {
	s := r.add("http_filter_name."+filter+".", "http_filter_name."+filter+".", func() any { return new(HeaderToMetadata) })
	return s.set.Addr().Interface().(*HeaderToMetadata), s
}

// HealthCheck returns the set of "http.<prefix>.health_check.".
func (r *Registry) HealthCheck(prefix string) (*HealthCheck, *Scope) {
	s := r.add("http."+prefix+".health_check.", "http.health_check.", func() any { return new(HealthCheck) }, Tag{TagHTTP, prefix})
	return s.set.Addr().Interface().(*HealthCheck), s
}

// GRPC returns the set of a method of a service, or of all that are not told apart if both are empty. The protocol is
// "grpc" or "grpc-web".
func (r *Registry) GRPC(cluster, protocol, service, method string) (*GRPC, *Scope) {
	prefix, tags := "cluster."+cluster+"."+protocol+".", []Tag{{TagCluster, cluster}}
	if service != "" {
		prefix += service + "." + method + "."
		tags = append(tags, Tag{TagGRPCService, service}, Tag{TagGRPCMethod, method})
	}
	s := r.add(prefix, "cluster."+protocol+".", func() any { return new(GRPC) }, tags...)
	return s.set.Addr().Interface().(*GRPC), s
}
