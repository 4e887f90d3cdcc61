package strict

import (
	"reflect"
	"testing"

	meshv1alpha1 "istio.io/api/mesh/v1alpha1"
	networking "istio.io/api/networking/v1alpha3"
	corev1 "k8s.io/api/core/v1"

	"github.com/mallamesh/malla/config/kind"
)

// A row about a field that does not exist would never have an effect.
func TestRowsNameFields(t *testing.T) {
	for _, k := range kind.All {
		p := Type(reflect.TypeOf(k.New()).Elem(), nil)
		for _, f := range k.Fields {
			if !p.Has(f.Path) {
				t.Errorf("%s has no field %s", k.Kind, f.Path)
			}
		}
	}
	p := Type(reflect.TypeFor[meshv1alpha1.MeshConfig](), nil)
	for _, f := range kind.MeshFields {
		if !p.Has(f.Path) {
			t.Errorf("MeshConfig has no field %s", f.Path)
		}
	}
}

func TestForms(t *testing.T) {
	pod := Type(reflect.TypeFor[corev1.PodSpec](), nil)
	route := Type(reflect.TypeFor[networking.HTTPRoute](), nil)
	for _, test := range []struct {
		plan *Plan
		v    map[string]any
		want string
	}{
		{pod, m("hostname", "x"), ""},
		{pod, m("hostname", nil), ""}, // null is as if it were not written
		{pod, m("hostname", int64(5)), `hostname: found 5, want a text; put it in quotes: "5"`},
		{pod, m("hostname", 1.5), `hostname: found 1.5, want a text; put it in quotes, as it was written`},
		{pod, m("hostNetwork", "yes"), `hostNetwork: found "yes", want true or false`},
		{pod, m("terminationGracePeriodSeconds", "5"), `terminationGracePeriodSeconds: found "5", want a whole number; leave the quotes out`},
		{pod, m("terminationGracePeriodSeconds", 5.0), ""}, // JSON knows one kind of number
		{pod, m("terminationGracePeriodSeconds", 5.5), `terminationGracePeriodSeconds: found 5.5, want a whole number`},
		{pod, m("priority", int64(1<<40)), `priority: found 1099511627776, want a whole number from -2147483648 to 2147483647`},
		{pod, m("overhead", m("cpu", "many")), `overhead.cpu: found "many", want a quantity such as 500m, 64Mi or 2`},
		{pod, m("overhead", m("cpu", int64(2))), ""},
		{pod, m("containers", m("name", "x")), `containers: found an object, want a list`},
		{pod, m("containers", []any{nil}), `containers[0]: found nothing, want a value`},
		{pod, m("nodeSelector", "x"), `nodeSelector: found "x", want names with values`},
		{pod, m("containers", []any{m("livenessProbe", m("httpGet", m("port", true)))}), `containers[0].livenessProbe.httpGet.port: found true, want a whole number or a text`},
		{pod, m("conteiners", []any{}), `conteiners: unknown field; did you mean containers?`},
		{route, m("timeout", "5"), `timeout: found "5", want a duration such as 500ms, 5s or 1m30s`},
		{route, m("timeout", "1h"), ""},
		{route, m("directResponse", m("body", m("bytes", "%%"))), `directResponse.body.bytes: not base64: illegal base64 data at input byte 0`},
		{route, m("match", []any{m("headers", m("x", nil))}), ""}, // presence
		{route, m("match", []any{m("port", int64(-1))}), `match[0].port: found -1, want a whole number from 0 to 4294967295`},
		{route, m("match", []any{m("uri", m("exact", "/", "regex", "."))}), `match[0].uri: exact and regex exclude each other; keep one`},
		{route, m("match", []any{m("ignore_uri_case", true)}), `match[0].ignore_uri_case: unknown field; did you mean ignoreUriCase?`},
		{route, m("redirect", m("derivePort", "x")), `redirect.derivePort: found "x", want one of FROM_PROTOCOL_DEFAULT, FROM_REQUEST_PORT`},
	} {
		var c Checker
		c.Value(test.v, test.plan, nil)
		got := ""
		if len(c.Errs) > 0 {
			got = c.Errs.Error()
		}
		if got != test.want {
			t.Errorf("%v:\nfound %s\nwant  %s", test.v, got, test.want)
		}
	}
}

// What was wrong is not in the copy, and all else is.
func TestCopy(t *testing.T) {
	rows := []kind.Field{
		{Path: "hostNetwork", Class: kind.Refused, Why: "no"},
		{Path: "affinity", Class: kind.Ignored, Why: "one machine"},
		{Path: "dnsPolicy", Class: kind.Ignored, Values: []string{"!ClusterFirst"}, Why: "one DNS"},
	}
	p := Type(reflect.TypeFor[corev1.PodSpec](), rows)
	in := m("hostname", "x", "hostNetwork", true, "affinity", m("nodeAffinity", m("wrong", 1)), "dnsPolicy", "ClusterFirst", "priority", "high", "hostPID", false)
	var c Checker
	out, ok := c.Value(in, p, nil)
	if want := m("hostname", "x", "affinity", m("nodeAffinity", m()), "dnsPolicy", "ClusterFirst", "hostPID", false); !ok || !reflect.DeepEqual(out, any(want)) {
		t.Errorf("copy %v, want %v", out, want)
	}
	if len(c.Errs) != 3 || len(c.Notices) != 1 || c.Notices[0].String() != "affinity: has no effect: one machine" {
		t.Errorf("errors %v, notices %v", c.Errs, c.Notices)
	}
	// A refused field that says nothing is no error: exported manifests have many.
	c = Checker{}
	c.Value(m("hostNetwork", false, "dnsPolicy", ""), p, nil)
	if len(c.Errs)+len(c.Notices) > 0 {
		t.Errorf("empty values: %v %v", c.Errs, c.Notices)
	}
}

func m(pairs ...any) map[string]any {
	out := map[string]any{}
	for i := 0; i < len(pairs); i += 2 {
		out[pairs[i].(string)] = pairs[i+1]
	}
	return out
}
