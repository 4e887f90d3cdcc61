package validate

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"

	"istio.io/api/annotation"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/config/kind"
	"github.com/mallamesh/malla/config/mesh"
	"github.com/mallamesh/malla/model"
)

// istioAnnotations are all that Istio defines.
var istioAnnotations = sync.OnceValue(func() (names []string) {
	for _, a := range annotation.AllResourceAnnotations() {
		names = append(names, a.Name)
	}
	slices.Sort(names)
	return names
})

// annotations checks what annotations and labels ask of the mesh. Those of
// templates are judged as those of pods.
func (r *ruler) annotations(at *field.Path, annotations, labels map[string]string) {
	for _, name := range sortedKeys(annotations) {
		p := at.Child("annotations").Child(name)
		domain, _, _ := strings.Cut(name, "/")
		i := slices.IndexFunc(kind.Annotations, func(a kind.Annotation) bool { return a.Name == name })
		switch {
		case i >= 0:
			r.annotationForm(p, annotations[name], kind.Annotations[i].Form)
		case domain != "istio.io" && !strings.HasSuffix(domain, ".istio.io"): // another program's
		case slices.Contains(istioAnnotations(), name):
			r.notice(p, "not supported yet")
		default:
			r.notice(p, "Istio has no annotation of this name%s", field.Suggest(name, istioAnnotations()))
		}
	}
	for _, l := range kind.UnusedLabels {
		if _, ok := labels[l.Name]; ok {
			r.notice(at.Child("labels").Child(l.Name), "%s", l.Why)
		}
	}
}

func (r *ruler) annotationForm(at *field.Path, value string, form kind.Form) {
	if form == kind.ProxyConfig {
		_, errs, notices := mesh.ParseProxy(value, at)
		r.errs = append(r.errs, errs...)
		r.notices = append(r.notices, notices...)
		return
	}
	if form == kind.Proxy {
		if value != "malla" && value != "envoy" {
			r.errorf(at, "found %q, want malla or envoy", value)
		}
		return
	}
	if form == kind.Interception {
		if _, ok := model.Interceptions[value]; !ok {
			r.errorf(at, "found %q, want REDIRECT, TPROXY or NONE", value)
		}
		return
	}
	if form == kind.ServiceType {
		if value != "ClusterIP" && value != "LoadBalancer" && value != "NodePort" {
			r.errorf(at, "found %q, want ClusterIP, LoadBalancer or NodePort", value)
		}
		return
	}
	if form == kind.AnyText || value == "*" || value == "" {
		return
	}
	for part := range strings.SplitSeq(value, ",") {
		part = strings.TrimSpace(part)
		switch n, err := strconv.ParseUint(part, 10, 16); {
		case form == kind.Ports && (err != nil || n == 0):
			r.errorf(at, "found %q, want ports, separated by commas", part)
		case form == kind.Ranges:
			_, rangeErr := netip.ParsePrefix(part)
			if _, err := netip.ParseAddr(part); err != nil && rangeErr != nil {
				r.errorf(at, "found %q, want ranges such as 10.0.0.0/8, separated by commas", part)
			}
		}
	}
}
