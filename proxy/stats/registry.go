package stats

// A Tag is a part of a name that varies: it is a label in the Prometheus form.
// Name is Envoy's, such as "envoy.cluster_name".
type Tag struct{ Name, Value string }

// Tag names of Envoy.
const (
	TagCluster      = "envoy.cluster_name"
	TagHTTP         = "envoy.http_conn_manager_prefix"
	TagListener     = "envoy.listener_address"
	TagTCP          = "envoy.tcp_prefix"
	TagResponseCode = "envoy.response_code"
	TagCodeClass    = "envoy.response_code_class"
)

// A Registry knows every set of metrics.
type Registry struct{}

// NewRegistry returns an empty registry.
func NewRegistry() *Registry { return &Registry{} }

// A Scope is one registered set. It goes away when its last user closes it.
type Scope struct{}

// Close gives the set back; when the last user has, it is not shown any more.
func (s *Scope) Close() {}

// Cluster returns the set of "cluster.<name>.", made by the first call and shared by later ones.
func (r *Registry) Cluster(name string) (*Cluster, *Scope) { return &Cluster{}, &Scope{} }

// HTTP returns the set of "http.<prefix>.".
func (r *Registry) HTTP(prefix string) (*HTTP, *Scope) { return &HTTP{}, &Scope{} }

// Listener returns the set of "listener.<address>."; address is written as Envoy does ("0.0.0.0_15006").
func (r *Registry) Listener(address string) (*Listener, *Scope) { return &Listener{}, &Scope{} }

// ListenerHTTP returns the set of "listener.<address>.http.<prefix>.".
func (r *Registry) ListenerHTTP(address, prefix string) (*ListenerHTTP, *Scope) {
	return &ListenerHTTP{}, &Scope{}
}

// TCP returns the set of "tcp.<prefix>.".
func (r *Registry) TCP(prefix string) (*TCP, *Scope) { return &TCP{}, &Scope{} }

// Add registers a set of metrics of the caller's own: set points to a struct whose fields
// carry `stat:"name"`. Prefix ends with a dot or is empty.
func (r *Registry) Add(prefix string, set any, tags ...Tag) *Scope { return &Scope{} }
