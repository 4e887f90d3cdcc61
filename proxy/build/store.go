package build

import (
	"hash/maphash"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/route"
	"github.com/mallamesh/malla/proxy/shard"
	"github.com/mallamesh/malla/proxy/stats"
	"github.com/mallamesh/malla/proxy/xdsclient"
)

// A Store keeps the configuration of one proxy. Its methods may be called from any
// goroutine.
type Store struct {
	env  *Env
	node *access.Node
	seed maphash.Seed

	manager  stats.ListenerManager
	clusterM stats.ClusterManager

	mu         sync.Mutex // guards what follows
	dynamic    map[string]bool
	files      []xdsclient.Source // of whole types
	listeners  map[string]*listenerEntry
	arrivals   uint64 // of listeners, for their order
	retired    []retired
	clusters   map[string]*clusterEntry
	routes     map[string]*routeEntry
	endpoints  map[string]*endpointEntry
	secrets    map[string]*secretEntry
	vhosts     map[string]*vhostEntry // by resource name, TABLE/HOST
	extensions map[string]*extensionEntry
	scopes     map[xdsclient.Place]*scopeSet
	generation uint64 // of listeners that were read again
	stale      bool   // what listeners hold has changed since the last runtime
	sds        map[string]*stats.SDSUse
	vhds       map[string]map[*stats.RDS]*stats.RDSUse // by table
	acked      map[string]bool                         // types of which an answer has been applied, or is waited for no more
	whole      map[string]bool                         // types of which nothing was refused at least once
	version    map[string]string
	asked      map[string]map[string]bool // the names of each type that [Store.Wants] answered last
	runtime    *shard.Runtime
	timer      *time.Timer
	changed    func() // the interests may have changed
	started    bool
	closed     bool
}

// A Record is what is known of a resource beside its meaning: what config_dump shows.
type Record struct {
	Name    string
	Version string
	Updated time.Time
	Body    *anypb.Any // accepted last, nil if none was
	Static  bool
	Refused *RefusedRecord // nil if the newest version was accepted
	sum     uint64         // of the body
}

// A RefusedRecord is a version that does not count.
type RefusedRecord struct {
	Version string
	Detail  string
	At      time.Time
	Body    *anypb.Any
}

type listenerEntry struct {
	Record
	next    *Listener // accepted, and waiting for what it needs
	since   time.Time // next began to wait
	live    *Listener // in the runtime
	removed bool
	order   uint64 // it came into force, or came, after those with a lower one
}

type clusterEntry struct {
	Record
	next  *Cluster
	since time.Time
	live  *cluster.Cluster
	built *Cluster  // what live was made of
	stop  func()    // ends the resolving of names, and the checks
	warm  bool      // names were resolved once, and hosts checked, or that need not be
	gone  time.Time // the control plane has taken it away
}

type routeEntry struct {
	Record
	base  *route.Config // what RDS says, nil if nothing yet
	limit int           // of bodies of direct responses
	vhds  bool          // further virtual hosts come one by one
	stale bool          // some have come, or gone
	next  *route.Table
	needs Needs // of next
	used  Needs // of live

	baseNeeds Needs
	since     time.Time
	live      *route.Table
	absent    bool // the control plane says that there is none
}

type endpointEntry struct {
	Record
	list   cluster.Assignment
	there  bool
	absent bool
}

type secretEntry struct {
	Record
	files  []xdsclient.Place // that it refers to, and that are read again when they change
	absent bool
}

// NewStore returns an empty store. changed is called, possibly with a lock held,
// when [Store.Wants] may answer something else; it must not call back.
func NewStore(env *Env, changed func()) *Store {
	if env.Now == nil {
		env.Now = time.Now
	}
	s := &Store{
		env: env, node: whoWeAre(env.Node), seed: maphash.MakeSeed(), changed: changed,
		dynamic: map[string]bool{}, listeners: map[string]*listenerEntry{}, clusters: map[string]*clusterEntry{}, routes: map[string]*routeEntry{},
		endpoints: map[string]*endpointEntry{}, secrets: map[string]*secretEntry{}, vhosts: map[string]*vhostEntry{}, extensions: map[string]*extensionEntry{}, scopes: map[xdsclient.Place]*scopeSet{}, sds: map[string]*stats.SDSUse{},
		vhds: map[string]map[*stats.RDS]*stats.RDSUse{}, acked: map[string]bool{}, whole: map[string]bool{}, version: map[string]string{},
		runtime: &shard.Runtime{},
	}
	if env.LocalCluster != "" {
		l := env.Node.GetLocality()
		env.local = &cluster.Local{Locality: cluster.Locality{Region: l.GetRegion(), Zone: l.GetZone(), SubZone: l.GetSubZone()}}
	}
	env.extensions = s.extensions
	env.demand = &demand{wishes: map[string]*wish{}, wake: changed}
	if changed == nil {
		env.demand.wake = func() {}
	}
	env.Stats.Add("listener_manager.", &s.manager)
	env.Stats.Add("cluster_manager.", &s.clusterM)
	return s
}

// Dynamic says that all listeners (ListenerType) or clusters (ClusterType) of the
// control plane are wanted, and how long the proxy is not ready without them (0: for ever).
func (s *Store) Dynamic(typeURL string, patience time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dynamic[typeURL] = true
	s.show(typeURL)
	for _, l := range s.ledgers(typeURL, "") {
		l.attempt.Inc() // the question
	}
	if patience > 0 {
		time.AfterFunc(patience, func() { s.late(typeURL) })
	}
}

// show has the statistics shown of listeners or clusters that come.
func (s *Store) show(typeURL string) {
	switch typeURL {
	case xdsclient.ListenerType:
		s.manager.LDS.Show()
	case xdsclient.ClusterType:
		s.clusterM.CDS.Show()
	}
}

// late goes on without the first answer of the control plane.
func (s *Store) late(typeURL string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.acked[typeURL] {
		return
	}
	s.acked[typeURL] = true
	for _, l := range s.ledgers(typeURL, "") {
		l.attempt.Inc()
		l.timeout.Inc()
	}
}

// Static takes in what a bootstrap holds. Mistakes are returned, by their paths in the bootstrap; nothing
// is in force before [Store.Start].
func (s *Store) Static(b *Bootstrap) error {
	var problems field.List
	add := func(typeURL, name string, m proto.Message, at *field.Path) {
		body, err := anypb.New(m)
		if err == nil {
			err = s.take(typeURL, xdsclient.Resource{Name: name, Body: body}, true)
		}
		problems = append(problems, below(at, err).In(kindOf(typeURL)+" "+name)...)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files = b.Files
	for _, f := range b.Files {
		s.show(f.Type)
	}
	static := field.At("static_resources")
	for i, m := range b.Secrets {
		s.env.Secrets.Local(m.GetName())
		add(xdsclient.SecretType, m.GetName(), m, static.Child("secrets").Index(i))
	}
	for i, m := range b.Clusters {
		add(xdsclient.ClusterType, m.GetName(), m, static.Child("clusters").Index(i))
	}
	for i, m := range b.Listeners {
		name := b.listenerName(i)
		if m.GetName() == "" {
			m = proto.CloneOf(m)
			m.Name = name
		}
		add(xdsclient.ListenerType, name, m, static.Child("listeners").Index(i))
	}
	return problems.Err()
}

// below tells mistakes of what stands at a place by their paths from the root.
func below(at *field.Path, err error) field.List {
	errs, ok := err.(field.List)
	switch {
	case err == nil:
		return nil
	case !ok:
		return field.List{{At: at, Msg: err.Error()}}
	}
	for _, e := range errs {
		e.At = e.At.Below(at)
	}
	return errs
}

// kindOf is the name of a type of resources.
func kindOf(typeURL string) string { return typeURL[strings.LastIndexByte(typeURL, '.')+1:] }

// Start puts in force what is there, and from now on what comes.
func (s *Store) Start() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.started = true
	s.settle()
}

// Close ends everything that goes on by itself.
func (s *Store) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.timer != nil {
		s.timer.Stop()
	}
	for _, c := range s.clusters {
		if c.stop != nil {
			c.stop()
		}
	}
}

func entry[K comparable, E any](m map[K]*E, name K) *E {
	if m[name] == nil {
		m[name] = new(E)
	}
	return m[name]
}
