package api_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mallamesh/malla/local/api"
)

// rows asks for a table as kubectl does and returns a line per row.
func rows(t *testing.T, s *api.Server, path string) string {
	t.Helper()
	c := s.Config()
	r, err := http.NewRequestWithContext(within(t), "GET", c.Host+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")
	resp, err := c.Transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var table metav1.Table
	if err := json.NewDecoder(resp.Body).Decode(&table); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, row := range table.Rows {
		for i, c := range row.Cells {
			if table.ColumnDefinitions[i].Name != "Age" {
				raw, _ := json.Marshal(c)
				out.WriteString(strings.Trim(string(raw), `"`) + " ")
			}
		}
		out.WriteString("\n")
	}
	return out.String()
}

// A document that could not be applied shows in the list of its kind; the last
// good version of the object stays.
func TestRejectionsShowUntilTheyAreCleared(t *testing.T) {
	s, c := start(t, api.Options{})
	make1(t, c.CoreV1().Services("default").Create, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: corev1.ServiceSpec{ClusterIP: "None", Ports: []corev1.ServicePort{{Port: 80}}}})
	refuse(t, s, api.Rejection{Kind: "Service", Namespace: "default", Name: "web", Source: "a.yaml:4", Message: "spec.ports: wrong"},
		api.Rejection{Kind: "Service", Namespace: "default", Name: "new", Source: "b.yaml:1", Message: "spec: missing"})
	const path = "/api/v1/namespaces/default/services"
	want := "kubernetes ClusterIP 10.96.0.1 \\u003cnone\\u003e 443/TCP \\u003cnone\\u003e Accepted \n" +
		"new      refused: b.yaml:1: spec: missing \n" +
		"web ClusterIP None \\u003cnone\\u003e 80/TCP \\u003cnone\\u003e refused: a.yaml:4: spec.ports: wrong \n"
	if got := rows(t, s, path); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if got := rows(t, s, path+"/new"); got != "new      refused: b.yaml:1: spec: missing \n" {
		t.Errorf("get of the refused one: %s", got)
	}
	if _, err := c.CoreV1().Services("default").Get(within(t), "web", metav1.GetOptions{}); err != nil {
		t.Errorf("the last good version: %v", err)
	}
	if _, err := c.CoreV1().Services("default").Get(within(t), "new", metav1.GetOptions{}); !apierrors.IsNotFound(err) || !strings.Contains(err.Error(), "b.yaml:1: spec: missing") {
		t.Errorf("what never was an object: %v, want why it is not there", err)
	}
	refuse(t, s)
	if got := rows(t, s, path); strings.Contains(got, "yaml") || strings.Contains(got, "Accepted") {
		t.Errorf("after clearing:\n%s", got)
	}
}

// An object's STATUS tells of a refused document while that is the newest word on it: not once something else was applied, nor if
// what it says is in force anyway, applied from elsewhere.
func TestRejectionsEndWithWhatIsAppliedNext(t *testing.T) {
	s, c := start(t, api.Options{})
	const path = "/api/v1/namespaces/default/configmaps/rules"
	applied := func(data string) string {
		return `{"apiVersion":"v1","data":{"k":"` + data + `"},"kind":"ConfigMap","metadata":{"annotations":{},"name":"rules","namespace":"default"}}`
	}
	maps := c.CoreV1().ConfigMaps("default")
	apply := func(data string) {
		m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "rules", Annotations: map[string]string{corev1.LastAppliedConfigAnnotation: applied(data)}},
			Data: map[string]string{"k": data}}
		_, err := maps.Update(within(t), m, metav1.UpdateOptions{})
		if apierrors.IsNotFound(err) {
			_, err = maps.Create(within(t), m, metav1.CreateOptions{})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	shown := func(want bool) {
		t.Helper()
		if got := rows(t, s, path); strings.Contains(got, "refused: b.yaml:1") != want {
			t.Errorf("the refusal is shown: %v, want %v:\n%s", !want, want, got)
		}
	}
	document := func(data string) api.Rejection {
		return api.Rejection{Kind: "ConfigMap", Namespace: "default", Name: "rules", Source: "b.yaml:1", Message: "stands in these files already", Text: applied(data)}
	}
	apply("old")
	refuse(t, s, document("new"))
	shown(true)
	refuse(t, s, document("new")) // told again at the next save of something else
	shown(true)
	apply("third")
	shown(false)
	refuse(t, s, document("newer"))
	shown(true)
	apply("newer")
	shown(false)
	refuse(t, s, document("other"))
	refuse(t, s, document("newer")) // and then saved: as it is in force
	shown(false)
}

func refuse(t *testing.T, s *api.Server, list ...api.Rejection) {
	t.Helper()
	if err := s.SetRejections(list); err != nil {
		t.Fatal(err)
	}
}

// A document of which nobody knows the kind, or even that, is an object of a kind of its
// own; it goes when it is mended, and a change that changes nothing wakes nobody.
func TestDocumentsOfNoKind(t *testing.T) {
	s, _ := start(t, api.Options{})
	const path = "/apis/malla.dev/v1/refusals"
	gizmo := api.Rejection{Kind: "Gizmo", Name: "x", Source: "dir/Some File.yaml:3", Message: "kind: unknown"}
	broken := api.Rejection{Source: "dir/rules.yaml:7", Message: "did not find expected ','"}
	again := api.Rejection{Source: "other/rules.yaml:7", Message: "indented with a tab"}
	refuse(t, s, gizmo, broken, again)
	all := "rules.yaml-7   refused: dir/rules.yaml:7: did not find expected ',' \n" +
		"rules.yaml-7-2   refused: other/rules.yaml:7: indented with a tab \n"
	want := all + "some-file.yaml-3 Gizmo x refused: dir/Some File.yaml:3: kind: unknown \n"
	if got := rows(t, s, path); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	version := func() string {
		c := s.Config()
		resp, err := c.Transport.RoundTrip(httptest.NewRequestWithContext(within(t), "GET", c.Host+path, nil))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var list metav1.PartialObjectMetadataList
		if err := json.NewDecoder(resp.Body).Decode(&list); err != nil {
			t.Fatal(err)
		}
		return list.ResourceVersion
	}
	before := version()
	if refuse(t, s, gizmo, broken, again); version() != before {
		t.Error("the same refusals are written again")
	}
	if refuse(t, s, broken, again); rows(t, s, path) != all {
		t.Errorf("one mended, but\n%s", rows(t, s, path))
	}
}

// FuzzRequest looks for requests that make the server panic: none may, whatever
// they ask for and carry.
func FuzzRequest(f *testing.F) {
	s, err := api.New(api.Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { s.Close() })
	ns := "/api/v1/namespaces/default/"
	for _, seed := range []struct{ method, path, typ, accept, body string }{
		{"GET", ns + "pods?labelSelector=a%3Db&fieldSelector=status.phase%3DRunning", "", "application/json;as=Table;v=v1;g=meta.k8s.io", ""},
		{"POST", ns + "services", "application/json", "", `{"apiVersion":"v1","kind":"Service","metadata":{"name":"a"},"spec":{"ports":[{"port":80}]}}`},
		{"POST", ns + "pods", "application/yaml", "", "metadata: {name: a}\nspec: {containers: [{name: a, image: b, volumeMounts: [{name: c}]}]}"},
		{"PUT", ns + "services/kubernetes", "application/json", "", `{"spec":{"clusterIP":"None","ports":[1,null]}}`},
		{"PATCH", ns + "services/kubernetes", "application/json-patch+json", "", `[{"op":"move","from":"/spec","path":"/spec/ports"}]`},
		{"PATCH", ns + "services/kubernetes", "application/merge-patch+json", "", `{"metadata":{"ownerReferences":[{}]},"spec":null}`},
		{"PATCH", ns + "services/kubernetes", "application/strategic-merge-patch+json", "", `{"spec":{"ports":[{"$patch":"replace"}]}}`},
		{"PATCH", ns + "configmaps/x?fieldManager=a", "application/apply-patch+yaml", "", "apiVersion: v1\nkind: ConfigMap\ndata: {a: [1]}"},
		{"PATCH", "/apis/networking.istio.io/v1/namespaces/default/virtualservices/x?fieldManager=a", "application/apply-patch+yaml", "", "spec: {http: [{match: 1}]}"},
		{"POST", "/apis/apps/v1/namespaces/default/deployments", "application/json", "", `{"metadata":{"name":"a"},"spec":{"selector":{"matchExpressions":[{"operator":"?"}]},"template":{}}}`},
		{"PUT", "/apis/apps/v1/namespaces/default/deployments/a/scale", "application/json", "", `{"spec":{"replicas":-1}}`},
		{"POST", ns + "serviceaccounts/default/token", "application/json", "", `{"spec":{"expirationSeconds":-1,"boundObjectRef":{"kind":"Pod"}}}`},
		{"DELETE", ns + "configmaps/kube-root-ca.crt", "application/json", "", `{"propagationPolicy":"Foreground"}`},
		{"GET", ns + "pods/x/log?tailLines=-1", "", "", ""},
		{"GET", "/openapi/v3/apis/apps/v1", "", "", ""},
		{"POST", "/apis/authentication.k8s.io/v1/tokenreviews", "application/json", "", `{"spec":{"token":"a.b.c"}}`},
	} {
		f.Add(seed.method, seed.path, seed.typ, seed.accept, seed.body)
	}
	f.Fuzz(func(t *testing.T, method, path, typ, accept, body string) {
		c := s.Config()
		r, err := http.NewRequestWithContext(t.Context(), method, c.Host+path, strings.NewReader(body))
		if err != nil || strings.Contains(path, "watch") {
			t.Skip()
		}
		r.Header["Content-Type"], r.Header["Accept"] = []string{typ}, []string{accept}
		resp, err := c.Transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode == http.StatusInternalServerError {
			var st metav1.Status
			json.NewDecoder(resp.Body).Decode(&st)
			t.Errorf("%s %s %q: %s", method, path, body, st.Message)
		}
	})
}
