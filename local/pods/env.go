package pods

import (
	"fmt"
	"net/netip"
	"sort"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/mallamesh/malla/local/router"
)

// environ is a container's environment, in the order of its names' first mention.
type environ struct {
	names  []string
	values map[string]string
}

func (e *environ) set(name, value string) {
	if e.values == nil {
		e.values = map[string]string{}
	}
	if _, ok := e.values[name]; !ok {
		e.names = append(e.names, name)
	}
	e.values[name] = value
}

func (e *environ) list() []string {
	out := make([]string, len(e.names))
	for i, n := range e.names {
		out[i] = n + "=" + e.values[n]
	}
	return out
}

// environment computes a container's variables: the services', then envFrom,
// then env, where later ones may use earlier ones as $(NAME).
func (w *worker) environment(c *corev1.Container) (*environ, error) {
	e := &environ{}
	w.serviceLinks(e)
	for _, from := range c.EnvFrom {
		if err := w.envFrom(e, from); err != nil {
			return nil, err
		}
	}
	for _, v := range c.Env {
		if v.ValueFrom == nil {
			e.set(v.Name, expand(v.Value, e))
			continue
		}
		value, found, err := w.valueFrom(c, v.ValueFrom)
		if err != nil {
			return nil, fmt.Errorf("env %s: %w", v.Name, err)
		}
		if found {
			e.set(v.Name, value)
		}
	}
	return e, nil
}

// serviceLinks tells where the services are, as Kubernetes does: its own always,
// those of the pod's namespace unless enableServiceLinks is false.
func (w *worker) serviceLinks(e *environ) {
	e.set("KUBERNETES_SERVICE_HOST", router.KubernetesIPs[0].String())
	e.set("KUBERNETES_SERVICE_PORT", "443")
	e.set("KUBERNETES_SERVICE_PORT_HTTPS", "443")
	if on := w.object().Spec.EnableServiceLinks; on != nil && !*on {
		return
	}
	services, err := w.k.services.Services(w.namespace).List(labels.Everything())
	if err != nil {
		return
	}
	sort.Slice(services, func(i, j int) bool { return services[i].Name < services[j].Name })
	for _, s := range services {
		if s.Spec.ClusterIP == "" || s.Spec.ClusterIP == corev1.ClusterIPNone || len(s.Spec.Ports) == 0 {
			continue
		}
		name := strings.ToUpper(strings.ReplaceAll(s.Name, "-", "_"))
		e.set(name+"_SERVICE_HOST", s.Spec.ClusterIP)
		e.set(name+"_SERVICE_PORT", strconv.Itoa(int(s.Spec.Ports[0].Port)))
		for _, p := range s.Spec.Ports {
			if p.Name != "" {
				e.set(name+"_SERVICE_PORT_"+strings.ToUpper(strings.ReplaceAll(p.Name, "-", "_")), strconv.Itoa(int(p.Port)))
			}
		}
		for i, p := range s.Spec.Ports {
			protocol := strings.ToLower(string(p.Protocol))
			if protocol == "" {
				protocol = "tcp"
			}
			url := fmt.Sprintf("%s://%s:%d", protocol, hostInURL(s.Spec.ClusterIP), p.Port)
			if i == 0 {
				e.set(name+"_PORT", url)
			}
			prefix := fmt.Sprintf("%s_PORT_%d_%s", name, p.Port, strings.ToUpper(protocol))
			e.set(prefix, url)
			e.set(prefix+"_PROTO", protocol)
			e.set(prefix+"_PORT", strconv.Itoa(int(p.Port)))
			e.set(prefix+"_ADDR", s.Spec.ClusterIP)
		}
	}
}

func hostInURL(ip string) string {
	if a, err := netip.ParseAddr(ip); err == nil && a.Is6() {
		return "[" + ip + "]"
	}
	return ip
}

func (w *worker) envFrom(e *environ, from corev1.EnvFromSource) error {
	switch {
	case from.ConfigMapRef != nil:
		m, err := w.k.configs.ConfigMaps(w.namespace).Get(from.ConfigMapRef.Name)
		if err != nil {
			return missing(err, from.ConfigMapRef.Optional, "configmap %q not found", from.ConfigMapRef.Name)
		}
		for _, k := range keys(m.Data) {
			e.set(from.Prefix+k, m.Data[k])
		}
	case from.SecretRef != nil:
		s, err := w.k.secrets.Secrets(w.namespace).Get(from.SecretRef.Name)
		if err != nil {
			return missing(err, from.SecretRef.Optional, "secret %q not found", from.SecretRef.Name)
		}
		for _, k := range keys(s.Data) {
			e.set(from.Prefix+k, string(s.Data[k]))
		}
	}
	return nil
}

// missing turns what was not found into nothing if it is optional.
func missing(err error, optional *bool, format string, args ...any) error {
	if !apierrors.IsNotFound(err) {
		return err
	}
	if optional != nil && *optional {
		return nil
	}
	return fmt.Errorf(format, args...)
}

func keys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}

func (w *worker) valueFrom(c *corev1.Container, from *corev1.EnvVarSource) (value string, found bool, err error) {
	switch {
	case from.FieldRef != nil:
		value, err = w.field(from.FieldRef.FieldPath)
		return value, true, err
	case from.ResourceFieldRef != nil:
		value, err = w.resourceField(c, from.ResourceFieldRef)
		return value, true, err
	case from.ConfigMapKeyRef != nil:
		r := from.ConfigMapKeyRef
		m, err := w.k.configs.ConfigMaps(w.namespace).Get(r.Name)
		if err != nil {
			return "", false, missing(err, r.Optional, "configmap %q not found", r.Name)
		}
		if v, ok := m.Data[r.Key]; ok {
			return v, true, nil
		}
		return "", false, missingKey(r.Optional, "configmap %q has no key %q", r.Name, r.Key)
	case from.SecretKeyRef != nil:
		r := from.SecretKeyRef
		s, err := w.k.secrets.Secrets(w.namespace).Get(r.Name)
		if err != nil {
			return "", false, missing(err, r.Optional, "secret %q not found", r.Name)
		}
		if v, ok := s.Data[r.Key]; ok {
			return string(v), true, nil
		}
		return "", false, missingKey(r.Optional, "secret %q has no key %q", r.Name, r.Key)
	}
	return "", false, nil
}

func missingKey(optional *bool, format string, args ...any) error {
	if optional != nil && *optional {
		return nil
	}
	return fmt.Errorf(format, args...)
}

// field reads a field of the pod for the downward API.
func (w *worker) field(path string) (string, error) {
	p := w.object()
	if name, ok := subscript(path, "metadata.labels"); ok {
		return p.Labels[name], nil
	}
	if name, ok := subscript(path, "metadata.annotations"); ok {
		return p.Annotations[name], nil
	}
	switch path {
	case "metadata.name":
		return p.Name, nil
	case "metadata.namespace":
		return p.Namespace, nil
	case "metadata.uid":
		return string(p.UID), nil
	case "metadata.labels":
		return quoted(p.Labels), nil
	case "metadata.annotations":
		return quoted(p.Annotations), nil
	case "spec.nodeName":
		return Node, nil
	case "spec.serviceAccountName":
		return account(p), nil
	case "status.podIP":
		return w.addresses()[0].String(), nil
	case "status.podIPs":
		var all []string
		for _, ip := range w.addresses() {
			all = append(all, ip.String())
		}
		return strings.Join(all, ","), nil
	case "status.hostIP", "status.hostIPs":
		return hostIP, nil
	}
	return "", fmt.Errorf("fieldPath %q is not supported", path)
}

// hostIP is this machine as pods see it.
const hostIP = "10.244.0.1"

// subscript matches path against field['name'].
func subscript(path, field string) (name string, ok bool) {
	rest, ok := strings.CutPrefix(path, field+"['")
	if !ok {
		return "", false
	}
	return strings.CutSuffix(rest, "']")
}

// quoted writes labels as the downward API's files have them.
func quoted(m map[string]string) string {
	var lines []string
	for _, k := range keys(m) {
		lines = append(lines, k+"="+strconv.Quote(m[k]))
	}
	return strings.Join(lines, "\n")
}

// resourceField reads a request or limit; without one, what the machine has is
// not known here and counts as one core and 1 GiB.
func (w *worker) resourceField(c *corev1.Container, r *corev1.ResourceFieldSelector) (string, error) {
	kind, name, _ := strings.Cut(r.Resource, ".")
	list := c.Resources.Limits
	if kind == "requests" {
		list = c.Resources.Requests
	}
	q, ok := list[corev1.ResourceName(name)]
	if !ok {
		q = resource.MustParse("1")
		if name == "memory" {
			q = resource.MustParse("1Gi")
		}
	}
	divisor := r.Divisor
	if divisor.IsZero() {
		divisor = resource.MustParse("1")
	}
	if divisor.MilliValue() == 0 {
		return "", fmt.Errorf("divisor of %s is 0", r.Resource)
	}
	if name == "cpu" {
		return strconv.FormatInt((q.MilliValue()+divisor.MilliValue()-1)/divisor.MilliValue(), 10), nil
	}
	return strconv.FormatInt((q.Value()+divisor.Value()-1)/max(divisor.Value(), 1), 10), nil
}

// expand replaces $(NAME) by the variable's value; $$ stands for $, and an
// unknown name stays as it is (Kubernetes' rule).
func expand(s string, e *environ) string {
	if !strings.Contains(s, "$") {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '$' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		switch s[i+1] {
		case '$':
			b.WriteByte('$')
			i++
		case '(':
			end := strings.IndexByte(s[i:], ')')
			if end < 0 {
				b.WriteByte('$')
				continue
			}
			name := s[i+2 : i+end]
			if v, ok := e.values[name]; ok {
				b.WriteString(v)
			} else {
				b.WriteString(s[i : i+end+1])
			}
			i += end
		default:
			b.WriteByte('$')
		}
	}
	return b.String()
}

func expandAll(list []string, e *environ) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = expand(s, e)
	}
	return out
}
