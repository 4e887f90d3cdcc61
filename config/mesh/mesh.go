// Package mesh reads MeshConfig: the settings that hold for the whole mesh.
//
// They are written as YAML under the key mesh of the ConfigMap istio or malla in
// the root namespace, and MeshNetworks beside them under meshNetworks. As everywhere, a field that does not exist or is not
// supported is an error with its path, and one without effect is a notice.
package mesh

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"

	meshv1alpha1 "istio.io/api/mesh/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/yaml"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/config/kind"
	"github.com/mallamesh/malla/config/strict"
	"github.com/mallamesh/malla/model"
)

// Key is the key of the ConfigMap under which the settings stand.
const Key = "mesh"

// Names are the ConfigMaps that are read: of several, the first counts alone.
var Names = []string{"malla", "istio"}

// SharedEnv is the variable of the control plane with the name of another ConfigMap of the root namespace: what it says holds where
// the mesh's own says nothing.
const SharedEnv = "SHARED_MESH_CONFIG"

// LastGood is the ConfigMap of the root namespace in which the control plane keeps, under the same keys, the last settings
// without a mistake, so that a mistake changes nothing over a restart either.
const LastGood = "malla-last-good-mesh"

var plan = sync.OnceValue(func() *strict.Plan {
	return strict.Type(reflect.TypeFor[meshv1alpha1.MeshConfig](), kind.MeshFields)
})

// Parse lays the settings in text over base. Fields that are wrong are left as
// they are in base. Errors have paths below at.
func Parse(text string, base model.MeshConfig, at *field.Path) (model.MeshConfig, field.List, []strict.Notice) {
	var c strict.Checker
	fields := tree(&c, text, plan(), at)
	if fields == nil {
		return base, c.Errs, c.Notices
	}
	clean, err := utiljson.Marshal(fields)
	var m meshv1alpha1.MeshConfig
	if err == nil {
		err = m.UnmarshalJSON(clean)
	}
	if err != nil {
		if len(c.Errs) == 0 {
			c.Errs.Addf(at, "%v", err)
		}
		return base, c.Errs, c.Notices
	}
	if p := m.GetDefaultHttpRetryPolicy(); p.GetAttempts() > 0 {
		if found := Repeating(p.GetRetryOn()); len(found) > 0 {
			c.Notices = append(c.Notices, strict.Notice{At: at.Child("defaultHttpRetryPolicy").Child("retryOn"), Code: RepeatsCode,
				Why: strings.Join(found, ", ") + " sends requests again that applications may have carried out, a POST too, in the whole mesh; if they must not do so twice, leave retryOn out, and write it in VirtualServices whose routes take only what may be repeated"})
		}
	}
	r := &reader{errs: &c.Errs, at: at, fields: fields}
	return r.read(&m, base), c.Errs, c.Notices
}

// tree reads YAML into JSON's values and checks them against a plan; nil if nothing
// is left of them.
func tree(c *strict.Checker, text string, p *strict.Plan, at *field.Path) map[string]any {
	data, err := yaml.YAMLToJSONStrict([]byte(text))
	if err != nil {
		c.Errs.Addf(at, "%s", strings.TrimPrefix(err.Error(), "error converting YAML to JSON: "))
		return nil
	}
	var value any
	if err := utiljson.Unmarshal(data, &value); err != nil {
		c.Errs.Addf(at, "%v", err)
		return nil
	}
	if value == nil {
		return nil
	}
	checked, ok := c.Value(value, p, at)
	if !ok {
		return nil
	}
	return checked.(map[string]any)
}

// Of returns the settings of a snapshot, laid over base, and from which ConfigMap
// they are. Errors are those of a ConfigMap that was not refused on its way in. A ConfigMap called shared, if that is not empty, says what the
// mesh's own leaves open; what is returned is then the own one with all of it.
func Of(s *config.Snapshot, namespace, shared string, base model.MeshConfig) (*model.MeshConfig, *config.Object, field.List) {
	below := written(s, namespace, shared)
	if below != nil {
		if m, errs := read(below.Value.(*corev1.ConfigMap).Data, base); len(errs) > 0 {
			return m, below, errs.In(below.String())
		}
	}
	for _, name := range Names {
		if o := written(s, namespace, name); o != nil {
			o = over(o, below)
			m, errs := read(o.Value.(*corev1.ConfigMap).Data, base)
			return m, o, errs.In(o.String())
		}
	}
	if below != nil {
		m, _ := read(below.Value.(*corev1.ConfigMap).Data, base)
		return m, below, nil
	}
	return &base, nil, nil
}

// written is a ConfigMap with settings of the mesh, nil if it has none.
func written(s *config.Snapshot, namespace, name string) *config.Object {
	o, ok := s.Get("ConfigMap", namespace, name)
	if !ok {
		return nil
	}
	data := o.Value.(*corev1.ConfigMap).Data
	if _, ok := data[Key]; !ok && data[NetworksKey] == "" {
		return nil
	}
	return o
}

// over is own with what below says besides.
func over(own, below *config.Object) *config.Object {
	if below == nil {
		return own
	}
	out := *own
	data := maps.Clone(own.Value.(*corev1.ConfigMap).Data)
	more := below.Value.(*corev1.ConfigMap).Data
	data[Key] = Over(data[Key], more[Key])
	if data[NetworksKey] == "" && more[NetworksKey] != "" {
		data[NetworksKey] = more[NetworksKey]
	}
	out.Value = &corev1.ConfigMap{Data: data}
	return &out
}

// Over is own, settings as they are written, with what is said below them besides: objects are laid over each other, and of all else own
// counts. What cannot be read is left to who reads it.
func Over(own, below string) string {
	var upper, lower map[string]any
	if yaml.Unmarshal([]byte(own), &upper) != nil || yaml.Unmarshal([]byte(below), &lower) != nil || len(lower) == 0 {
		return own
	}
	text, err := yaml.Marshal(merged(upper, lower))
	if err != nil {
		return own
	}
	return string(text)
}

func merged(upper, lower map[string]any) map[string]any {
	out := maps.Clone(lower)
	for k, v := range upper {
		a, isMap := v.(map[string]any)
		b, both := out[k].(map[string]any)
		if isMap && both {
			v = merged(a, b)
		}
		out[k] = v
	}
	return out
}

// read lays what a ConfigMap says over base.
func read(data map[string]string, base model.MeshConfig) (*model.MeshConfig, field.List) {
	m, errs, _ := Parse(data[Key], base, field.At("data", Key))
	if text := data[NetworksKey]; text != "" {
		networks, more, _ := ParseNetworks(text, field.At("data", NetworksKey))
		m.Networks, errs = networks, append(errs, more...)
	}
	return &m, errs
}

// Last returns what LastGood holds, laid over base, and whether that is something without a mistake.
func Last(s *config.Snapshot, namespace string, base model.MeshConfig) (*model.MeshConfig, bool) {
	o, ok := s.Get("ConfigMap", namespace, LastGood)
	if !ok {
		return nil, false
	}
	m, errs := read(o.Value.(*corev1.ConfigMap).Data, base)
	return m, len(errs) == 0
}

// A reader takes the settings that were written out of the message.
type reader struct {
	errs   *field.List
	at     *field.Path
	fields map[string]any
}

// has reports whether a setting was written, which a message cannot tell.
func (r *reader) has(names ...string) bool {
	var v any = r.fields
	for _, n := range names {
		m, ok := v.(map[string]any)
		if !ok || m[n] == nil {
			return false
		}
		v = m[n]
	}
	return true
}

func (r *reader) errorf(format string, args []any, names ...string) {
	*r.errs = append(*r.errs, &field.Error{At: r.path(names...), Msg: fmt.Sprintf(format, args...)})
}

func (r *reader) path(names ...string) *field.Path {
	at := r.at
	for _, n := range names {
		at = at.Child(n)
	}
	return at
}

// sortedClone copies a set, sorted.
func sortedClone(list []string) []string { return slices.Sorted(slices.Values(list)) }

func cloneMap(m map[string]string) map[string]string {
	if len(m) == 0 {
		return nil
	}
	return maps.Clone(m)
}
