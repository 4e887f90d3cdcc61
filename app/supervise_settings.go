//go:build linux

package app

import (
	"context"
	"fmt"
	"slices"
	"strings"

	networkingv1beta1 "istio.io/client-go/pkg/apis/networking/v1beta1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/mallamesh/malla/base/version"
	"github.com/mallamesh/malla/config"
	"github.com/mallamesh/malla/config/kind"
	"github.com/mallamesh/malla/config/mesh"
	"github.com/mallamesh/malla/config/validate"
	"github.com/mallamesh/malla/control/ca"
	"github.com/mallamesh/malla/control/inject"
	"github.com/mallamesh/malla/local/api"
	"github.com/mallamesh/malla/local/router"
	"github.com/mallamesh/malla/local/seed"
)

// A proxySettings is what goes to every proxy that is injected from now on.
type proxySettings struct {
	maps    map[string]string // by the ConfigMap's name, MeshConfig as it was written
	shared  string            // the ConfigMap below the mesh's own; "": none
	objects []*networkingv1beta1.ProxyConfig
}

// proxySettings reads them.
func (s *supervisor) proxySettings(ctx context.Context) proxySettings {
	out := proxySettings{maps: map[string]string{}, objects: s.proxyConfigs(ctx)}
	out.shared = s.shared(ctx)
	for _, name := range append(slices.Clone(mesh.Names), out.shared) {
		if name == "" {
			continue
		}
		cm, err := s.client.CoreV1().ConfigMaps(seed.Namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			continue
		}
		if text, ok := cm.Data[mesh.Key]; ok {
			out.maps[name] = text
		}
	}
	return out
}

// shared is the ConfigMap that the control plane's Deployment has in [mesh.SharedEnv].
func (s *supervisor) shared(ctx context.Context) string {
	d, err := s.client.AppsV1().Deployments(seed.Namespace).Get(ctx, "istiod", metav1.GetOptions{})
	if err != nil {
		return ""
	}
	for _, c := range d.Spec.Template.Spec.Containers {
		for _, e := range c.Env {
			if e.Name == mesh.SharedEnv {
				return e.Value
			}
		}
	}
	return ""
}

// proxyConfigs are all objects of the kind ProxyConfig.
func (s *supervisor) proxyConfigs(ctx context.Context) []*networkingv1beta1.ProxyConfig {
	k, _ := kind.Named("ProxyConfig")
	list, err := s.objects.Resource(k.GVR()).List(ctx, metav1.ListOptions{})
	if err != nil {
		s.log.Warn("ProxyConfigs not read", "reason", err)
		return nil
	}
	var out []*networkingv1beta1.ProxyConfig
	for i := range list.Items {
		value, err := config.Typed(k, &list.Items[i])
		if err != nil {
			s.log.Warn("ProxyConfig not read", "reason", err) // it was judged on its way in
			continue
		}
		out = append(out, value.(*networkingv1beta1.ProxyConfig))
	}
	return out
}

// with is what the settings are once the request is done, and whether it has to do with them.
func (p proxySettings) with(r *api.Request) (proxySettings, bool) {
	out := proxySettings{shared: p.shared, maps: map[string]string{}, objects: slices.DeleteFunc(slices.Clone(p.objects), func(o *networkingv1beta1.ProxyConfig) bool {
		return r.Kind.Kind == "ProxyConfig" && o.Namespace == r.Namespace && o.Name == r.Name
	})}
	for name, text := range p.maps {
		out.maps[name] = text
	}
	switch {
	case r.Subresource != "":
	case r.Kind.Kind == "ProxyConfig":
		if r.Object != nil {
			value, err := config.Typed(r.Kind, r.Object)
			if err != nil {
				return p, false // who judges it says what is wrong
			}
			out.objects = append(out.objects, value.(*networkingv1beta1.ProxyConfig))
		}
		return out, true
	case r.Kind.Kind == "ConfigMap" && r.Namespace == seed.Namespace && (slices.Contains(mesh.Names, r.Name) || r.Name == p.shared):
		delete(out.maps, r.Name)
		if r.Object != nil {
			if text, ok, _ := unstructured.NestedString(r.Object.Object, "data", mesh.Key); ok {
				out.maps[r.Name] = text
			}
		}
		return out, true
	}
	return p, false
}

// injection is what the injector adds by them.
func (s *supervisor) injection(p proxySettings) inject.Options {
	o := inject.Options{
		Image: "malla/proxyv2:" + version.String(), Domain: router.ClusterDomain,
		Discovery: "istiod." + seed.Namespace + ".svc:15012", ClusterID: "Kubernetes", Everywhere: s.o.Inject,
		RootConfig: ca.RootConfigMap, ControlPlane: seed.Namespace,
	}
	text := ""
	for _, name := range mesh.Names {
		if t, ok := p.maps[name]; ok {
			text = t
			break
		}
	}
	text = mesh.Over(text, p.maps[p.shared])
	out, err := o.By(text, p.objects)
	if err != nil {
		s.log.Warn("meshConfig.defaultConfig not read", "reason", err)
	}
	return out
}

// judgeShared adds what is wrong with the mesh's settings in a ConfigMap that only the control plane's own environment makes one of them.
func (s *supervisor) judgeShared(ctx context.Context, r *api.Request, to *validate.Result) {
	if r.Kind.Kind != "ConfigMap" || r.Namespace != seed.Namespace || slices.Contains(mesh.Names, r.Name) || r.Name != s.shared(ctx) {
		return
	}
	var c corev1.ConfigMap
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(r.Object.Object, &c); err != nil {
		return // who judges every object has said so
	}
	found := validate.Settings(&c)
	to.Errors, to.Notices = append(to.Errors, found.Errors...), append(to.Notices, found.Notices...)
}

// mostPods are as many as a warning names.
const mostPods = 10

// tooLate names the pods whose proxies have started by other settings than the request makes, and go on by them.
func (s *supervisor) tooLate(ctx context.Context, r *api.Request) []string {
	if r.Kind.Kind != "ProxyConfig" && r.Kind.Kind != "ConfigMap" {
		return nil
	}
	now := s.proxySettings(ctx)
	next, ours := now.with(r)
	if !ours {
		return nil
	}
	list, err := s.client.CoreV1().Pods(corev1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil
	}
	before, after := s.injection(now), s.injection(next)
	var names []string
	var late []*corev1.Pod
	for i := range list.Items {
		if p := &list.Items[i]; inject.Injected(p) && inject.AtStart(p, before) != inject.AtStart(p, after) {
			names, late = append(names, p.Namespace+"/"+p.Name), append(late, p)
		}
	}
	if len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	if n := len(names) - mostPods; n > 0 {
		names = append(names[:mostPods], fmt.Sprintf("and %d more", n))
	}
	return []string{"proxies read these settings when they start, so these pods go on as before until they are restarted: " + strings.Join(names, ", ") + restartHint(s.o.Dir, late)}
}
