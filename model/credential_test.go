package model_test

import (
	"testing"

	"github.com/mallamesh/malla/model"
)

// Roots of several objects count together, with their revocation lists; of a Secret those in one beside it come first,
// unless the Secret itself is meant. Proxies have them if all may go to them.
func TestHeld(t *testing.T) {
	m := &model.Mesh{Credentials: map[model.CredentialKey]*model.Credential{
		{Kind: "Secret", Namespace: "a", Name: "x"}:        {CA: []byte("x"), CRL: []byte("listed x")},
		{Kind: "Secret", Namespace: "a", Name: "x-cacert"}: {CA: []byte("beside")},
		{Kind: "ConfigMap", Namespace: "b", Name: "y"}:     {CA: []byte("y"), CRL: []byte("listed y")},
		{Kind: "ConfigMap", Namespace: "b", Name: "none"}:  {NoCA: "has none"},
	}}
	x := model.SecretSource{Name: "x", Exact: true}
	with := func(s, also model.SecretSource) model.SecretSource {
		s.Also = &also
		return s
	}
	y := model.SecretSource{Kind: model.FromConfigMap, Namespace: "b", Name: "y", Granted: "a"}
	for _, test := range []struct {
		what    string
		of      model.SecretSource
		ca, crl string
		open    bool
	}{
		{"a Secret", model.SecretSource{Name: "x"}, "beside", "", true},
		{"the Secret itself", x, "x", "listed x", true},
		{"two", with(x, y), "x\ny", "listed x\nlisted y", true},
		{"two, of which one is another namespace's", with(x, model.SecretSource{Kind: model.FromConfigMap, Namespace: "b", Name: "y"}), "x\ny", "listed x\nlisted y", false},
		{"two, of which one has no lists", with(model.SecretSource{Name: "x"}, model.SecretSource{Name: "x"}), "beside\nbeside", "", true},
	} {
		held := m.Held(test.of, "a", true)
		if string(held.CA) != test.ca || string(held.CRL) != test.crl || test.of.Open("a") != test.open {
			t.Errorf("%s: %q, %q, open to the namespace %t", test.what, held.CA, held.CRL, test.of.Open("a"))
		}
	}
	if held := m.Held(with(x, model.SecretSource{Kind: model.FromConfigMap, Namespace: "b", Name: "none"}), "a", true); held.NoCA == "" {
		t.Error("roots are said to be whole of which a part is missing")
	}
}
