package xds

import (
	"strconv"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
)

// deltaWire speaks the incremental form.
type deltaWire struct {
	send func(*discovery.DeltaDiscoveryResponse) error
}

func (*deltaWire) node(r *discovery.DeltaDiscoveryRequest) *corev3.Node { return r.GetNode() }
func (*deltaWire) typeURL(r *discovery.DeltaDiscoveryRequest) string    { return r.GetTypeUrl() }

func (*deltaWire) trouble(r *discovery.DeltaDiscoveryRequest) *rpcstatus.Status {
	return r.GetErrorDetail()
}

func (*deltaWire) names(r *discovery.DeltaDiscoveryRequest, f func(string)) {
	for _, name := range r.GetResourceNamesSubscribe() {
		f(name)
	}
	for name := range r.GetInitialResourceVersions() {
		f(name)
	}
}

func (*deltaWire) answer(w *watch, r *discovery.DeltaDiscoveryRequest, now time.Time) bool {
	if r.GetResponseNonce() == "" {
		return false
	}
	return w.answered(r.GetResponseNonce(), r.GetErrorDetail().GetMessage(), now) && r.GetErrorDetail().GetMessage() != ""
}

func (*deltaWire) subscribe(w *watch, r *discovery.DeltaDiscoveryRequest) bool { return w.subscribe(r) }

func (d *deltaWire) respond(w *watch, r Resources, nonce string, always bool) func() error {
	c := w.diff(r)
	if c.empty() && !always {
		return nil
	}
	w.sent(nonce, c.names())
	out := &discovery.DeltaDiscoveryResponse{
		SystemVersionInfo: strconv.FormatUint(r.Generation(), 10), // marks the end of a generation for our own proxies
		TypeUrl:           w.typeURL,
		Resources:         c.resources,
		RemovedResources:  c.removed,
		Nonce:             nonce,
	}
	return func() error { return d.send(out) }
}

// sotwWire speaks the state-of-the-world form.
type sotwWire struct {
	send func(*discovery.DiscoveryResponse) error
}

func (*sotwWire) node(r *discovery.DiscoveryRequest) *corev3.Node { return r.GetNode() }
func (*sotwWire) typeURL(r *discovery.DiscoveryRequest) string    { return r.GetTypeUrl() }

func (*sotwWire) trouble(r *discovery.DiscoveryRequest) *rpcstatus.Status { return r.GetErrorDetail() }

func (*sotwWire) names(r *discovery.DiscoveryRequest, f func(string)) {
	for _, name := range r.GetResourceNames() {
		f(name)
	}
}

func (*sotwWire) answer(w *watch, r *discovery.DiscoveryRequest, now time.Time) bool {
	if r.GetResponseNonce() == "" {
		return false
	}
	return w.answered(r.GetResponseNonce(), r.GetErrorDetail().GetMessage(), now) && r.GetErrorDetail().GetMessage() != ""
}

func (*sotwWire) subscribe(w *watch, r *discovery.DiscoveryRequest) bool {
	return w.ask(r.GetResourceNames())
}

// respond sends all clusters and listeners when one of them changed, because
// there a missing one is a removed one; of the other types what changed.
func (s *sotwWire) respond(w *watch, r Resources, nonce string, always bool) func() error {
	c := w.diff(r)
	if c.empty() && !always {
		return nil
	}
	out := &discovery.DiscoveryResponse{VersionInfo: strconv.FormatUint(r.Generation(), 10), TypeUrl: w.typeURL, Nonce: nonce}
	sent := w.sent
	if wildcardByDefault(w.typeURL) {
		out.Resources = w.all(r)
		sent = w.sentAll
	} else {
		if len(c.resources) == 0 {
			return nil // this form cannot say that a resource is gone
		}
		for _, res := range c.resources {
			out.Resources = append(out.Resources, res.GetResource())
		}
	}
	sent(nonce, c.names())
	return func() error { return s.send(out) }
}
