package shard

import (
	"github.com/mallamesh/malla/proxy/access"
	"github.com/mallamesh/malla/proxy/cluster"
	"github.com/mallamesh/malla/proxy/listen"
	"github.com/mallamesh/malla/proxy/route"
)

// A Runtime is the whole configuration of the data plane at one time. It is
// immutable; a change makes a new one that shares what is the same:
//
//   - a listener that has not changed is the same *listen.Config (or has equal name and version) and is
//     kept with its sockets; a changed one takes over the sockets of its name, and
//     its connections drain;
//   - a cluster is the same *cluster.Cluster as long as its own configuration is;
//     endpoints change inside it;
//   - route tables are looked up by name when a request comes.
type Runtime struct {
	Generation uint64
	Listeners  []*listen.Config
	Clusters   map[string]*cluster.Cluster
	Routes     map[string]*route.Table
	Scopes     map[string]*route.Scopes // by the name of their source
	Who        *access.Node             // what the proxy is called; nil: not known
}

// Cluster returns the cluster of a name, or nil.
func (r *Runtime) Cluster(name string) *cluster.Cluster { return r.Clusters[name] }

// Node returns what the proxy is called.
func (r *Runtime) Node() *access.Node { return r.Who }

// ScopesOf returns the scopes of a source, or nil.
func (r *Runtime) ScopesOf(source string) *route.Scopes { return r.Scopes[source] }

// Table returns the route table of a name, or nil.
func (r *Runtime) Table(name string) *route.Table { return r.Routes[name] }
