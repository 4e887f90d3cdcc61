package translate_test

import (
	"testing"

	"github.com/mallamesh/malla/model"
	"github.com/mallamesh/malla/translate"
)

// FuzzNames asks by names that clients made up. There is an answer exactly for
// the names that are listed, and it bears the name: no second spelling of a
// port or a host gives the same resource again.
func FuzzNames(f *testing.F) {
	m := large(3)
	views := []*model.View{
		model.NewView(&model.Proxy{Type: model.Sidecar, Namespace: "ns0", Name: "a"}, m),
		model.NewView(&model.Proxy{Type: model.Router, Namespace: "ns0", Name: "b"}, m),
	}
	types := []string{translate.ClusterType, translate.EndpointType, translate.ListenerType, translate.RouteType}
	known := make(map[string]bool)
	for i, v := range views {
		for _, url := range types {
			for _, name := range translate.Names(v, url) {
				f.Add(name)
				known[string(rune('0'+i))+url+name] = true
			}
		}
	}
	for _, name := range []string{"", "|", "|||", "outbound|08080||s00000.ns0.svc.cluster.local", "outbound|70000||x", "inbound|8080||", "s00000.ns0.svc.cluster.local:8080", ":", "08080", "http.80"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		for i, v := range views {
			for _, url := range types {
				_, ok := translate.Resource(v, url, name)
				if ok != known[string(rune('0'+i))+url+name] {
					t.Errorf("%s %q: found %v, listed %v", url, name, ok, !ok)
				}
			}
		}
	})
}
