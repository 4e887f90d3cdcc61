package translate_test

import (
	"testing"

	"github.com/mallamesh/malla/model"
	"github.com/mallamesh/malla/translate"
)

// Where endpoints are the business of other types too, they do not take the short way.
func TestOnlyEndpoints(t *testing.T) {
	selector := map[string]string{"app": "x"}
	for name, test := range map[string]struct {
		service model.Service
		want    bool
	}{
		"ordinary":                   {model.Service{Selector: selector, Kubernetes: true}, true},
		"of a ServiceEntry":          {model.Service{Selector: selector}, false},
		"headless":                   {model.Service{Selector: selector, Kubernetes: true, Headless: true, Resolution: model.Passthrough}, false},
		"headless, without selector": {model.Service{Headless: true, Resolution: model.Passthrough}, false},
		"without selector":           {model.Service{}, false},
	} {
		s := &test.service
		s.Host, s.Namespace = "x.a.svc.cluster.local", "a"
		mesh := func() *model.Mesh {
			return &model.Mesh{Registry: &model.Registry{Services: []*model.Service{s}, Endpoints: map[model.ServiceKey]*model.EndpointSet{s.Key(): {}}}}
		}
		if got := translate.OnlyEndpoints(mesh(), mesh()); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
		m := mesh()
		if !translate.OnlyEndpoints(m, m) {
			t.Errorf("%s: the same endpoints count as a change", name)
		}
	}
}
