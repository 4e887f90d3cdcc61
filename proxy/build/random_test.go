package build_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/mallamesh/malla/proxy/route"
	"github.com/mallamesh/malla/proxy/xdsclient"
)

// In whatever order resources come, change, are refused, go and come back, what is in force in the end is what it is for a proxy that starts then.
func TestOrdersOfUpdates(t *testing.T) {
	for seed := range uint64(100) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := &updates{T: t, Rand: rand.New(rand.NewPCG(seed, 0)), there: map[string]map[string]xdsclient.Resource{}}
				w := &client{world: newWorld(t), sent: map[string]xdsclient.Resource{}}
				for range 100 {
					c.change()
					if c.IntN(3) > 0 {
						w.ask(c.IntN(3) > 0)
						c.tell(w, types[c.IntN(len(types))])
					}
					if c.IntN(4) == 0 {
						time.Sleep(time.Duration(c.IntN(8)) * time.Second)
					}
				}
				c.right()
				c.tellAll(w)
				fresh := &client{world: newWorld(t), sent: map[string]xdsclient.Resource{}}
				c.tellAll(fresh)
				if got, want := inForce(w.world), inForce(fresh.world); got != want {
					t.Errorf("after %s:\n got %s\nwant %s", strings.Join(c.said, ", "), got, want)
				}
			})
		})
	}
}

// types are those of a mesh, in the order in which a control plane tells of them.
var types = []string{xdsclient.ClusterType, xdsclient.EndpointType, xdsclient.ListenerType, xdsclient.RouteType}

// A client is a proxy with what it has asked for and been sent.
type client struct {
	*world
	wants map[string]bool
	sent  map[string]xdsclient.Resource
}

// ask has the control plane know what is wanted now; in the middle of things it may hear of it later.
func (w *client) ask(now bool) {
	if !now {
		return
	}
	w.wants = map[string]bool{}
	for of, interest := range w.Wants() {
		for _, name := range interest.Names {
			w.wants[of+name] = true
		}
	}
	maps.DeleteFunc(w.sent, func(key string, _ xdsclient.Resource) bool { // if it is asked for again it is sent again
		return !w.wants[key] && !strings.HasPrefix(key, xdsclient.ClusterType) && !strings.HasPrefix(key, xdsclient.ListenerType)
	})
}

// updates is a control plane whose configuration changes by chance.
type updates struct {
	*testing.T
	*rand.Rand
	there map[string]map[string]xdsclient.Resource
	said  []string
}

// change makes a resource another one, or takes it away.
func (c *updates) change() {
	typeURL, name := types[c.IntN(len(types))], string(rune('a'+c.IntN(3)))
	if c.there[typeURL] == nil {
		c.there[typeURL] = map[string]xdsclient.Resource{}
	}
	if all(typeURL) && c.IntN(3) == 0 { // the others stay when they are taken away, as in Envoy
		delete(c.there[typeURL], name)
		return
	}
	c.there[typeURL][name] = c.resource(typeURL, name, c.IntN(4))
}

// right puts right what is wrong.
func (c *updates) right() {
	for typeURL, list := range c.there {
		for name, r := range list {
			if strings.HasPrefix(r.Version, "3") {
				list[name] = c.resource(typeURL, name, c.IntN(3))
			}
		}
	}
}

// all reports whether a proxy has all resources of a type, whatever it asks for.
func all(typeURL string) bool {
	return typeURL == xdsclient.ClusterType || typeURL == xdsclient.ListenerType
}

// tell sends what a proxy lacks of a type, and reports whether that was something.
func (c *updates) tell(w *client, typeURL string) bool {
	u := xdsclient.Update{Type: typeURL}
	for name, r := range c.there[typeURL] {
		if key := typeURL + name; (all(typeURL) || w.wants[key]) && w.sent[key].Version != r.Version {
			w.sent[key] = r
			u.Resources = append(u.Resources, r)
		}
	}
	for key := range w.sent {
		name, mine := strings.CutPrefix(key, typeURL)
		if _, there := c.there[typeURL][name]; mine && all(typeURL) && !there {
			u.Removed = append(u.Removed, name)
			delete(w.sent, key)
		}
	}
	if len(u.Resources)+len(u.Removed) == 0 {
		return false
	}
	w.Apply(u)
	for _, r := range u.Resources {
		c.said = append(c.said, short(typeURL)+" "+r.Name+"="+r.Version)
	}
	for _, name := range u.Removed {
		c.said = append(c.said, short(typeURL)+" "+name+" goes")
	}
	return true
}

// tellAll tells of everything, until nothing is asked for any more.
func (c *updates) tellAll(w *client) {
	for more := true; more; {
		more = false
		for _, typeURL := range types {
			w.ask(true)
			more = c.tell(w, typeURL) || more
		}
		time.Sleep(10 * time.Minute)
	}
}

func short(typeURL string) string { return typeURL[strings.LastIndexByte(typeURL, '.')+1:] }

// resource is one of a few versions of a resource, among them a wrong one.
func (c *updates) resource(typeURL, name string, version int) (r xdsclient.Resource) {
	other := string(rune('a' + c.IntN(3)))
	switch typeURL {
	case xdsclient.ClusterType:
		r = resource(c.T, name, &clusterv3.Cluster{}, []string{
			fmt.Sprintf("{name: %s, type: EDS, eds_cluster_config: {eds_config: %s}}", name, ads),
			fmt.Sprintf("{name: %s, type: EDS, eds_cluster_config: {service_name: %s, eds_config: %s}}", name, other, ads),
			fmt.Sprintf("{name: %s, load_assignment: {cluster_name: x, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 10.9.0.%d, port_value: 80}}}}]}]}}", name, other[0]),
			fmt.Sprintf("{name: %s, lb_policy: MAGLEV, maglev_lb_config: {table_size: 4}}", name),
		}[version])
	case xdsclient.EndpointType:
		if version == 3 {
			r = resource(c.T, name, &endpointv3.ClusterLoadAssignment{}, "{cluster_name: else}")
			break
		}
		r = load(c.T, name, fmt.Sprintf("10.0.0.%d", version))
	case xdsclient.RouteType:
		if r = routesTo(c.T, name, other); version == 3 {
			r = resource(c.T, name, &routev3.RouteConfiguration{}, fmt.Sprintf("{name: %s, virtual_hosts: [{name: all, domains: [a, a]}]}", name))
		}
	case xdsclient.ListenerType:
		if r = httpListener(c.T, name, other); version == 3 {
			r = resource(c.T, name, &listenerv3.Listener{}, fmt.Sprintf("{name: %s}", name))
		}
	}
	r.Version = fmt.Sprint(version, other)
	return r
}

// inForce is the picture of a world with where its routes lead, without the order of its listeners.
func inForce(w *world) string {
	r := w.Runtime()
	list, wanted := strings.Fields(w.picture()), w.Wants()[xdsclient.RouteType].Names
	for i, x := range list {
		if name, ok := strings.CutPrefix(x, "R:"); ok && !slices.Contains(wanted, name) {
			list[i] = "" // nobody uses it, and it goes with the next change
		} else if ok {
			if rt := r.Routes[name].Match(&route.Request{Authority: []byte("x"), Path: []byte("/"), Scheme: []byte("http"), Method: []byte("GET")}); rt != nil {
				list[i] += "->" + rt.Forward.Cluster
			}
		}
		if name, ok := strings.CutPrefix(x, "L:"); ok {
			for _, l := range r.Listeners {
				if l.Name == name {
					list[i] += fmt.Sprint("=", l.Chains[0].Name)
				}
			}
		}
	}
	list = slices.DeleteFunc(list, func(x string) bool { return x == "" })
	slices.Sort(list)
	return strings.Join(list, " ")
}
