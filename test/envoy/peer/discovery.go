package peer

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"

	_ "github.com/mallamesh/malla/proxy/build" // knows the messages that files may hold
)

// A discoverer is a control plane: it offers what a file in the workspace holds, by the
// incremental form of the protocol.
//
// The file is a DeltaDiscoveryResponse. The first request for a type without names is
// answered with what the file holds of the type with a version that begins with "all";
// a request by name with that resource, or with one that holds nothing; configurations of filters are removed then.
type discoverer struct {
	discovery.UnimplementedAggregatedDiscoveryServiceServer
	u *Upstream
}

// discovery serves one connection.
func (u *Upstream) discovery(c net.Conn) {
	l := &oneConn{conn: c, ended: make(chan struct{})}
	server := grpc.NewServer()
	discovery.RegisterAggregatedDiscoveryServiceServer(server, &discoverer{u: u})
	_ = server.Serve(l)
	server.Stop()
}

// DeltaAggregatedResources answers until the proxy goes.
func (d *discoverer) DeltaAggregatedResources(stream discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	nonce, began := 0, map[string]bool{}
	for {
		q, err := stream.Recv()
		if err != nil {
			return nil // gone
		}
		short := q.GetTypeUrl()[strings.LastIndexByte(q.GetTypeUrl(), '.')+1:]
		if e := q.GetErrorDetail(); e != nil {
			d.u.note(short + " refused")
		}
		if slices.Contains(split(d.u.script.Attrs["note"]), short) {
			for _, name := range q.GetResourceNamesSubscribe() {
				d.u.note(short + " wanted: " + name)
			}
		}
		first := !began[q.GetTypeUrl()]
		began[q.GetTypeUrl()] = true
		if !first && len(q.GetResourceNamesSubscribe()) == 0 {
			continue // it takes note, or wants less
		}
		answer, err := d.answer(q)
		if err != nil {
			return err
		}
		nonce++
		answer.Nonce = fmt.Sprint(nonce)
		if err := stream.Send(answer); err != nil {
			return err
		}
	}
}

func (d *discoverer) answer(q *discovery.DeltaDiscoveryRequest) (*discovery.DeltaDiscoveryResponse, error) {
	text, err := os.ReadFile(filepath.Join(d.u.dir, d.u.script.Attrs["file"]))
	if err != nil {
		return nil, err
	}
	var offer discovery.DeltaDiscoveryResponse
	if err := protojson.Unmarshal(text, &offer); err != nil {
		return nil, fmt.Errorf("%s: %w", d.u.script.Attrs["file"], err)
	}
	out := &discovery.DeltaDiscoveryResponse{TypeUrl: q.GetTypeUrl()}
	found := func(fits func(*discovery.Resource) bool) (any bool) {
		for _, r := range offer.GetResources() {
			if r.GetResource().GetTypeUrl() == q.GetTypeUrl() && fits(r) {
				out.Resources = append(out.Resources, r)
				any = true
			}
		}
		return any
	}
	if len(q.GetResourceNamesSubscribe()) == 0 {
		found(func(r *discovery.Resource) bool { return strings.HasPrefix(r.GetVersion(), "all") })
	}
	for _, name := range q.GetResourceNamesSubscribe() {
		if !found(func(r *discovery.Resource) bool { return r.GetName() == name || slices.Contains(r.GetAliases(), name) }) {
			if q.GetTypeUrl() == extension { // "there is nothing by this alias" is for virtual hosts
				out.RemovedResources = append(out.RemovedResources, name)
				continue
			}
			out.Resources = append(out.Resources, &discovery.Resource{Name: name, Version: "none", Aliases: []string{name}})
		}
	}
	return out, nil
}

const extension = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"

// oneConn is a listener with one connection.
type oneConn struct {
	conn  net.Conn
	given bool
	ended chan struct{}
}

func (l *oneConn) Accept() (net.Conn, error) {
	if !l.given {
		l.given = true
		return &told{Conn: l.conn, ended: l.ended}, nil
	}
	<-l.ended
	return nil, net.ErrClosed
}

func (l *oneConn) Close() error   { return nil }
func (l *oneConn) Addr() net.Addr { return l.conn.LocalAddr() }

// told is a connection whose end somebody waits for.
type told struct {
	net.Conn
	ended chan struct{}
	once  bool
}

func (c *told) Close() error {
	if !c.once {
		c.once = true
		close(c.ended)
	}
	return c.Conn.Close()
}
