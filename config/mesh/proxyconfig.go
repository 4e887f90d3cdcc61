package mesh

import (
	"maps"
	"sync"

	meshv1alpha1 "istio.io/api/mesh/v1alpha1"
	utiljson "k8s.io/apimachinery/pkg/util/json"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/config/strict"
	"github.com/mallamesh/malla/model"
)

// ProxyAnnotation is the annotation of a pod with settings for its proxy: as YAML,
// in the form of MeshConfig's defaultConfig, over which they are laid.
const ProxyAnnotation = "proxy.istio.io/config"

var proxyPlan = sync.OnceValue(func() *strict.Plan { return plan().Field("defaultConfig") })

// ParseProxy reads the settings in text as JSON's values. Errors have paths below
// at, and what holds for defaultConfig holds here.
func ParseProxy(text string, at *field.Path) (map[string]any, field.List, []strict.Notice) {
	var c strict.Checker
	fields, _ := parseProxy(&c, text, at)
	return fields, c.Errs, c.Notices
}

// Settings returns what an annotation says of its proxy besides how that runs, nil if it says nothing of it, or
// is wrong.
func Settings(text string) *model.ProxySettings {
	var c strict.Checker
	_, out := parseProxy(&c, text, nil)
	if len(c.Errs) > 0 || out.Proxies == (model.ProxySettings{}) {
		return nil
	}
	return &out.Proxies
}

func parseProxy(c *strict.Checker, text string, at *field.Path) (fields map[string]any, out model.MeshConfig) {
	fields = tree(c, text, proxyPlan(), at)
	if fields == nil {
		return nil, out
	}
	var p meshv1alpha1.ProxyConfig
	clean, err := utiljson.Marshal(fields)
	if err == nil {
		err = p.UnmarshalJSON(clean)
	}
	if err != nil {
		if len(c.Errs) == 0 {
			c.Errs.Addf(at, "%v", err)
		}
		return nil, out
	}
	r := &reader{errs: &c.Errs, at: at, fields: fields}
	r.proxy(&p, &out)
	return fields, out
}

// MergeProxy lays settings over others as Istio does: one that is named replaces the
// whole of the other, but for proxyMetadata, whose entries are laid over each other.
func MergeProxy(base, over map[string]any) map[string]any {
	const metadata = "proxyMetadata"
	out := maps.Clone(base)
	if out == nil {
		out = map[string]any{}
	}
	maps.Copy(out, over)
	a, _ := base[metadata].(map[string]any)
	b, _ := over[metadata].(map[string]any)
	if len(a) > 0 && len(b) > 0 {
		both := maps.Clone(a)
		maps.Copy(both, b)
		out[metadata] = both
	}
	return out
}
