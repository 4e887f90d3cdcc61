package xds

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mallamesh/malla/model"
	"github.com/mallamesh/malla/pki"
)

// Translation makes resources from a view: package translate's functions.
type Translation struct {
	Names    func(v *model.View, typeURL string) []string
	Resource func(v *model.View, typeURL, name string) (proto.Message, bool)
	// Own reports whether what the proxy gets may be other than what its equals get; nil is no.
	Own func(v *model.View) bool
}

// A Mesh is the [Source] that translates the newest model.Mesh, by name, when
// somebody asks. What equal proxies see (replicas of one workload) is translated
// once for each generation.
type Mesh struct {
	// Registry, if it is set, registers workloads by their proxies. It is set before the first stream.
	Registry    Registry
	translation Translation
	now         atomic.Pointer[generation]
}

// A Registry registers workloads by their proxies.
type Registry interface {
	// Join registers the workload of a proxy, of which it may change the labels, if that registers itself: else the membership is nil.
	Join(*model.Proxy) (Membership, error)
}

// A Membership is what [Member] is told.
type Membership interface {
	Health(trouble string)
	Leave()
}

// generation is one mesh and what was translated of it so far.
type generation struct {
	mesh *model.Mesh
	born time.Time
	made sync.Map // key -> *made
	kept sync.Map // identity -> *atomic.Int64: bytes in made of what its proxies asked for
}

// maxKept bounds what is kept in one generation for the proxies of one identity. What a proxy says of itself
// decides its class, and what it asks for need not exist: without a bound, a workload in somebody else's
// hands could have us keep the mesh once for every stream that it opens. Beyond it, resources are
// translated each time that they are asked for.
const maxKept = 1 << 30

// keptCost is what an entry takes beside its name and its resource.
const keptCost = 256

// keep takes n bytes of what may be kept for an identity, and reports whether there was room.
func (g *generation) keep(who string, n int) bool {
	kept, ok := g.kept.Load(who)
	if !ok {
		kept, _ = g.kept.LoadOrStore(who, new(atomic.Int64))
	}
	c := kept.(*atomic.Int64)
	if c.Load()+int64(n) > maxKept {
		return false
	}
	c.Add(int64(n))
	return true
}

// key names a resource as one class of equal proxies sees it.
type key struct{ class, typeURL, name string }

type made struct {
	once sync.Once
	res  Resource
	ok   bool
}

// NewMesh returns a source that serves m.
func NewMesh(t Translation, m *model.Mesh, born time.Time) *Mesh {
	s := &Mesh{translation: t}
	s.Set(m, born)
	return s
}

// Set makes m the newest mesh; born is when the event behind it was seen. Tell
// the server with Changed.
func (s *Mesh) Set(m *model.Mesh, born time.Time) { s.now.Store(&generation{mesh: m, born: born}) }

// Mesh returns the newest mesh.
func (s *Mesh) Mesh() *model.Mesh { return s.now.Load().mesh }

// Open implements Source.
func (s *Mesh) Open(node *corev3.Node, caller pki.ID) (Proxy, error) {
	p, err := ParseNode(node, caller)
	if err != nil {
		return nil, err
	}
	if s.Registry == nil {
		return s.For(p), nil
	}
	m, err := s.Registry.Join(p)
	if err != nil || m == nil {
		return s.For(p), err
	}
	return &member{s.For(p).(*meshProxy), m}, nil
}

// member is a proxy whose workload is registered by it.
type member struct {
	*meshProxy
	Membership
}

// For returns the resources of a proxy that is not connected, for dumps.
func (s *Mesh) For(p *model.Proxy) Proxy {
	return &meshProxy{source: s, proxy: p, class: class(p), own: class(p, p.ID)}
}

// meshProxy is one proxy of a Mesh.
type meshProxy struct {
	source *Mesh
	proxy  *model.Proxy
	class  string // of what equal proxies share
	own    string // of what they do not
	view   atomic.Pointer[meshView]
}

func (p *meshProxy) of() *model.Proxy { return p.proxy }

// Resources implements Proxy.
func (p *meshProxy) Resources() Resources {
	g := p.source.now.Load()
	if v := p.view.Load(); v != nil && v.generation == g {
		return v
	}
	v := &meshView{generation: g, class: p.class, own: p.own, translation: p.source.translation, view: model.NewView(p.proxy, g.mesh)}
	p.view.Store(v)
	return v
}

// meshView is one generation as one proxy sees it.
type meshView struct {
	generation  *generation
	class, own  string
	translation Translation
	view        *model.View
}

func (v *meshView) Generation() uint64            { return v.generation.mesh.Generation }
func (v *meshView) Born() time.Time               { return v.generation.born }
func (v *meshView) Names(typeURL string) []string { return v.translation.Names(v.view, typeURL) }

func (v *meshView) Resource(typeURL, name string) (Resource, bool) {
	k := key{v.class, typeURL, name}
	if inbound(name) || v.translation.Own != nil && v.translation.Own(v.view) { // made from the pod's own addresses and ports, or name
		k.class = v.own
	}
	g, p := v.generation, v.view.Proxy
	who := p.Namespace + "/" + p.ServiceAccount
	entry, ok := g.made.Load(k)
	if !ok {
		if !g.keep(who, keptCost+len(name)) {
			return v.translate(typeURL, name)
		}
		entry, _ = g.made.LoadOrStore(k, &made{})
	}
	m := entry.(*made)
	m.once.Do(func() {
		m.res, m.ok = v.translate(typeURL, name)
		g.keep(who, len(m.res.Body.GetValue()))
	})
	return m.res, m.ok
}

func (v *meshView) translate(typeURL, name string) (Resource, bool) {
	message, ok := v.translation.Resource(v.view, typeURL, name)
	if !ok {
		return Resource{}, false
	}
	return pack(message), true
}

// inbound reports whether a resource is about what a proxy's own pod receives.
func inbound(name string) bool {
	return name == "virtualInbound" || strings.HasPrefix(name, "inbound|") || strings.Contains(name, "/inbound/")
}

// pack makes the wire form of a message and its version from its bytes, so
// that equal contents have equal versions in every process.
func pack(m proto.Message) Resource {
	body, packed := m.(*anypb.Any)
	if packed {
		return Resource{Body: body, Version: version(body)}
	}
	body = &anypb.Any{}
	if err := anypb.MarshalFrom(body, m, proto.MarshalOptions{Deterministic: true}); err != nil {
		panic(fmt.Sprintf("xds: translation made a %T that does not marshal: %v", m, err)) // invalid UTF-8 is refused at the door
	}
	return Resource{Body: body, Version: version(body)}
}

func version(body *anypb.Any) string {
	sum := sha256.Sum256(body.GetValue())
	return hex.EncodeToString(sum[:8])
}

// class returns what a translation may depend on; proxies of one class see the
// same. Names and addresses stay out for a workload's replicas, but for the
// address families and the node. Every part stands behind its length, so that no
// two proxies that differ are of one class, whatever is written in their labels.
func class(p *model.Proxy, more ...string) string {
	var b []byte
	part := func(text string) {
		b = strconv.AppendInt(b, int64(len(text)), 10)
		b = append(b, ':')
		b = append(b, text...)
	}
	pairs := func(m map[string]string, but map[string]bool) {
		for _, k := range slices.Sorted(maps.Keys(m)) {
			if !but[k] {
				part(k)
				part(m[k])
			}
		}
		b = append(b, ';')
	}
	families := ""
	for _, a := range p.IPs {
		if a.Is4() {
			families += "4"
		} else {
			families += "6"
		}
	}
	for _, text := range []string{string(p.Type), p.Namespace, p.ServiceAccount, p.TrustDomain, p.Locality, p.Probe, families, strconv.FormatBool(p.Stock), strconv.FormatBool(p.Proven)} {
		part(text)
	}
	if p.Settings != nil {
		text, err := json.Marshal(p.Settings)
		if err != nil {
			panic(fmt.Sprintf("xds: settings of a proxy that we read do not marshal: %v", err))
		}
		part(string(text))
	}
	b = append(b, ';')
	pairs(p.Labels, nil)
	pairs(p.Metadata, ownMetadata)
	for _, text := range more {
		part(text)
	}
	sum := sha256.Sum256(b) // a node may have half a megabyte, and every resource that is kept has its class
	return string(sum[:])
}

// ownMetadata differs between replicas and is not translated.
var ownMetadata = map[string]bool{"NAME": true, "INSTANCE_IPS": true}
