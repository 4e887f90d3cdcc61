package foreign

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	originaldstv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/original_dst/v3"
	proxyprotocolv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/proxy_protocol/v3"
	sniforwardv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/sni_dynamic_forward_proxy/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/mallamesh/malla/model"
	"github.com/mallamesh/malla/translate"
)

// What a proxy of a story gets is moved to this machine by as little as can be: listeners that are asked are opened on ports of
// their own, others that would be opened are left out, and endpoints are servers here. A connection that would be captured says by
// a PROXY header where it came from and where it was going to; what follows from that is the proxy's own doing.

// wherever stands for the host that a client has dialled, where a proxy goes there whatever it is.
const wherever = "anywhere"

// application is what stands for the workload's own program, where it is called at the address that its clients have called.
const application = "the application"

// names are translate's, without the listeners that are opened for nothing.
func (p *play) names(v *model.View, typeURL string) []string {
	names := translate.Names(p.views[side(v.Proxy.Stock)], typeURL)
	if typeURL != translate.ListenerType {
		return names
	}
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool { _, ok := p.resource(v, typeURL, name); return !ok })
}

// resource is what a proxy of the story gets, moved to this machine.
func (p *play) resource(v *model.View, typeURL, name string) (proto.Message, bool) {
	at := side(v.Proxy.Stock)
	m, ok := translate.Resource(p.views[at], typeURL, name)
	if !ok {
		return nil, false
	}
	m = proto.Clone(m)
	switch m := m.(type) {
	case *listenerv3.Listener:
		port := p.listeners[name][at]
		switch {
		case port != 0:
			m.Address, m.BindToPort, m.AdditionalAddresses = here(uint32(port)), nil, nil
			p.moveForwarders(at, m)
			if name == outbound || name == inbound {
				announce(m)
			}
		case m.BindToPort == nil || m.BindToPort.Value, p.listeners[outbound][at] == 0:
			return nil, false
		}
	case *clusterv3.Cluster:
		p.moveCluster(at, m)
	case *endpointv3.ClusterLoadAssignment:
		p.move(at, m)
	case *tlsv3.Secret:
		p.moveFiles(m)
	}
	p.inTLS(m, func(s *tlsv3.SdsSecretConfig) {
		if _, ok := translate.Secret(p.views[at], s.Name); !ok && s.Name != "default" && s.Name != "ROOTCA" && s.Name != systemRoots {
			s.SdsConfig.InitialFetchTimeout = durationpb.New(100 * time.Millisecond) // it will not come
		}
	})
	return m, true
}

// inTLS calls f for every secret that the transport sockets of a resource name.
func (p *play) inTLS(m proto.Message, f func(*tlsv3.SdsSecretConfig)) {
	inside := func(t *corev3.TransportSocket) {
		any := t.GetTypedConfig()
		if any == nil {
			return
		}
		config, err := any.UnmarshalNew()
		if err != nil {
			p.t.Fatal(err)
		}
		c, ok := config.(interface {
			GetCommonTlsContext() *tlsv3.CommonTlsContext
		})
		if !ok {
			return
		}
		common := c.GetCommonTlsContext()
		all := append(common.GetTlsCertificateSdsSecretConfigs(), common.GetValidationContextSdsSecretConfig(), common.GetCombinedValidationContext().GetValidationContextSdsSecretConfig())
		for _, s := range all {
			if s != nil {
				f(s)
			}
		}
		if err := any.MarshalFrom(config); err != nil {
			p.t.Fatal(err)
		}
	}
	switch m := m.(type) {
	case *listenerv3.Listener:
		for _, c := range m.FilterChains {
			inside(c.TransportSocket)
		}
	case *clusterv3.Cluster:
		inside(m.TransportSocket)
		for _, match := range m.TransportSocketMatches {
			inside(match.TransportSocket)
		}
	}
}

// moveForwarders has those filters that look up the host which a TLS client names go to the port of a server here: any:443
// stands for port 443 of whoever it is.
func (p *play) moveForwarders(at int, l *listenerv3.Listener) {
	for _, c := range l.FilterChains {
		for _, f := range c.Filters {
			config, err := f.GetTypedConfig().UnmarshalNew()
			if err != nil {
				p.t.Fatal(err)
			}
			if forward, ok := config.(*sniforwardv3.FilterConfig); ok {
				forward.PortSpecifier = &sniforwardv3.FilterConfig_PortValue{PortValue: p.server(at, fmt.Sprintf("any:%d", forward.GetPortValue())).port}
				if err := f.GetTypedConfig().MarshalFrom(forward); err != nil {
					p.t.Fatal(err)
				}
			}
		}
	}
}

func here(port uint32) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{Address: "127.0.0.1", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port}}}}
}

// announce makes a listener of what is captured one of connections that begin with a PROXY header.
func announce(l *listenerv3.Listener) {
	filter := func(name string, config proto.Message) *listenerv3.ListenerFilter {
		packed, err := anypb.New(config)
		if err != nil {
			panic(err)
		}
		return &listenerv3.ListenerFilter{Name: "envoy.filters.listener." + name, ConfigType: &listenerv3.ListenerFilter_TypedConfig{TypedConfig: packed}}
	}
	first := slices.DeleteFunc(l.ListenerFilters, func(f *listenerv3.ListenerFilter) bool { return f.Name == "envoy.filters.listener.original_dst" })
	l.ListenerFilters = append([]*listenerv3.ListenerFilter{
		filter("original_dst", &originaldstv3.OriginalDst{}), filter("proxy_protocol", &proxyprotocolv3.ProxyProtocol{})}, first...)
}

func (p *play) moveCluster(at int, c *clusterv3.Cluster) {
	if p.who == nil {
		c.TransportSocketMatches, c.TransportSocket = nil, nil
	}
	switch {
	case strings.HasPrefix(c.Name, "inbound|") && c.LoadAssignment == nil:
		p.static(at, c, application)
	case c.GetType() == clusterv3.Cluster_ORIGINAL_DST && p.listeners[outbound][at]+p.listeners[inbound][at] != 0:
		name := wherever
		if by, ok := strings.CutPrefix(c.Name, "outbound|"); ok {
			name += " of " + by[strings.LastIndex(by, "|")+1:]
		}
		p.static(at, c, name)
	case c.LoadAssignment != nil:
		p.move(at, c.LoadAssignment)
		c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC}
	}
}

// static makes a cluster of what a client has dialled one of a server here.
func (p *play) static(at int, c *clusterv3.Cluster, name string) {
	c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC}
	c.UpstreamBindConfig, c.LbPolicy, c.LbConfig = nil, clusterv3.Cluster_ROUND_ROBIN, nil
	c.LoadAssignment = &endpointv3.ClusterLoadAssignment{ClusterName: c.Name, Endpoints: []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{{
		HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: here(p.server(at, name).port)}}}}}}}
}

// move puts a server in the place of each endpoint. Hashes are made of the address that it stands for.
func (p *play) move(at int, a *endpointv3.ClusterLoadAssignment) {
	for _, l := range a.Endpoints {
		for _, e := range l.LbEndpoints {
			was := e.GetEndpoint().GetAddress()
			name := was.GetPipe().GetPath()
			if s := was.GetSocketAddress(); s != nil {
				name = net.JoinHostPort(s.GetAddress(), strconv.Itoa(int(s.GetPortValue())))
			}
			e.GetEndpoint().Address = here(p.server(at, name).port)
			if e.Metadata == nil {
				e.Metadata = &corev3.Metadata{}
			}
			if e.Metadata.FilterMetadata == nil {
				e.Metadata.FilterMetadata = map[string]*structpb.Struct{}
			}
			if lb := e.Metadata.FilterMetadata["envoy.lb"]; lb == nil {
				e.Metadata.FilterMetadata["envoy.lb"] = &structpb.Struct{Fields: map[string]*structpb.Value{}}
			}
			e.Metadata.FilterMetadata["envoy.lb"].Fields["hash_key"] = structpb.NewStringValue(name)
		}
	}
}

// machine is the file with the roots of the machine that a story's proxies run on, where it says which.
const machine = "system"

// files writes the files that proxies of the story have. Lines say what is in them:
//
//	/c/cert.pem cert client partners   the certificate of client that partners have signed
//	/c/key.pem key client partners     and its key
//	/c/ca.pem cert partners
//	/c/crl.pem crl partners            what they have revoked
//	system cert partners               whom the machine trusts
func (p *play) files() {
	for _, f := range p.archive.Files {
		if f.Name != "files" {
			continue
		}
		p.root = p.t.TempDir()
		for line := range strings.Lines(string(f.Data)) {
			words := strings.Fields(line)
			if len(words) < 3 {
				p.t.Fatalf("files: %q: want a name, what it is, whose, and who has signed it", line)
			}
			c := p.issue(words[2], words[len(words)-1])
			content := map[string][]byte{"cert": c.CertPEM(), "key": c.KeyPEM(), "crl": c.CRL}[words[1]]
			at := filepath.Join(p.root, words[0])
			if err := os.MkdirAll(filepath.Dir(at), 0o700); err != nil {
				p.t.Fatal(err)
			}
			if err := os.WriteFile(at, content, 0o600); err != nil {
				p.t.Fatal(err)
			}
		}
	}
}

func (p *play) moveFiles(s *tlsv3.Secret) {
	c, v := s.GetTlsCertificate(), s.GetValidationContext()
	for _, d := range []*corev3.DataSource{c.GetCertificateChain(), c.GetPrivateKey(), v.GetTrustedCa(), v.GetCrl()} {
		if name := d.GetFilename(); name != "" {
			d.Specifier = &corev3.DataSource_Filename{Filename: filepath.Join(p.root, name)}
		}
	}
	for _, d := range []*corev3.WatchedDirectory{c.GetWatchedDirectory(), v.GetWatchedDirectory()} {
		if d != nil {
			d.Path = filepath.Join(p.root, d.Path)
		}
	}
}
