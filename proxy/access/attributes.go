package access

import (
	"cmp"
	"net/netip"
	"strings"
	"time"

	"github.com/mallamesh/malla/base/pipe"
	"github.com/mallamesh/malla/proxy/cel"
	"github.com/mallamesh/malla/proxy/header"
	"github.com/mallamesh/malla/proxy/metadata"
)

// An Expression is computed from records: one of CEL's over Envoy's attributes.
type Expression struct{ compiled *cel.Expression }

// CompileExpression compiles an expression.
func CompileExpression(text string, o cel.Options) (*Expression, error) {
	e, err := cel.Compile(text, allAttributes, o)
	if err != nil {
		return nil, err
	}
	return &Expression{e}, nil
}

// Holds reports whether the expression is true of a record.
func (e *Expression) Holds(r *Record) bool { return e.compiled.Holds(r.root) }

// AppendText appends the expression's value as %CEL% writes it, and reports whether there is one.
func (e *Expression) AppendText(dst []byte, r *Record) ([]byte, bool) {
	return e.compiled.AppendText(dst, r.root)
}

// celOp compiles CEL(expression) and TYPED_CEL(expression), which is a value of its own kind where it stands alone in JSON.
func celOp(typed bool) func(command) (*op, error) {
	return func(c command) (*op, error) {
		e, err := CompileExpression(c.arg, c.expressions)
		if err != nil {
			return nil, err
		}
		out := &op{length: c.length, write: func(o *op, dst []byte, r *Record) ([]byte, bool) {
			from := len(dst)
			dst, ok := e.AppendText(dst, r)
			return dst[:from+len(o.cut(dst[from:]))], ok
		}}
		if typed {
			out.typed = func(o *op, dst []byte, r *Record) ([]byte, bool) {
				v, ok := e.compiled.JSON(r.root)
				if text, isText := v.(string); isText {
					return appendQuoted(dst, o.cut([]byte(text))), true
				}
				return AppendJSON(dst, v), ok
			}
		}
		return out, nil
	}
}

// A finder finds an attribute in a record, or that there is none.
type finder func(*Record) (cel.Value, bool)

// attributes are those of Envoy whose data a record has, by the name of the object that they belong to.
var attributes = map[string]map[string]finder{
	"request": {
		"headers":       some(func(r *Record) cel.Value { return cel.Headers(r.Request) }),
		"headers_bytes": some(func(r *Record) cel.Value { return cel.Int(int64(headerSize(r.Request))) }),
		"path":          ofRequest(header.Path),
		"host":          ofRequest(header.Authority),
		"scheme":        ofRequest(header.Scheme),
		"method":        ofRequest(header.Method),
		"referer":       ofRequest(header.TokenOfString("referer")),
		"useragent":     ofRequest(header.UserAgent),
		"id":            ofRequest(header.XRequestID),
		"url_path":      ofPath(func(path, _ string) string { return path }),
		"query":         ofPath(func(_, query string) string { return query }),
		"protocol":      text(func(r *Record) string { return r.Protocol.String() }),
		"time":          some(func(r *Record) cel.Value { return cel.Time(r.Start.Truncate(time.Microsecond)) }),
		"size":          requestSize,
		"total_size":    some(func(r *Record) cel.Value { return cel.Int(int64(r.BytesReceived + headerSize(r.Request))) }),
		"duration":      span(func(r *Record) Mark { return r.Ended }, began),
	},
	"response": {
		"code":         positive(func(r *Record) int64 { return int64(r.Code) }),
		"code_details": text(func(r *Record) string { return r.CodeDetails }),
		"size":         some(func(r *Record) cel.Value { return cel.Int(int64(r.BytesSent)) }),
		"total_size": some(func(r *Record) cel.Value {
			return cel.Int(int64(r.BytesSent + headerSize(r.Response) + headerSize(r.Trailers)))
		}),
		"headers":         some(func(r *Record) cel.Value { return cel.Headers(r.Response) }),
		"headers_bytes":   some(func(r *Record) cel.Value { return cel.Int(int64(headerSize(r.Response))) }),
		"trailers":        some(func(r *Record) cel.Value { return cel.Headers(r.Trailers) }),
		"flags":           some(func(r *Record) cel.Value { return cel.Int(int64(r.Flags.Mask())) }),
		"grpc_status":     responseStatus,
		"backend_latency": span(func(r *Record) Mark { return r.ResponseEnd }, func(r *Record) Mark { return r.UpstreamBegin }),
	},
	"source":      endOf(downstreamRemote),
	"destination": endOf(downstreamLocal),
	"connection": withTLS(downstreamTLS, map[string]finder{
		"mtls":                     some(func(r *Record) cel.Value { return cel.Bool(r.Downstream != nil && r.Downstream.Peer != nil) }),
		"requested_server_name":    some(func(r *Record) cel.Value { return cel.String(r.SNI) }),
		"id":                       some(func(r *Record) cel.Value { return cel.Uint(r.ConnectionID) }),
		"termination_details":      text(func(r *Record) string { return r.Termination }),
		"transport_failure_reason": text(func(r *Record) string { return r.LocalFailure }),
	}),
	"upstream": withTLS(upstreamTLS, map[string]finder{
		"address":                  address(upstreamHost),
		"port":                     port(upstreamHost),
		"local_address":            address(upstreamLocal),
		"locality":                 hostLocality,
		"transport_failure_reason": hostFailure,
		"cx_pool_ready_duration":   span(func(r *Record) Mark { return r.Placed }, func(r *Record) Mark { return r.Asked }),
		"request_attempt_count":    some(func(r *Record) cel.Value { return cel.Uint(uint64(r.Attempts)) }),
		"num_endpoints":            clusterSize,
	}),
	"xds": {
		"node":                            node,
		"cluster_name":                    clusterName,
		"cluster_metadata":                clusterMetadata,
		"route_name":                      routed(func(r *Record) cel.Value { return cel.String(r.RouteName) }),
		"route_metadata":                  routed(configuredMetadata(metadata.Route)),
		"virtual_host_name":               hosted(func(r *Record) cel.Value { return cel.String(r.VirtualHost) }),
		"virtual_host_metadata":           hosted(configuredMetadata(metadata.VirtualHost)),
		"upstream_host_metadata":          chosen(hostMetadata(metadata.Host)),
		"upstream_host_locality_metadata": chosen(hostMetadata(metadata.Locality)),
		"filter_chain_name":               some(func(r *Record) cel.Value { return cel.String(r.FilterChain) }),
		"listener_metadata":               some(configuredMetadata(metadata.Listener)),
		"listener_direction":              some(func(r *Record) cel.Value { return cel.Int(int64(r.Direction)) }),
	},
}

// What stands below some attributes.
var (
	metadataNames = cel.Names{"filter_metadata": nil, "typed_filter_metadata": nil}
	localityNames = cel.Names{"region": nil, "zone": nil, "sub_zone": nil}
	allAttributes = func() cel.Names {
		all := cel.Names{"metadata": metadataNames, "filter_state": nil, "upstream_filter_state": nil}
		for object, list := range attributes {
			all[object] = cel.Names{}
			for name := range list {
				all[object][name] = nil
				if strings.HasSuffix(name, "_metadata") {
					all[object][name] = metadataNames
				}
			}
		}
		all["upstream"]["locality"] = localityNames
		all["xds"]["node"] = cel.Names{"id": nil, "cluster": nil, "metadata": nil, "locality": localityNames, "user_agent_name": nil}
		return all
	}()
)

// root finds an object of attributes.
func (r *Record) root(name string) (cel.Value, bool) {
	switch name {
	case "metadata":
		return cel.Metadata(r.Dynamic.All(), r.Dynamic.Messages()), true
	case "filter_state":
		return stateObject(&r.State), true
	case "upstream_filter_state":
		if r.UpstreamState == nil && r.UpstreamConnID == 0 {
			return nil, false
		}
		return stateObject(r.UpstreamState), true
	}
	list, ok := attributes[name]
	if !ok {
		return nil, false
	}
	return cel.Object(func(name string) (cel.Value, bool) {
		if find := list[name]; find != nil {
			return find(r)
		}
		return nil, false
	}), true
}

// some is an attribute that there always is.
func some(of func(*Record) cel.Value) finder {
	return func(r *Record) (cel.Value, bool) { return of(r), true }
}

// text is an attribute that there is unless it is empty.
func text(of func(*Record) string) finder {
	return func(r *Record) (cel.Value, bool) {
		s := of(r)
		return cel.String(s), s != ""
	}
}

// positive is an attribute that there is unless it is 0.
func positive(of func(*Record) int64) finder {
	return func(r *Record) (cel.Value, bool) {
		n := of(r)
		return cel.Int(n), n > 0
	}
}

// span is the time between two marks, if both have come.
func span(to, from func(*Record) Mark) finder {
	return func(r *Record) (cel.Value, bool) {
		d, ok := to(r).Sub(from(r))
		return cel.Duration(d), ok
	}
}

func ofRequest(t header.Token) finder {
	return func(r *Record) (cel.Value, bool) {
		if r.Request == nil || !r.Request.Has(t) {
			return nil, false
		}
		return cel.String(string(r.Request.Get(t))), true
	}
}

// ofPath is a part of the path: before the question mark, or after it.
func ofPath(part func(path, query string) string) finder {
	return func(r *Record) (cel.Value, bool) {
		if r.Request == nil {
			return nil, false
		}
		path, query, _ := strings.Cut(string(r.Request.Get(header.Path)), "?")
		query, _, _ = strings.Cut(query, "#")
		return cel.String(part(path, query)), true
	}
}

// requestSize is what the request says of its length, else what has come.
func requestSize(r *Record) (cel.Value, bool) {
	if r.Request != nil && r.Request.Has(header.ContentLength) {
		n, ok := atoi64(r.Request.Get(header.ContentLength))
		return cel.Int(n), ok
	}
	return cel.Int(int64(r.BytesReceived)), true
}

func responseStatus(r *Record) (cel.Value, bool) {
	n, ok := StatusOf(r)
	return cel.Int(int64(n)), ok
}

// endOf are the attributes of one end of the client's connection.
func endOf(of func(*Record) netip.AddrPort) map[string]finder {
	return map[string]finder{"address": address(of), "port": port(of)}
}

func address(of func(*Record) netip.AddrPort) finder {
	return func(r *Record) (cel.Value, bool) {
		a := of(r)
		if !a.IsValid() {
			return nil, false
		}
		return cel.String(string(appendAddress(nil, a, withPort))), true
	}
}

func port(of func(*Record) netip.AddrPort) finder {
	return func(r *Record) (cel.Value, bool) {
		a := of(r)
		if _, isPath := pipe.Path(a); isPath || !a.IsValid() {
			return nil, false
		}
		return cel.Int(int64(a.Port())), true
	}
}

func upstreamHost(r *Record) netip.AddrPort { return r.UpstreamHost }

// withTLS adds what an end of a TLS connection knows of the other.
func withTLS(of func(*Record) *TLS, list map[string]finder) map[string]finder {
	always := func(fact func(*TLS) string) finder {
		return func(r *Record) (cel.Value, bool) {
			t := of(r)
			if t == nil {
				return nil, false
			}
			return cel.String(fact(t)), true
		}
	}
	first := func(fact func(*TLS) string) finder {
		return func(r *Record) (cel.Value, bool) {
			t := of(r)
			if t == nil {
				return nil, false
			}
			name, _, _ := strings.Cut(fact(t), ",")
			return cel.String(name), name != ""
		}
	}
	list["tls_version"] = always(tlsVersion)
	list["subject_local_certificate"], list["subject_peer_certificate"] = always(local(subject)), always(peer(subject))
	list["uri_san_local_certificate"], list["uri_san_peer_certificate"] = first(local(uriSANs)), first(peer(uriSANs))
	list["dns_san_local_certificate"], list["dns_san_peer_certificate"] = first(local(dnsSANs)), first(peer(dnsSANs))
	list["sha256_peer_certificate_digest"] = first(peer(fingerprint256))
	return list
}

func hostLocality(r *Record) (cel.Value, bool) {
	if r.Locality == nil {
		return nil, false
	}
	return r.Locality.message(), true
}

func hostFailure(r *Record) (cel.Value, bool) {
	return cel.String(r.UpstreamFailure), r.Attempts > 0 || r.UpstreamHost.IsValid()
}

// A Locality is where something runs.
type Locality struct{ Region, Zone, SubZone string }

// Compare orders localities as Envoy does.
func (l Locality) Compare(o Locality) int {
	return cmp.Or(cmp.Compare(l.Region, o.Region), cmp.Compare(l.Zone, o.Zone), cmp.Compare(l.SubZone, o.SubZone))
}

func (l *Locality) message() cel.Message {
	return cel.Message{{Name: "region", Value: l.Region}, {Name: "zone", Value: l.Zone}, {Name: "sub_zone", Value: l.SubZone}}
}

// A Node is what the proxy is called.
type Node struct {
	ID, Cluster, Agent string
	Locality           *Locality // nil: not said
	Metadata           metadata.Struct
}

func node(r *Record) (cel.Value, bool) {
	if r.World == nil {
		return nil, false
	}
	n := r.World.Node()
	if n == nil {
		return nil, false
	}
	var place cel.Message
	if n.Locality != nil {
		place = n.Locality.message()
	}
	return cel.Message{{Name: "id", Value: n.ID}, {Name: "cluster", Value: n.Cluster}, {Name: "metadata", Value: n.Metadata},
		{Name: "locality", Value: place}, {Name: "user_agent_name", Value: n.Agent}}, true
}

// knownCluster returns the name of the cluster that the stream goes to, if there is such a one, and how many hosts it has.
func (r *Record) knownCluster() (name string, hosts int, ok bool) {
	name = rawCluster(r)
	if name == "" || r.World == nil {
		return name, 0, false
	}
	hosts, ok = r.World.ClusterSize(name)
	return name, hosts, ok
}

func clusterName(r *Record) (cel.Value, bool) {
	name, _, ok := r.knownCluster()
	return cel.String(name), ok
}

func clusterSize(r *Record) (cel.Value, bool) {
	_, n, ok := r.knownCluster()
	return cel.Uint(uint64(n)), ok
}

func clusterMetadata(r *Record) (cel.Value, bool) {
	_, _, ok := r.knownCluster()
	if !ok {
		return nil, false
	}
	return cel.Metadata(r.ClusterMetadata().All(), r.ClusterMetadata().Messages()), true
}

func configuredMetadata(k metadata.Kind) func(*Record) cel.Value {
	return func(r *Record) cel.Value { return cel.Metadata(r.Configured[k].All(), r.Configured[k].Messages()) }
}

// hostMetadata is that of a host, or of where it is: null where nothing is said.
func hostMetadata(k metadata.Kind) func(*Record) cel.Value {
	return func(r *Record) cel.Value {
		if r.Configured[k] == nil {
			return cel.Null
		}
		return cel.Metadata(r.Configured[k].All(), r.Configured[k].Messages())
	}
}

// routed is an attribute of requests that have a route.
func routed(of func(*Record) cel.Value) finder {
	return func(r *Record) (cel.Value, bool) {
		if !r.Routed {
			return nil, false
		}
		return of(r), true
	}
}

// hosted is an attribute of requests that have a virtual host, be there a route in it or not.
func hosted(of func(*Record) cel.Value) finder {
	return func(r *Record) (cel.Value, bool) {
		if r.VirtualHost == "" {
			return nil, false
		}
		return of(r), true
	}
}

// chosen is an attribute of streams that have a host.
func chosen(of func(*Record) cel.Value) finder {
	return func(r *Record) (cel.Value, bool) {
		if !r.UpstreamHost.IsValid() {
			return nil, false
		}
		return of(r), true
	}
}

// stateObject has what filters said by name: bytes, or an object with fields.
func stateObject(s *State) cel.Value {
	return cel.Object(func(key string) (cel.Value, bool) {
		if s == nil {
			return nil, false
		}
		if s.hasFields(key) {
			return cel.Object(func(field string) (cel.Value, bool) {
				text, ok := s.Field(key, field)
				return cel.String(string(text)), ok
			}), true
		}
		v, ok := s.Get(key)
		return cel.Bytes(v), ok
	})
}

func atoi64(b []byte) (n int64, ok bool) {
	for _, c := range b {
		if c < '0' || c > '9' || n > (1<<63-10)/10 {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, len(b) > 0
}
