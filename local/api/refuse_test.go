package api_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/local/api"
)

// What an admitter refuses carries every reason with its field, which is what
// clients show; a reason that is about no field is the message.
func TestARefusalCarriesEveryReason(t *testing.T) {
	var list field.List
	list.Addf(field.At("spec", "http").Index(0).Child("route"), "none, want one")
	list = append(list, &field.Error{At: field.At("spec", "hosts"), Msg: "none", Code: "MAL0001", In: "ConfigMap default/x", Pos: "a.yaml:3"})
	for _, test := range []struct {
		err  error
		want []string
	}{
		{list, []string{"spec.http[0].route: none, want one", "spec.hosts: none (MAL0001)"}},
		{list[1], []string{"spec.hosts: none (MAL0001)"}},
		{&field.Error{Msg: "too late"}, []string{"metadata.name: too late"}},
		{errors.New("no room"), nil},
	} {
		_, c := start(t, api.Options{Admit: []api.Admitter{api.AdmitFunc(func(_ context.Context, r *api.Request) ([]string, error) {
			if r.Name == "x" {
				return nil, test.err
			}
			return nil, nil
		})}})
		_, err := c.CoreV1().ConfigMaps("default").Create(within(t), configMap("x", "1"), metav1.CreateOptions{})
		var st *apierrors.StatusError
		if !errors.As(err, &st) || !apierrors.IsInvalid(err) || st.ErrStatus.Message != test.err.Error() {
			t.Errorf("%v: %v", test.err, err)
			continue
		}
		if d := st.ErrStatus.Details; (d != nil) != (test.want != nil) {
			t.Errorf("%v: details %+v", test.err, d)
		} else if d != nil {
			var got []string
			for _, c := range d.Causes {
				got = append(got, c.Field+": "+c.Message)
			}
			if d.Kind != "ConfigMap" || d.Name != "x" || len(got) != len(test.want) {
				t.Errorf("%v: %+v, want %q", test.err, d, test.want)
				continue
			}
			for i := range got {
				if got[i] != test.want[i] {
					t.Errorf("got %q, want %q", got[i], test.want[i])
				}
			}
		}
	}
}

// A list comes whole whatever limit it is asked with, and a token to continue with is nobody's.
func TestListsAreWhole(t *testing.T) {
	_, c := start(t, api.Options{})
	all, err := c.CoreV1().Namespaces().List(within(t), metav1.ListOptions{})
	if err != nil || len(all.Items) < 2 {
		t.Fatalf("%d namespaces, %v", len(all.Items), err)
	}
	if l, err := c.CoreV1().Namespaces().List(within(t), metav1.ListOptions{Limit: 1}); err != nil || len(l.Items) != len(all.Items) || l.Continue != "" {
		t.Errorf("%d of %d namespaces, to continue with %q, %v", len(l.Items), len(all.Items), l.Continue, err)
	}
	if _, err := c.CoreV1().Namespaces().List(within(t), metav1.ListOptions{Limit: 1, Continue: "zzzz"}); !apierrors.IsBadRequest(err) {
		t.Errorf("a token that nobody has given out: %v", err)
	}
}

// What cannot be read as a kind is told in fields, all of them at once and with the object's name: a decoder ends at the
// first, and speaks of Go's types.
func TestWhatCannotBeReadIsToldInFields(t *testing.T) {
	_, c := start(t, api.Options{})
	for _, test := range []struct {
		body string
		want []string
	}{
		{`{"metadata":{"name":"x"},"spec":{"replicas":"two","selecter":{},"template":{"spec":{"containers":[{"name":"a","image":"b","ports":[{"containerPort":"80"}]}]}}}}`,
			[]string{"Deployment x in version", `spec.replicas: found "two", want a whole number`, "spec.selecter: unknown field; did you mean selector?", `spec.template.spec.containers[0].ports[0].containerPort: found "80"`}},
		{`{"metadata":{"name":"x"},"spec":{"replica":2,"templat":{}}}`,
			[]string{"Deployment x: strict decoding error", "spec.replica: unknown field; did you mean replicas?", "spec.templat: unknown field; did you mean template?"}},
		{`{"metadata":{"name":"x"},"spec":{"replicas":2,"replicas":3}}`, []string{`duplicate field "spec.replicas"`}}, // which only a decoder sees
	} {
		err := c.AppsV1().RESTClient().Post().Namespace("default").Resource("deployments").Param("fieldValidation", "Strict").
			SetHeader("Content-Type", "application/json").Body([]byte(test.body)).Do(within(t)).Error()
		if !apierrors.IsBadRequest(err) {
			t.Errorf("%s: %v, want a bad request", test.body, err)
			continue
		}
		for _, want := range test.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: lacks %q: %v", test.body, want, err)
			}
		}
		if strings.Contains(err.Error(), "Go struct") {
			t.Errorf("a Go type in %v", err)
		}
	}
}
