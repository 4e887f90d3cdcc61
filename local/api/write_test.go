package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	appsapply "k8s.io/client-go/applyconfigurations/apps/v1"
	coreapply "k8s.io/client-go/applyconfigurations/core/v1"
	metaapply "k8s.io/client-go/applyconfigurations/meta/v1"
	"k8s.io/client-go/dynamic"

	"github.com/mallamesh/malla/local/api"
)

func deployment(name string) *appsv1.Deployment {
	l := map[string]string{"app": name}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", Labels: l},
		Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: l},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: l},
				Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "x:1"}}}},
		},
	}
}

func make1[T any](t *testing.T, f func(context.Context, T, metav1.CreateOptions) (T, error), o T) T {
	t.Helper()
	out, err := f(within(t), o, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestStaleWriteConflicts(t *testing.T) {
	_, c := start(t, api.Options{})
	cms := c.CoreV1().ConfigMaps("default")
	first := make1(t, cms.Create, configMap("a", "1"))
	second := first.DeepCopy()
	second.Data["k"] = "2"
	if _, err := cms.Update(within(t), second, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	first.Data["k"] = "3" // still at the first version
	if _, err := cms.Update(within(t), first, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
		t.Errorf("update at an old version: %v, want a conflict", err)
	}
	if _, err := cms.Create(within(t), configMap("a", "1"), metav1.CreateOptions{}); !apierrors.IsAlreadyExists(err) {
		t.Errorf("create again: %v, want AlreadyExists", err)
	}
	gone := configMap("b", "")
	if _, err := cms.Update(within(t), gone, metav1.UpdateOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("update of nothing: %v, want NotFound", err)
	}
}

// Controllers write what they think is right again and again; if it is so
// already, nobody must be woken.
func TestWriteThatChangesNothingHasNoNewVersion(t *testing.T) {
	_, c := start(t, api.Options{})
	d := make1(t, c.AppsV1().Deployments("default").Create, deployment("web"))
	again, err := c.AppsV1().Deployments("default").Update(within(t), d, metav1.UpdateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if again.ResourceVersion != d.ResourceVersion {
		t.Errorf("version %s became %s", d.ResourceVersion, again.ResourceVersion)
	}
	patched, err := c.AppsV1().Deployments("default").Patch(within(t), "web", types.StrategicMergePatchType, []byte(`{"spec":{"replicas":1}}`), metav1.PatchOptions{})
	if err != nil || patched.ResourceVersion != d.ResourceVersion {
		t.Errorf("patch to the same: version %s, %v", patched.ResourceVersion, err)
	}
}

func TestPatches(t *testing.T) {
	_, c := start(t, api.Options{})
	ds := c.AppsV1().Deployments("default")
	make1(t, ds.Create, deployment("web"))
	for _, test := range []struct {
		what  string
		typ   types.PatchType
		patch string
		want  string // of containers: name=image
	}{
		{"a strategic patch merges containers by name", types.StrategicMergePatchType,
			`{"spec":{"template":{"spec":{"containers":[{"name":"side","image":"y:1"}]}}}}`, "side=y:1 app=x:1"},
		{"a strategic patch deletes by directive", types.StrategicMergePatchType,
			`{"spec":{"template":{"spec":{"containers":[{"name":"side","$patch":"delete"}]}}}}`, "app=x:1"},
		{"a JSON patch changes one place", types.JSONPatchType,
			`[{"op":"replace","path":"/spec/template/spec/containers/0/image","value":"x:2"}]`, "app=x:2"},
		{"a merge patch replaces lists", types.MergePatchType,
			`{"spec":{"template":{"spec":{"containers":[{"name":"app","image":"x:3"}]}}}}`, "app=x:3"},
	} {
		d, err := ds.Patch(within(t), "web", test.typ, []byte(test.patch), metav1.PatchOptions{})
		if err != nil {
			t.Errorf("%s: %v", test.what, err)
			continue
		}
		var got []string
		for _, c := range d.Spec.Template.Spec.Containers {
			got = append(got, c.Name+"="+c.Image)
		}
		if s := strings.Join(got, " "); s != test.want {
			t.Errorf("%s: got %s, want %s", test.what, s, test.want)
		}
	}
	d, _ := ds.Get(within(t), "web", metav1.GetOptions{})
	if d.Generation != 5 {
		t.Errorf("generation %d after 4 changes of the spec, want 5", d.Generation)
	}
	for what, bad := range map[string]struct {
		typ   types.PatchType
		patch string
	}{
		"a JSON patch of nothing":          {types.JSONPatchType, `[{"op":"remove","path":"/spec/nothing"}]`},
		"a JSON patch that doubles":        {types.JSONPatchType, `[{"op":"add","path":"/metadata/annotations","value":{}}` + strings.Repeat(`,{"op":"copy","from":"/metadata","path":"/metadata/annotations/x"}`, 60) + `]`},
		"another name":                     {types.MergePatchType, `{"metadata":{"name":"x"}}`},
		"an old version":                   {types.MergePatchType, `{"metadata":{"resourceVersion":"1"}}`},
		"a selector that never may change": {types.MergePatchType, `{"spec":{"selector":{"matchLabels":{"app":"y"}}}}`},
		"no JSON":                          {types.MergePatchType, `{`},
	} {
		if _, err := ds.Patch(within(t), "web", bad.typ, []byte(bad.patch), metav1.PatchOptions{}); err == nil {
			t.Errorf("%s is accepted", what)
		}
	}
}

func TestServerSideApply(t *testing.T) {
	_, c := start(t, api.Options{})
	ds := c.AppsV1().Deployments("default")
	want := func(replicas int32, image string) *appsapply.DeploymentApplyConfiguration {
		l := map[string]string{"app": "web"}
		return appsapply.Deployment("web", "default").WithSpec(appsapply.DeploymentSpec().WithReplicas(replicas).
			WithSelector(metaapply.LabelSelector().WithMatchLabels(l)).
			WithTemplate(coreapply.PodTemplateSpec().WithLabels(l).WithSpec(coreapply.PodSpec().
				WithContainers(coreapply.Container().WithName("app").WithImage(image)))))
	}
	if _, err := ds.Apply(within(t), want(2, "x:1"), metav1.ApplyOptions{FieldManager: "a"}); err != nil {
		t.Fatal(err)
	}
	// What a scaler writes becomes its own, and applying over it is a conflict.
	if _, err := ds.Patch(within(t), "web", types.MergePatchType, []byte(`{"spec":{"replicas":5}}`), metav1.PatchOptions{FieldManager: "scaler"}); err != nil {
		t.Fatal(err)
	}
	if _, err := ds.Apply(within(t), want(2, "x:2"), metav1.ApplyOptions{FieldManager: "a"}); !apierrors.IsConflict(err) {
		t.Errorf("apply over another manager's field: %v, want a conflict", err)
	}
	d, err := ds.Apply(within(t), want(2, "x:2"), metav1.ApplyOptions{FieldManager: "a", Force: true})
	if err != nil || *d.Spec.Replicas != 2 || d.Spec.Template.Spec.Containers[0].Image != "x:2" {
		t.Errorf("forced apply: %+v, %v", d.Spec, err)
	}
	// A field that its manager names no more goes.
	cm := func(data map[string]string) *coreapply.ConfigMapApplyConfiguration {
		return coreapply.ConfigMap("cm", "default").WithData(data)
	}
	cms := c.CoreV1().ConfigMaps("default")
	for _, data := range []map[string]string{{"a": "1", "b": "2"}, {"a": "1"}} {
		got, err := cms.Apply(within(t), cm(data), metav1.ApplyOptions{FieldManager: "a"})
		if err != nil || fmt.Sprint(got.Data) != fmt.Sprint(data) {
			t.Errorf("applied %v, got %v, %v", data, got.Data, err)
		}
	}
	if _, err := cms.Apply(within(t), cm(nil), metav1.ApplyOptions{}); err == nil {
		t.Error("apply without a manager is accepted")
	}
}

// What kubectl has applied by its annotation it may go on with by server-side applies, in whatever version of the
// kind; what somebody else has changed since, and what others apply, are conflicts.
func TestServerSideApplyAfterClientSide(t *testing.T) {
	_, c := start(t, api.Options{})
	rest := c.CoreV1().RESTClient()
	const list = "/apis/networking.istio.io/v1beta1/namespaces/default/virtualservices"
	doc := func(timeout string, annotation ...string) []byte {
		meta := map[string]any{"name": "echo", "namespace": "default"}
		if len(annotation) > 0 {
			meta["annotations"] = map[string]any{corev1.LastAppliedConfigAnnotation: annotation[0]}
		}
		text, err := json.Marshal(map[string]any{"apiVersion": "networking.istio.io/v1beta1", "kind": "VirtualService", "metadata": meta,
			"spec": map[string]any{"hosts": []string{"echo"}, "http": []any{map[string]any{"timeout": timeout, "route": []any{map[string]any{"destination": map[string]any{"host": "echo"}}}}}}})
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	apply := func(manager, timeout string) error {
		return rest.Patch(types.ApplyPatchType).AbsPath(list+"/echo").Param("fieldManager", manager).Body(doc(timeout)).Do(within(t)).Error()
	}
	if err := rest.Post().AbsPath(list).Body(doc("1s", string(doc("1s")))).Do(within(t)).Error(); err != nil {
		t.Fatal(err)
	}
	if err := apply("flux", "2s"); !apierrors.IsConflict(err) {
		t.Errorf("another manager's apply: %v, want a conflict", err)
	}
	for _, timeout := range []string{"2s", "3s"} {
		if err := apply("kubectl", timeout); err != nil {
			t.Errorf("kubectl's apply after its own: %v", err)
		}
	}
	if err := rest.Patch(types.MergePatchType).AbsPath(list + "/echo").Body([]byte(`{"spec":{"http":[{"timeout":"9s","route":[{"destination":{"host":"echo"}}]}]}}`)).Do(within(t)).Error(); err != nil {
		t.Fatal(err)
	}
	if err := apply("kubectl", "4s"); !apierrors.IsConflict(err) {
		t.Errorf("kubectl's apply over what somebody else has changed: %v, want a conflict", err)
	}
}

func TestStatusAndSpecHaveTheirOwnDoors(t *testing.T) {
	_, c := start(t, api.Options{})
	ds := c.AppsV1().Deployments("default")
	d := deployment("web")
	d.Status.Replicas = 7
	d = make1(t, ds.Create, d)
	if d.Status.Replicas != 0 {
		t.Error("create writes the status")
	}
	d.Status.Replicas, d.Spec.Replicas = 3, nil
	d.Labels = map[string]string{"x": "y"}
	s, err := ds.UpdateStatus(within(t), d, metav1.UpdateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if s.Status.Replicas != 3 || *s.Spec.Replicas != 1 || s.Labels["app"] != "web" || s.Generation != 1 {
		t.Errorf("status update: %d replicas of %d, labels %v, generation %d", s.Status.Replicas, *s.Spec.Replicas, s.Labels, s.Generation)
	}
	s.Status.Replicas = 9
	s.Spec.Template.Spec.Containers[0].Image = "x:2"
	s, err = ds.Update(within(t), s, metav1.UpdateOptions{})
	if err != nil || s.Status.Replicas != 3 || s.Generation != 2 {
		t.Errorf("update: %d replicas, generation %d, %v", s.Status.Replicas, s.Generation, err)
	}
}

func TestScale(t *testing.T) {
	_, c := start(t, api.Options{})
	ds := c.AppsV1().Deployments("default")
	make1(t, ds.Create, deployment("web"))
	sc, err := ds.GetScale(within(t), "web", metav1.GetOptions{})
	if err != nil || sc.Spec.Replicas != 1 || sc.Status.Selector != "app=web" {
		t.Fatalf("scale: %+v, %v", sc, err)
	}
	sc.Spec.Replicas = 4
	if _, err := ds.UpdateScale(within(t), "web", sc, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := ds.UpdateScale(within(t), "web", sc, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
		t.Errorf("scale at an old version: %v, want a conflict", err)
	}
	if d, _ := ds.Get(within(t), "web", metav1.GetOptions{}); *d.Spec.Replicas != 4 || d.Generation != 2 {
		t.Errorf("%d replicas, generation %d; want 4 and 2", *d.Spec.Replicas, d.Generation)
	}
}

func TestRefusals(t *testing.T) {
	_, c := start(t, api.Options{})
	ctx := within(t)
	svc := func(edit func(*corev1.Service)) error {
		s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "s"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}
		edit(s)
		_, err := c.CoreV1().Services("default").Create(ctx, s, metav1.CreateOptions{DryRun: []string{"All"}})
		return err
	}
	dep := func(edit func(*appsv1.Deployment)) error {
		d := deployment("d")
		edit(d)
		_, err := c.AppsV1().Deployments("default").Create(ctx, d, metav1.CreateOptions{DryRun: []string{"All"}})
		return err
	}
	for _, test := range []struct {
		what string
		err  error
		want string
	}{
		{"a service name that is no DNS label", svc(func(s *corev1.Service) { s.Name = "1x" }), "metadata.name"},
		{"two ports without names", svc(func(s *corev1.Service) { s.Spec.Ports = []corev1.ServicePort{{Port: 1}, {Port: 2}} }), "spec.ports[0].name"},
		{"an address out of range", svc(func(s *corev1.Service) { s.Spec.ClusterIP = "192.168.0.1" }), "10.96.0.0/16"},
		{"an address that is taken", svc(func(s *corev1.Service) { s.Spec.ClusterIP = "10.96.0.10" }), "kube-system/kube-dns"},
		{"a template that is not selected", dep(func(d *appsv1.Deployment) { d.Spec.Template.Labels = nil }), "`selector` does not match template `labels`"},
		{"no containers", dep(func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers = nil }), "spec.template.spec.containers"},
		{"a mount without a volume", dep(func(d *appsv1.Deployment) {
			d.Spec.Template.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/v"}}
		}), "spec.template.spec.containers[0].volumeMounts[0].name"},
		{"a label with a space", dep(func(d *appsv1.Deployment) { d.Labels["a"] = "b c" }), "metadata.labels"},
		{"a namespace that is not there", func() error {
			_, err := c.CoreV1().ConfigMaps("nowhere").Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "x"}}, metav1.CreateOptions{})
			return err
		}(), `namespaces "nowhere" not found`},
		{"a pod of an account that is not there", func() error {
			_, err := c.CoreV1().Pods("default").Create(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "x"},
				Spec: corev1.PodSpec{ServiceAccountName: "nobody", Containers: []corev1.Container{{Name: "a", Image: "b"}}}}, metav1.CreateOptions{})
			return err
		}(), `serviceaccount "nobody" not found`},
	} {
		if test.err == nil || !strings.Contains(test.err.Error(), test.want) {
			t.Errorf("%s: %v, want an error with %q", test.what, test.err, test.want)
		}
	}
	if err := svc(func(*corev1.Service) {}); err != nil {
		t.Errorf("a right service is refused: %v", err)
	}
	if l, _ := c.CoreV1().Services("default").List(ctx, metav1.ListOptions{}); len(l.Items) != 1 {
		t.Errorf("a dry run left something: %d services", len(l.Items))
	}
}

// Fields that a kind does not have are refused or told of, never dropped in silence.
func TestUnknownFields(t *testing.T) {
	s, _ := start(t, api.Options{})
	var told []string
	cfg := s.Config()
	cfg.WarningHandler = warnFunc(func(text string) { told = append(told, text) })
	c, err := dynamic.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	vs := schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1beta1", Resource: "virtualservices"}
	svc := schema.GroupVersionResource{Version: "v1", Resource: "services"}
	for _, test := range []struct {
		gvr  schema.GroupVersionResource
		doc  string
		path string
	}{
		{vs, `{"apiVersion":"networking.istio.io/v1beta1","kind":"VirtualService","metadata":{"name":"a"},"spec":{"hosts":["a"],"http":[{"route":[{"destination":{"host":"a"}}],"timeOut":"5s"}]}}`, "spec.http[0].timeOut"},
		{svc, `{"apiVersion":"v1","kind":"Service","metadata":{"name":"a"},"spec":{"ports":[{"port":80,"prot":"TCP"}]}}`, "spec.ports[0].prot"},
	} {
		var u unstructured.Unstructured
		if err := json.Unmarshal([]byte(test.doc), &u.Object); err != nil {
			t.Fatal(err)
		}
		_, err := c.Resource(test.gvr).Namespace("default").Create(within(t), u.DeepCopy(), metav1.CreateOptions{FieldValidation: "Strict"})
		if !apierrors.IsBadRequest(err) || !strings.Contains(err.Error(), test.path) {
			t.Errorf("strict: %v, want the path %s", err, test.path)
		}
		told = nil
		if _, err := c.Resource(test.gvr).Namespace("default").Create(within(t), u.DeepCopy(), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		if len(told) != 1 || !strings.Contains(told[0], test.path) {
			t.Errorf("warned %q, want the path %s", told, test.path)
		}
	}
}

type warnFunc func(string)

func (f warnFunc) HandleWarningHeader(code int, agent, text string) { f(text) }

// All served versions of a kind are one object.
func TestVersionsAreOneObject(t *testing.T) {
	s, _ := start(t, api.Options{})
	c, err := dynamic.NewForConfig(s.Config())
	if err != nil {
		t.Fatal(err)
	}
	at := func(v string) dynamic.ResourceInterface {
		return c.Resource(schema.GroupVersionResource{Group: "networking.istio.io", Version: v, Resource: "destinationrules"}).Namespace("default")
	}
	u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "networking.istio.io/v1alpha3", "kind": "DestinationRule",
		"metadata": map[string]any{"name": "a"}, "spec": map[string]any{"host": "a"}}}
	if _, err := at("v1alpha3").Create(within(t), u, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, v := range []string{"v1", "v1beta1", "v1alpha3"} {
		got, err := at(v).Get(within(t), "a", metav1.GetOptions{})
		if err != nil || got.GetAPIVersion() != "networking.istio.io/"+v {
			t.Errorf("get by %s: %v, %v", v, got, err)
		}
		list, err := at(v).List(within(t), metav1.ListOptions{})
		if err != nil || len(list.Items) != 1 || list.Items[0].GetAPIVersion() != "networking.istio.io/"+v {
			t.Errorf("list by %s: %v, %v", v, list, err)
		}
	}
	if _, err := at("v1beta1").Patch(within(t), "a", types.MergePatchType, []byte(`{"spec":{"host":"b"}}`), metav1.PatchOptions{}); err != nil {
		t.Error(err)
	}
}

func TestServiceAddresses(t *testing.T) {
	_, c := start(t, api.Options{})
	svcs := c.CoreV1().Services("default")
	mk := func(name string, edit func(*corev1.ServiceSpec)) *corev1.Service {
		s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}
		edit(&s.Spec)
		return make1(t, svcs.Create, s)
	}
	a := mk("a", func(*corev1.ServiceSpec) {})
	if len(a.Spec.ClusterIPs) != 1 || !strings.HasPrefix(a.Spec.ClusterIP, "10.96.") {
		t.Errorf("addresses %v, want one of IPv4, as in a cluster", a.Spec.ClusterIPs)
	}
	dual := corev1.IPFamilyPolicyPreferDualStack
	if d := mk("d", func(s *corev1.ServiceSpec) { s.IPFamilyPolicy = &dual }); len(d.Spec.ClusterIPs) != 2 || !strings.HasPrefix(d.Spec.ClusterIPs[1], "fd00:6d61:6c6c:2::") {
		t.Errorf("addresses %v, want one of each family", d.Spec.ClusterIPs)
	}
	if h := mk("h", func(s *corev1.ServiceSpec) { s.ClusterIP = "None" }); h.Spec.ClusterIP != "None" || len(h.Spec.ClusterIPs) != 1 {
		t.Errorf("headless: %v", h.Spec.ClusterIPs)
	}
	if n := mk("n", func(s *corev1.ServiceSpec) { s.Type = "NodePort" }); n.Spec.Ports[0].NodePort < 30000 {
		t.Errorf("node port %d", n.Spec.Ports[0].NodePort)
	}
	if e := mk("e", func(s *corev1.ServiceSpec) { s.Type, s.ExternalName = "ExternalName", "example.com" }); e.Spec.ClusterIP != "" {
		t.Errorf("external name has address %q", e.Spec.ClusterIP)
	}
	// A document without addresses, as people apply it, keeps those that it has.
	a.ResourceVersion, a.Spec.ClusterIP, a.Spec.ClusterIPs, a.Spec.IPFamilies, a.Spec.IPFamilyPolicy = "", "", nil, nil, nil
	a.Spec.Selector = map[string]string{"x": "y"}
	b, err := svcs.Update(within(t), a, metav1.UpdateOptions{})
	if err != nil || len(b.Spec.ClusterIPs) != 1 || b.Spec.ClusterIP == "" {
		t.Errorf("update lost the addresses: %v, %v", b.Spec.ClusterIPs, err)
	}
	seen := map[string]string{}
	for i := range 200 {
		s := mk(fmt.Sprintf("s%d", i), func(s *corev1.ServiceSpec) { s.Type = "LoadBalancer" })
		for _, id := range append(s.Spec.ClusterIPs, fmt.Sprint(s.Spec.Ports[0].NodePort)) {
			if other := seen[id]; other != "" {
				t.Fatalf("%s and %s share %s", other, s.Name, id)
			}
			seen[id] = s.Name
		}
	}
}

// A machine without IPv6 is a cluster of one family: what prefers both gets IPv4,
// what requires IPv6 is refused, as Kubernetes does.
func TestServicesWithoutIPv6(t *testing.T) {
	_, c := start(t, api.Options{IPv4Only: true})
	svcs := c.CoreV1().Services("default")
	try := func(name string, policy corev1.IPFamilyPolicy, families ...corev1.IPFamily) (*corev1.Service, error) {
		return svcs.Create(within(t), &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}, IPFamilyPolicy: &policy, IPFamilies: families},
		}, metav1.CreateOptions{})
	}
	s, err := try("prefer", corev1.IPFamilyPolicyPreferDualStack)
	if err != nil || len(s.Spec.ClusterIPs) != 1 || len(s.Spec.IPFamilies) != 1 || !strings.HasPrefix(s.Spec.ClusterIP, "10.96.") {
		t.Errorf("PreferDualStack: %v, %v, want one address of IPv4", s.Spec.ClusterIPs, err)
	}
	if _, err := try("require", corev1.IPFamilyPolicyRequireDualStack); err == nil || !strings.Contains(err.Error(), "spec.ipFamilyPolicy") {
		t.Errorf("RequireDualStack: %v, want it refused by its path", err)
	}
	if _, err := try("six", corev1.IPFamilyPolicySingleStack, corev1.IPv6Protocol); err == nil || !strings.Contains(err.Error(), "spec.ipFamilies[0]") {
		t.Errorf("IPv6: %v, want it refused by its path", err)
	}
}
