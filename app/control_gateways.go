package app

import (
	"encoding/json"
	"log/slog"

	"k8s.io/apimachinery/pkg/types"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mallamesh/malla/compile"
	"github.com/mallamesh/malla/compile/gatewayapi"
	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/config/kind"
	"github.com/mallamesh/malla/config/source/kube"
	"github.com/mallamesh/malla/control/gateways"
	"github.com/mallamesh/malla/control/status"
	"github.com/mallamesh/malla/model"
)

// standards are the statuses that the objects of Gateway API are to have.
type standards struct {
	of   *gatewayapi.Result // that they were made of
	want map[kube.ID]status.Wanted
	more map[kube.ID]status.Wanted // of Ingresses
}

// ingresses makes the statuses of the Ingresses that are served. Of others others speak, but one that was served here
// does not go on to say so.
func (s *standards) ingresses(all, served []*config.Object, at []any) {
	s.more = map[kube.ID]status.Wanted{}
	if len(at) == 0 {
		return
	}
	here := map[string]any{"loadBalancer": map[string]any{"ingress": at}}
	for _, o := range all {
		s.more[kube.ID{Kind: "Ingress", Namespace: o.Namespace, Name: o.Name}] = status.Wanted{UID: o.UID, Withdrawn: here}
	}
	for _, o := range served {
		s.more[kube.ID{Kind: "Ingress", Namespace: o.Namespace, Name: o.Name}] = status.Wanted{UID: o.UID, Status: here}
	}
}

// set makes them anew if the result is another one.
func (s *standards) set(r *gatewayapi.Result, snap *config.Snapshot, log *slog.Logger) {
	if s.of == r {
		return
	}
	s.of, s.want = r, map[kube.ID]status.Wanted{}
	if r == nil {
		return
	}
	for ref, value := range r.Status {
		o, ok := snap.Get(ref.Kind, ref.Namespace, ref.Name)
		if !ok {
			continue
		}
		data, err := json.Marshal(value)
		var tree map[string]any
		if err == nil {
			err = utiljson.Unmarshal(data, &tree)
		}
		if err != nil {
			log.Error("a status cannot be written", "object", ref.String(), "err", err)
			continue
		}
		untimed(tree)
		s.want[kube.ID{Kind: ref.Kind, Namespace: ref.Namespace, Name: ref.Name}] = status.Wanted{UID: o.UID, Status: tree}
	}
}

// untimed drops the times of conditions, which are not known here.
func untimed(v any) {
	switch v := v.(type) {
	case map[string]any:
		delete(v, "lastTransitionTime")
		for _, e := range v {
			untimed(e)
		}
	case []any:
		for _, e := range v {
			untimed(e)
		}
	}
}

// add puts them beside what is wrong with objects.
func (s *standards) add(wanted map[kube.ID]status.Wanted, generation func(kube.ID) int64) {
	for id, w := range s.more {
		have := wanted[id]
		have.UID, have.Status, have.Withdrawn = w.UID, w.Status, w.Withdrawn
		wanted[id] = have
	}
	for id, w := range s.want {
		have := wanted[id]
		have.UID, have.Status, have.Generation = w.UID, w.Status, generation(id)
		wanted[id] = have
	}
}

// deployed is which workloads the Gateways of a mesh are to have.
func (c *controlPlane) deployed(m *model.Mesh, snap *config.Snapshot) gateways.Picture {
	p := gateways.Picture{Classes: map[model.Name]string{}}
	for _, o := range snap.List(kind.APIGateway) {
		p.Classes[model.Name{Namespace: o.Namespace, Name: o.Name}] = string(o.Value.(*gatewayv1.Gateway).Spec.GatewayClassName)
	}
	if r := compile.GatewayAPI(m); r != nil {
		for _, ref := range r.Manual {
			p.Classes[model.Name{Namespace: ref.Namespace, Name: ref.Name}] = "" // what was made for it before goes
		}
		for _, d := range r.Deployments {
			if o, ok := snap.Get(kind.APIGateway, d.Gateway.Namespace, d.Gateway.Name); ok {
				p.Gateways = append(p.Gateways, gateways.Wanted{Deployment: d, UID: types.UID(o.UID)})
			}
		}
	}
	if _, served := c.source.Resource("GatewayClass"); served {
		var have []string
		for _, o := range snap.List("GatewayClass") {
			have = append(have, o.Name)
		}
		p.Missing = gateways.MissingClasses(have)
	}
	return p
}
