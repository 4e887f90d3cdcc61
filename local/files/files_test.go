package files

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/config/load"
	"github.com/mallamesh/malla/config/validate"
	"github.com/mallamesh/malla/local/api"
)

var configMaps = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}

// fixture is a directory, an API server and a follower between them.
type fixture struct {
	t      *testing.T
	dir    string
	client dynamic.Interface
	f      *Follower
	events []string
	wrong  []Rejection
	broken bool // nothing gets through to the server
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func newFixture(t *testing.T) *fixture {
	t.Helper()
	server, err := api.New(api.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	x := &fixture{t: t, dir: t.TempDir()}
	cfg := server.Config()
	cfg.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			if x.broken {
				return nil, errors.New("the server hangs")
			}
			return next.RoundTrip(r)
		})
	})
	if x.client, err = dynamic.NewForConfig(cfg); err != nil {
		t.Fatal(err)
	}
	x.f = x.follower()
	return x
}

func (x *fixture) follower() *Follower {
	return New(Options{
		Paths: []string{x.dir}, Client: x.client,
		Check:  func(d *load.Doc) field.List { return validate.Object(d.Object, d.Pos).Errors },
		Reject: func(r []Rejection) { x.wrong = r },
		Tell: func(e Event) {
			if e.Change != Unchanged {
				x.events = append(x.events, fmt.Sprintf("%s %s", e.Key, e.Change))
			}
		},
	})
}

// write saves a file ("" removes it) and makes a pass; it returns what happened.
func (x *fixture) write(name, text string) string {
	x.t.Helper()
	path := filepath.Join(x.dir, name)
	var err error
	if text == "" {
		err = os.Remove(path)
	} else {
		err = os.WriteFile(path, []byte(text), 0o600)
	}
	if err != nil {
		x.t.Fatal(err)
	}
	x.events = nil
	x.f.Pass(x.t.Context())
	return strings.Join(x.events, ", ")
}

func (x *fixture) data(name string) string {
	x.t.Helper()
	u, err := x.client.Resource(configMaps).Namespace("default").Get(x.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(u.Object["data"])
}

func configMap(name, data string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + name + "}\ndata: " + data + "\n---\n"
}

func TestSavingIsApplyingAndRemovingIsDeleting(t *testing.T) {
	x := newFixture(t)
	for _, step := range []struct{ name, text, want string }{
		{"a.yaml", configMap("one", "{k: v}") + configMap("two", "{k: v}"), "configmap/one in default created, configmap/two in default created"},
		{"a.yaml", configMap("one", "{k: v}") + configMap("two", "{k: v}"), ""},
		{"a.yaml", configMap("one", "{k: w}") + configMap("two", "{k: v}"), "configmap/one in default configured"},
		{"a.yaml", configMap("one", "{k: w}"), "configmap/two in default deleted"},
		{"a.yaml", "", "configmap/one in default deleted"},
	} {
		if got := x.write(step.name, step.text); got != step.want {
			t.Errorf("got %q, want %q", got, step.want)
		}
	}
}

// The namespace default is always there: without its file it has nothing of it any more, and nothing is wrong.
func TestANamespaceThatStaysIsAsItWasWithoutItsFile(t *testing.T) {
	x := newFixture(t)
	x.write("a.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: default, labels: {istio-injection: enabled}}\n")
	if got := x.write("a.yaml", ""); got != "namespace/default configured" || len(x.wrong) != 0 {
		t.Errorf("%q, refusals %v", got, x.wrong)
	}
	u, err := x.client.Resource(schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}).Get(t.Context(), "default", metav1.GetOptions{})
	if err != nil || u.GetLabels()["istio-injection"] != "" || u.GetAnnotations()[Source] != "" {
		t.Errorf("%v: labels %v, annotations %v", err, u.GetLabels(), u.GetAnnotations())
	}
}

// What the server could not delete is told, and is deleted by the next pass.
func TestWhatCannotBeDeletedIsNotForgotten(t *testing.T) {
	x := newFixture(t)
	x.write("a.yaml", configMap("one", "{k: v}"))
	x.broken = true
	if got := x.write("a.yaml", ""); got != "" || len(x.wrong) != 1 || !strings.Contains(x.wrong[0].Message, "cannot be deleted") {
		t.Errorf("%q, refusals %v", got, x.wrong)
	}
	x.broken = false
	x.events = nil
	x.f.Pass(t.Context())
	if got := strings.Join(x.events, ", "); got != "configmap/one in default deleted" || len(x.wrong) != 0 {
		t.Errorf("then %q, refusals %v", got, x.wrong)
	}
}

// Kinds of one name and different groups are different kinds.
func TestKindsOfOneNameAreToldApart(t *testing.T) {
	x := newFixture(t)
	x.write("a.yaml", "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: shop}\nspec: {gatewayClassName: istio}\n---\n"+
		"apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: shop}\nspec: {selector: {istio: x}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [\"*\"]}]}\n")
	if got := strings.Join(x.events, ", "); got != "gateway/shop in default created" {
		t.Errorf("got %q", got)
	}
	if len(x.wrong) != 1 || x.wrong[0].Group != "gateway.networking.k8s.io" || strings.Contains(x.wrong[0].Message, "stands in these files already") {
		t.Errorf("refused: %+v", x.wrong)
	}
}

func TestFieldsOfOthersStay(t *testing.T) {
	x := newFixture(t)
	x.write("a.yaml", configMap("one", "{ours: a, gone: b}"))
	_, err := x.client.Resource(configMaps).Namespace("default").Patch(t.Context(), "one", types.MergePatchType, []byte(`{"data":{"theirs":"c"}}`), metav1.PatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	x.write("a.yaml", configMap("one", "{ours: A}"))
	if got := x.data("one"); got != "map[ours:A theirs:c]" {
		t.Errorf("got %s, want what the file no longer says to go and what others set to stay", got)
	}
}

func TestWrongDocumentsChangeNothing(t *testing.T) {
	x := newFixture(t)
	x.write("a.yaml", configMap("one", "{k: v}")+configMap("two", "{k: v}"))
	got := x.write("a.yaml", configMap("one", "{k: v}")+strings.Replace(configMap("two", "{k: w}"), "\ndata:", "\ndta:", 1)+configMap("three", "{k: v}"))
	if got != "configmap/three in default created" {
		t.Errorf("got %q, want the right document to be applied", got)
	}
	if len(x.wrong) != 1 || x.wrong[0].Name != "two" || !strings.HasSuffix(x.wrong[0].Source, "a.yaml:9") || !strings.Contains(x.wrong[0].Message, "dta") {
		t.Errorf("rejected %+v, want ConfigMap two at line 9, with its field", x.wrong)
	}
	if got := x.data("two"); got != "map[k:v]" {
		t.Errorf("the last good version is not in force: %s", got)
	}
	if x.write("a.yaml", configMap("one", "{k: v}")+configMap("two", "{k: w}")+configMap("three", "{k: v}")); len(x.wrong) != 0 || x.data("two") != "map[k:w]" {
		t.Errorf("mended, but %+v, %s", x.wrong, x.data("two"))
	}
}

func TestUnreadableFileLosesNothing(t *testing.T) {
	x := newFixture(t)
	x.write("a.yaml", configMap("one", "{k: v}"))
	if got := x.write("a.yaml", "apiVersion: v1\nkind: [ConfigMap\n"); got != "" || len(x.wrong) != 1 {
		t.Errorf("got %q, %+v: what cannot be read says nothing about what should go", got, x.wrong)
	}
	if got := x.data("one"); got != "map[k:v]" {
		t.Errorf("got %s", got)
	}
}

func TestWrongCopyDoesNotTakeTheGoodOneAlong(t *testing.T) {
	x := newFixture(t)
	x.write("b.yaml", configMap("one", "{k: v}"))
	x.write("a.yaml", strings.Replace(configMap("one", "{k: w}"), "\ndata:", "\ndta:", 1)) // a name before b.yaml
	if len(x.wrong) != 1 || !strings.HasSuffix(x.wrong[0].Source, "a.yaml:1") || x.data("one") != "map[k:v]" {
		t.Errorf("rejected %+v, data %s; want the newcomer refused", x.wrong, x.data("one"))
	}
	y := newFixture(t)
	if err := os.WriteFile(filepath.Join(y.dir, "a.yaml"), []byte(strings.Replace(configMap("one", "{k: w}"), "\ndata:", "\ndta:", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := y.write("b.yaml", configMap("one", "{k: v}")); got != "configmap/one in default created" {
		t.Errorf("got %q, want the good one of two new ones", got)
	}
}

func TestNamelessDocumentLosesNothing(t *testing.T) {
	x := newFixture(t)
	x.write("a.yaml", configMap("one", "{k: v}"))
	if got := x.write("a.yaml", strings.Replace(configMap("one", "{k: v}"), "name:", "nme:", 1)); got != "" {
		t.Errorf("got %q: an object whose name was mistyped is not a removed one", got)
	}
}

func TestObjectBelongsToItsLastWriter(t *testing.T) {
	x := newFixture(t)
	x.write("a.yaml", configMap("one", "{k: v}"))
	u, err := x.client.Resource(configMaps).Namespace("default").Get(t.Context(), "one", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	annotations := u.GetAnnotations()
	delete(annotations, Source) // as an apply from elsewhere does
	u.SetAnnotations(annotations)
	if _, err := x.client.Resource(configMaps).Namespace("default").Update(t.Context(), u, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := x.write("a.yaml", ""); got != "" {
		t.Errorf("got %q: the file deletes what it no longer owns", got)
	}
}

func TestAnotherRunCleansUpAfterTheLast(t *testing.T) {
	x := newFixture(t)
	x.write("a.yaml", configMap("one", "{k: v}")+configMap("two", "{k: v}"))
	if err := os.WriteFile(filepath.Join(x.dir, "a.yaml"), []byte(configMap("one", "{k: v}")), 0o600); err != nil {
		t.Fatal(err)
	}
	x.f = x.follower()
	if err := x.f.Adopt(t.Context()); err != nil {
		t.Fatal(err)
	}
	x.events = nil
	x.f.Pass(t.Context())
	if got := strings.Join(x.events, ", "); got != "configmap/two in default deleted" {
		t.Errorf("got %q", got)
	}
}

// What somebody applied by hand in an earlier run is there again, though no file has it: that is told, but for what a file has by now.
func TestWhatAnEarlierRunWasGivenByHandIsNamed(t *testing.T) {
	x := newFixture(t)
	for _, name := range []string{"by-hand", "in-a-file-now", "made-by-a-program"} {
		u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": name}}}
		if name != "made-by-a-program" {
			u.SetAnnotations(map[string]string{lastApplied: "{}"})
		}
		if _, err := x.client.Resource(configMaps).Namespace("default").Create(t.Context(), u, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	x.f = x.follower()
	if err := x.f.Adopt(t.Context()); err != nil {
		t.Fatal(err)
	}
	x.write("a.yaml", configMap("in-a-file-now", "{k: v}"))
	if got := fmt.Sprint(x.f.Left()); got != "[configmap/by-hand in default]" {
		t.Errorf("named are %s", got)
	}
}

func TestOneObjectTwiceIsToldTwice(t *testing.T) {
	x := newFixture(t)
	x.write("a.yaml", configMap("one", "{k: v}"))
	x.write("b.yaml", configMap("one", "{k: w}"))
	if len(x.wrong) != 1 || !strings.Contains(x.wrong[0].Message, "a.yaml:1") {
		t.Errorf("rejected %+v, want the second, naming the first", x.wrong)
	}
}

// Who saves a file means all of it: what somebody deleted or changed since is again as
// the file says. Files that were not saved leave it alone.
func TestSavingAgainIsApplyingAgain(t *testing.T) {
	x := newFixture(t)
	x.write("a.yaml", configMap("one", "{k: v}")+configMap("two", "{k: v}"))
	maps := x.client.Resource(configMaps).Namespace("default")
	if err := maps.Delete(t.Context(), "one", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := maps.Patch(t.Context(), "two", types.MergePatchType, []byte(`{"data":{"k":"by hand"}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := x.write("b.yaml", configMap("three", "{k: v}")); got != "configmap/three in default created" || x.data("two") != "map[k:by hand]" {
		t.Errorf("another file was saved: %q, %s", got, x.data("two"))
	}
	if got := x.write("a.yaml", configMap("one", "{k: v}")+configMap("two", "{k: v}")+"# saved\n"); got != "configmap/one in default created, configmap/two in default configured" {
		t.Errorf("saved again: %q, %s", got, x.data("two"))
	}
}

// A kustomization that cannot be built says nothing about what should go.
func TestBrokenKustomizationLosesNothing(t *testing.T) {
	x := newFixture(t)
	if err := os.Mkdir(filepath.Join(x.dir, "base"), 0o700); err != nil {
		t.Fatal(err)
	}
	x.write("base/kustomization.yaml", "resources: [cm.yaml]\n")
	x.write("base/cm.yaml", configMap("one", "{k: v}"))
	x.write("kustomization.yaml", "resources: [base]\nnamePrefix: my-\n")
	if got := x.data("my-one"); got != "map[k:v]" {
		t.Fatalf("got %s", got)
	}
	x.write("kustomization.yaml", "resources: [base, nosuch.yaml]\nnamePrefix: my-\n")
	if got := x.data("my-one"); got != "map[k:v]" || len(x.wrong) != 1 {
		t.Errorf("got %s, %+v", got, x.wrong)
	}
	x.write("base/cm.yaml", configMap("two", "{k: v}"))
	x.write("kustomization.yaml", "resources: [base]\nnamePrefix: my-\n")
	if one, two := x.data("my-one"), x.data("my-two"); !strings.Contains(one, "not found") || two != "map[k:v]" || len(x.wrong) != 0 {
		t.Errorf("mended: my-one %s, my-two %s, %+v", one, two, x.wrong)
	}
}
