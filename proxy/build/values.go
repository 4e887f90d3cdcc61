package build

import (
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/proxy/route"
)

const notWatched = "what it says may change while the proxy runs, and runtime values are read once: write them into a static_layer"

var valueFields = []*Message{
	message((*bootstrapv3.LayeredRuntime)(nil), reads("layers")),
	message((*bootstrapv3.RuntimeLayer)(nil), reads("name", "static_layer"),
		ignores("/runtime shows the layer, and it stays empty: /runtime_modify is refused, as runtime values are read once", "admin_layer"), refuses(notWatched, "disk_layer", "rtds_layer")),
	message((*bootstrapv3.RuntimeLayer_AdminLayer)(nil)),
}

// Values are what the static layers of a bootstrap's runtime say, by their keys in full. They
// never change: whatever has a key in the runtime is built with the value that it has at start.
// A nil *Values says nothing.
type Values struct {
	all    map[string]value
	layers []Layer

	mu   sync.Mutex // guards read
	read map[string]bool
}

// A Layer is what one layer of the runtime says, for people.
type Layer struct {
	Name   string
	Values map[string]string // by their keys in full
}

// Layers lists the layers, the one that counts most last.
func (v *Values) Layers() []Layer {
	if v == nil {
		return nil
	}
	return v.layers
}

// A value has those forms in which it can be read; a key whose value has another form counts as not set.
type value struct {
	double  *float64
	integer *uint64
	truth   *bool
	share   *route.Fraction
	text    string // for people
}

// quietKeys begin the keys of Envoy's that choose how it works inside or what it warns of. There is
// nothing like it here, and so nothing that would be missed.
var quietKeys = []string{"re2.", "envoy.deprecated_features:", "envoy.features.enable_all_deprecated_features", "envoy.restart_features.use_eds_cache_for_ads"}

// values reads the layers, of which later ones win.
func (r *reader) values(m *bootstrapv3.LayeredRuntime, at *field.Path) *Values {
	out := &Values{all: map[string]value{}, read: map[string]bool{}}
	names, admins := map[string]bool{}, 0
	for i, l := range m.GetLayers() {
		at := at.Child("layers").Index(i)
		switch {
		case l.GetName() == "":
			r.errs.Addf(at.Child("name"), "is empty")
		case names[l.GetName()]:
			r.errs.Addf(at.Child("name"), "found %q, which another layer has", l.GetName())
		}
		names[l.GetName()] = true
		shown := Layer{l.GetName(), map[string]string{}}
		switch l.GetLayerSpecifier().(type) {
		case *bootstrapv3.RuntimeLayer_StaticLayer:
			layer := map[string]value{}
			r.flatten(layer, "", l.GetStaticLayer().GetFields(), at.Child("static_layer"))
			maps.Copy(out.all, layer)
			for key, v := range layer {
				shown.Values[key] = v.text
			}
		case *bootstrapv3.RuntimeLayer_AdminLayer_: // empty, and nobody can fill it
			if _, admins = l.GetAdminLayer(), admins+1; admins > 1 {
				r.errs.Addf(at.Child("admin_layer"), "is the second one, want at most one")
			}
		case nil:
			r.errs.Addf(at, "says nothing, want static_layer")
		}
		out.layers = append(out.layers, shown)
	}
	return out
}

// flatten adds the values of a struct: what is nested has a key of several parts, joined by dots. Where a layer has
// a key in both ways, the nested one counts; with Envoy that is chance.
func (r *reader) flatten(out map[string]value, prefix string, fields map[string]*structpb.Value, at *field.Path) {
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		key, at := prefix+name, at.Child(name)
		v := value{}
		switch k := fields[name].GetKind().(type) {
		case *structpb.Value_NumberValue:
			v = numeric(k.NumberValue)
		case *structpb.Value_BoolValue:
			v.truth = &k.BoolValue
		case *structpb.Value_StringValue:
			v = textual(k.StringValue)
		case *structpb.Value_StructValue:
			inner := k.StructValue.GetFields()
			if inner["numerator"] == nil && inner["denominator"] == nil && len(inner) > 0 {
				r.flatten(out, key+".", inner, at)
				continue
			}
			v.share = share(inner)
		default:
			r.errs.Addf(at, "found %v, want a number, a boolean, a text or an object", fields[name].AsInterface())
			continue
		}
		if _, twice := out[key]; !twice {
			v.text = fields[name].GetStringValue()
			if _, text := fields[name].GetKind().(*structpb.Value_StringValue); !text {
				v.text = compact(fields[name])
			}
			out[key] = v
		}
	}
}

// compact is a value as JSON without spaces.
func compact(v *structpb.Value) string {
	text, err := json.Marshal(v.AsInterface())
	if err != nil { // not a number
		return ""
	}
	return string(text)
}

// numeric is what a number can be read as: without its fraction where an integer is wanted, and as a boolean
// if it has none.
func numeric(n float64) value {
	v := value{double: &n}
	if n < math.MaxInt32 && n >= math.MinInt32 && n == math.Trunc(n) {
		truth := n != 0
		v.truth = &truth
	}
	if n >= 0 && n < math.MaxUint64 {
		integer := uint64(n)
		v.integer = &integer
	}
	return v
}

// textual is what a text can be read as: a number, or nothing.
func textual(s string) value {
	trimmed := strings.TrimSpace(s)
	n, err := strconv.ParseFloat(trimmed, 64)
	if err != nil || strings.ContainsAny(trimmed, "xX_") { // Go's own ways to write numbers
		return value{}
	}
	return numeric(n)
}

// share reads a FractionalPercent, nil if it is none.
func share(fields map[string]*structpb.Value) *route.Fraction {
	f := &route.Fraction{Denominator: 100}
	for name, v := range fields {
		text, isText := v.GetKind().(*structpb.Value_StringValue)
		switch {
		case name == "numerator":
			f.Numerator = uint32(min(max(v.GetNumberValue(), 0), math.MaxUint32))
		case name == "denominator" && isText:
			d, ok := typev3.FractionalPercent_DenominatorType_value[text.StringValue]
			if !ok {
				return nil
			}
			f.Denominator = denominators[typev3.FractionalPercent_DenominatorType(d)]
		default:
			return nil
		}
	}
	return f
}

// get looks a key up, and notes that it means something.
func (v *Values) get(key string) value {
	if v == nil || key == "" {
		return value{}
	}
	found, ok := v.all[key]
	if ok {
		v.mu.Lock()
		v.read[key] = true
		v.mu.Unlock()
	}
	return found
}

// Unread lists the keys that nothing has asked for, sorted: Envoy may know them, and nothing
// that has been built does.
func (v *Values) Unread() []string {
	if v == nil {
		return nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	var out []string
	for _, key := range slices.Sorted(maps.Keys(v.all)) {
		quiet := func(prefix string) bool { return strings.HasPrefix(key, prefix) }
		if !v.read[key] && !slices.ContainsFunc(quietKeys, quiet) {
			out = append(out, key)
		}
	}
	return out
}

// share returns the value of a key that holds a part of something. An integer is one of percent, and above
// 100 it is all.
func (v *Values) share(key string) (route.Fraction, bool) {
	found := v.get(key)
	switch {
	case found.share != nil:
		return *found.share, true
	case found.integer != nil:
		return route.Fraction{Numerator: uint32(min(*found.integer, 100)), Denominator: 100}, true
	}
	return route.Fraction{}, false
}

// integer returns the value of a key, otherwise what counts without one.
func (v *Values) integer(key string, otherwise uint64) uint64 {
	if found := v.get(key); found.integer != nil {
		return *found.integer
	}
	return otherwise
}

// percent returns the value of a key that stands for a part of all, which is all without it. Only an integer counts.
func (v *Values) percent(key string) route.Fraction {
	return route.Fraction{Numerator: uint32(min(v.integer(key, 100), 100)), Denominator: 100}
}

// number replaces a number by the value of a key, if there is one. A number that does not fit into 32 bits
// is as large as possible.
func (v *Values) number(key string, n *uint32) *uint32 {
	found := v.get(key)
	if found.integer == nil {
		return n
	}
	out := uint32(min(*found.integer, math.MaxUint32))
	return &out
}

// milliseconds returns the value of a key that holds a time, otherwise what counts without one.
func (v *Values) milliseconds(key string, otherwise time.Duration) time.Duration {
	if ms := v.get(key).integer; ms != nil {
		return time.Duration(min(*ms, math.MaxInt64/uint64(time.Millisecond))) * time.Millisecond
	}
	return otherwise
}

// matching calls f for the keys of integers that stand between two texts, with what stands there.
func (v *Values) matching(prefix, suffix string, f func(name string, n uint64)) {
	for _, key := range slices.Sorted(maps.Keys(v.all)) {
		if name, ok := strings.CutPrefix(key, prefix); ok {
			if name, ok = strings.CutSuffix(name, suffix); ok {
				if found := v.get(key); found.integer != nil {
					f(name, *found.integer)
				}
			}
		}
	}
}

// runtimeFraction reads a share that the runtime may set, nil if there is none.
func (r *reader) runtimeFraction(p *corev3.RuntimeFractionalPercent, at *field.Path) *route.Fraction {
	if p == nil {
		return nil
	}
	f := route.Fraction{Denominator: 100}
	if p.GetDefaultValue() != nil {
		f = r.fraction(p.GetDefaultValue(), at.Child("default_value"))
	}
	if set, ok := r.env.Values.share(p.GetRuntimeKey()); ok {
		f = set
	}
	return &f
}

// runtimeDouble reads a number that the runtime may set, nil if there is none.
func (r *reader) runtimeDouble(p *corev3.RuntimeDouble) *float64 {
	if p == nil {
		return nil
	}
	v := p.GetDefaultValue()
	if set := r.env.Values.get(p.GetRuntimeKey()).double; set != nil {
		v = *set
	}
	return &v
}

// runtimeInteger reads an integer of 32 or 64 bits that the runtime may set.
func runtimeInteger[N uint32 | uint64](r *reader, p interface {
	GetDefaultValue() N
	GetRuntimeKey() string
}) uint64 {
	return r.env.Values.integer(p.GetRuntimeKey(), uint64(p.GetDefaultValue()))
}

// runtimeFlag reads what is on, unless its default or the runtime says otherwise.
func (r *reader) runtimeFlag(p *corev3.RuntimeFeatureFlag) bool {
	if set := r.env.Values.get(p.GetRuntimeKey()).truth; set != nil {
		return *set
	}
	return truth(p.GetDefaultValue(), true)
}
