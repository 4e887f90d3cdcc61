package validate

import (
	"path"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	klabels "k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/mallamesh/malla/base/field"
)

func (r *ruler) deployment(d *appsv1.Deployment) {
	at := field.At("spec")
	r.replicas(at.Child("replicas"), d.Spec.Replicas)
	r.template(at, d.Spec.Selector, &d.Spec.Template)
	s := d.Spec.Strategy
	r.choice(at.Child("strategy").Child("type"), string(s.Type), "RollingUpdate", "Recreate")
	if u := s.RollingUpdate; u != nil {
		p := at.Child("strategy").Child("rollingUpdate")
		if s.Type == appsv1.RecreateDeploymentStrategyType {
			r.errorf(p, "makes no sense with type Recreate")
		}
		r.countOrPercent(p.Child("maxSurge"), u.MaxSurge)
		r.countOrPercent(p.Child("maxUnavailable"), u.MaxUnavailable)
		if isZero(u.MaxSurge) && isZero(u.MaxUnavailable) {
			r.errorf(p, "maxSurge and maxUnavailable are both 0, so nothing could ever be replaced")
		}
	}
}

func (r *ruler) replicaSet(s *appsv1.ReplicaSet) {
	at := field.At("spec")
	r.replicas(at.Child("replicas"), s.Spec.Replicas)
	r.template(at, s.Spec.Selector, &s.Spec.Template)
}

// maxReplicas is more pods than one machine carries.
const maxReplicas = 1000

func (r *ruler) replicas(at *field.Path, n *int32) {
	if n != nil && (*n < 0 || *n > maxReplicas) {
		r.errorf(at, "found %d, want 0 to %d", *n, maxReplicas)
	}
}

// countOrPercent checks a number of pods or a percentage of them.
func (r *ruler) countOrPercent(at *field.Path, v *intstr.IntOrString) {
	if v == nil {
		return
	}
	n, err := intstr.GetScaledValueFromIntOrPercent(v, 100, false)
	if err != nil || n < 0 || v.Type == intstr.String && !strings.HasSuffix(v.StrVal, "%") {
		r.errorf(at, "found %q, want a number of pods or a percentage such as 25%%", v.String())
	}
}

func isZero(v *intstr.IntOrString) bool {
	return v != nil && (v.Type == intstr.Int && v.IntVal == 0 || v.StrVal == "0%")
}

func (r *ruler) template(at *field.Path, selector *metav1.LabelSelector, t *corev1.PodTemplateSpec) {
	template := at.Child("template")
	r.labels(template.Child("metadata").Child("labels"), t.Labels)
	r.annotations(template.Child("metadata"), t.Annotations, t.Labels)
	s, err := metav1.LabelSelectorAsSelector(selector)
	switch {
	case selector == nil || len(selector.MatchLabels)+len(selector.MatchExpressions) == 0:
		r.errorf(at.Child("selector"), "missing; want matchLabels that are among the labels of the template")
	case err != nil:
		r.errorf(at.Child("selector"), "%v", err)
	case !s.Matches(klabels.Set(t.Labels)):
		r.errorf(at.Child("selector"), "found %q, which does not select the template's own labels %q", s.String(), klabels.Set(t.Labels).String())
	}
	r.forEver(template, t)
}

// forEver checks the template of pods that are meant to run until they are deleted.
func (r *ruler) forEver(template *field.Path, t *corev1.PodTemplateSpec) {
	if p := t.Spec.RestartPolicy; p != "" && p != corev1.RestartPolicyAlways {
		r.errorf(template.Child("spec").Child("restartPolicy"), "found %q, want Always: the pods are meant to run for ever", p)
	}
	r.podSpec(template.Child("spec"), &t.Spec)
}

func (r *ruler) pod(p *corev1.Pod) {
	r.podSpec(field.At("spec"), &p.Spec)
}

func (r *ruler) podSpec(at *field.Path, s *corev1.PodSpec) {
	if len(s.Containers) == 0 {
		r.errorf(at.Child("containers"), "missing; want at least one container")
	}
	r.choice(at.Child("restartPolicy"), string(s.RestartPolicy), "Always", "OnFailure", "Never")
	for name, value := range map[string]string{"hostname": s.Hostname, "subdomain": s.Subdomain} {
		if value != "" {
			for _, p := range validation.IsDNS1123Label(value) {
				r.errorf(at.Child(name), "found %q: %s", value, problem(p))
			}
		}
	}
	if n := s.ServiceAccountName; n != "" {
		for _, p := range validation.IsDNS1123Subdomain(n) {
			r.errorf(at.Child("serviceAccountName"), "found %q: %s", n, problem(p))
		}
	}
	if g := s.TerminationGracePeriodSeconds; g != nil && *g < 0 {
		r.errorf(at.Child("terminationGracePeriodSeconds"), "found %d, want 0 or more", *g)
	}
	for i, a := range s.HostAliases {
		r.ip(at.Child("hostAliases").Index(i).Child("ip"), a.IP)
	}
	volumes := r.volumes(at.Child("volumes"), s.Volumes)
	names := map[string]bool{}
	for _, list := range []struct {
		name       string
		containers []corev1.Container
	}{{"initContainers", s.InitContainers}, {"containers", s.Containers}} {
		for i := range list.containers {
			p, c := at.Child(list.name).Index(i), &list.containers[i]
			if c.Name != "" && names[c.Name] {
				r.errorf(p.Child("name"), "found %q a second time", c.Name)
			}
			names[c.Name] = true
			r.container(p, c, volumes)
			if c.RestartPolicy != nil && list.name == "containers" {
				r.errorf(p.Child("restartPolicy"), "makes sense only for init containers")
			}
		}
	}
	r.portNames(at, s)
}

// portNames looks for names of ports that stand for several numbers.
func (r *ruler) portNames(at *field.Path, s *corev1.PodSpec) {
	for i, c := range s.Containers {
		for j, port := range c.Ports {
			for k := range j {
				if other := c.Ports[k]; port.Name != "" && other.Name == port.Name {
					r.errorf(at.Child("containers").Index(i).Child("ports").Index(j).Child("name"), "found %q a second time", port.Name)
				}
			}
		}
	}
}

func (r *ruler) container(at *field.Path, c *corev1.Container, volumes map[string]bool) {
	if c.Name == "" {
		r.errorf(at.Child("name"), "missing; every container has a name")
	} else {
		for _, p := range validation.IsDNS1123Label(c.Name) {
			r.errorf(at.Child("name"), "found %q: %s", c.Name, problem(p))
		}
	}
	switch {
	case c.Image == "":
		r.errorf(at.Child("image"), "missing; want the image that the container runs")
	case strings.TrimSpace(c.Image) != c.Image:
		r.errorf(at.Child("image"), "found %q, want it without blanks", c.Image)
	}
	if c.WorkingDir != "" && !strings.HasPrefix(c.WorkingDir, "/") {
		r.errorf(at.Child("workingDir"), "found %q, want an absolute path", c.WorkingDir)
	}
	for i, port := range c.Ports {
		p := at.Child("ports").Index(i)
		r.intPort(p.Child("containerPort"), port.ContainerPort)
		r.choice(p.Child("protocol"), string(port.Protocol), "TCP", "UDP")
		if port.Name != "" {
			for _, text := range validation.IsValidPortName(port.Name) {
				r.errorf(p.Child("name"), "found %q: %s", port.Name, problem(text))
			}
		}
	}
	r.env(at, c)
	r.mounts(at.Child("volumeMounts"), c.VolumeMounts, volumes)
	r.probe(at.Child("livenessProbe"), c.LivenessProbe, c)
	r.probe(at.Child("readinessProbe"), c.ReadinessProbe, c)
	r.probe(at.Child("startupProbe"), c.StartupProbe, c)
	if c.Lifecycle != nil {
		r.lifecycle(at.Child("lifecycle").Child("preStop"), c.Lifecycle.PreStop, c)
		r.lifecycle(at.Child("lifecycle").Child("postStart"), c.Lifecycle.PostStart, c)
	}
}

// fieldPaths are those of a pod's own fields that environment and volumes may show.
var fieldPaths = []string{
	"metadata.name", "metadata.namespace", "metadata.uid", "metadata.labels", "metadata.annotations",
	"spec.nodeName", "spec.serviceAccountName", "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs",
}

func (r *ruler) fieldRef(at *field.Path, ref *corev1.ObjectFieldSelector) {
	if ref == nil {
		return
	}
	base, _, subscript := strings.Cut(ref.FieldPath, "['")
	if !slices.Contains(fieldPaths, base) || subscript && (!strings.HasSuffix(ref.FieldPath, "']") || base != "metadata.labels" && base != "metadata.annotations") {
		r.errorf(at.Child("fieldPath"), "found %q, want one of %s", ref.FieldPath, strings.Join(fieldPaths, ", "))
	}
}

func (r *ruler) env(at *field.Path, c *corev1.Container) {
	for i, e := range c.Env {
		p := at.Child("env").Index(i)
		switch {
		case e.Name == "":
			r.errorf(p.Child("name"), "missing; want the name of the variable")
		case strings.ContainsAny(e.Name, "=\x00"):
			r.errorf(p.Child("name"), "found %q, want a name without =", e.Name)
		}
		from := e.ValueFrom
		if from == nil {
			continue
		}
		p = p.Child("valueFrom")
		sources := oneSet([]string{"fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef"},
			from.FieldRef != nil, from.ResourceFieldRef != nil, from.ConfigMapKeyRef != nil, from.SecretKeyRef != nil)
		switch {
		case e.Value != "":
			r.errorf(at.Child("env").Index(i), "value and valueFrom exclude each other; keep one")
		case len(sources) > 1:
			r.errorf(p, "%s exclude each other; keep one", strings.Join(sources, " and "))
		case len(sources) == 0:
			r.errorf(p, "says nothing; want fieldRef, configMapKeyRef or secretKeyRef")
		}
		r.fieldRef(p.Child("fieldRef"), from.FieldRef)
		if k := from.ConfigMapKeyRef; k != nil {
			r.keyRef(p.Child("configMapKeyRef"), k.Name, k.Key)
		}
		if k := from.SecretKeyRef; k != nil {
			r.keyRef(p.Child("secretKeyRef"), k.Name, k.Key)
		}
	}
	for i, e := range c.EnvFrom {
		if (e.ConfigMapRef == nil) == (e.SecretRef == nil) {
			r.errorf(at.Child("envFrom").Index(i), "want one of configMapRef and secretRef")
		}
	}
}

func (r *ruler) keyRef(at *field.Path, name, key string) {
	if name == "" {
		r.errorf(at.Child("name"), "missing; want the name of the object")
	}
	if key == "" {
		r.errorf(at.Child("key"), "missing; want a key of its data")
	}
}

func (r *ruler) probe(at *field.Path, p *corev1.Probe, c *corev1.Container) {
	if p == nil {
		return
	}
	h := p.ProbeHandler
	kinds := oneSet([]string{"exec", "httpGet", "tcpSocket", "grpc"}, h.Exec != nil, h.HTTPGet != nil, h.TCPSocket != nil, h.GRPC != nil)
	r.handler(at, kinds, h.Exec, h.HTTPGet, h.TCPSocket, c)
	if h.GRPC != nil {
		r.intPort(at.Child("grpc").Child("port"), h.GRPC.Port)
	}
	for _, n := range []struct {
		name  string
		value int32
	}{{"initialDelaySeconds", p.InitialDelaySeconds}, {"timeoutSeconds", p.TimeoutSeconds}, {"periodSeconds", p.PeriodSeconds}, {"successThreshold", p.SuccessThreshold}, {"failureThreshold", p.FailureThreshold}} {
		if n.value < 0 {
			r.errorf(at.Child(n.name), "found %d, want 0 or more", n.value)
		}
	}
	if g := p.TerminationGracePeriodSeconds; g != nil && *g < 1 {
		r.errorf(at.Child("terminationGracePeriodSeconds"), "found %d, want 1 or more", *g)
	}
}

func (r *ruler) lifecycle(at *field.Path, h *corev1.LifecycleHandler, c *corev1.Container) {
	if h == nil {
		return
	}
	kinds := oneSet([]string{"exec", "httpGet", "tcpSocket", "sleep"}, h.Exec != nil, h.HTTPGet != nil, h.TCPSocket != nil, h.Sleep != nil)
	r.handler(at, kinds, h.Exec, h.HTTPGet, h.TCPSocket, c)
	if h.Sleep != nil && h.Sleep.Seconds < 0 {
		r.errorf(at.Child("sleep").Child("seconds"), "found %d, want 0 or more", h.Sleep.Seconds)
	}
}

func (r *ruler) handler(at *field.Path, kinds []string, exec *corev1.ExecAction, http *corev1.HTTPGetAction, tcp *corev1.TCPSocketAction, c *corev1.Container) {
	switch {
	case len(kinds) == 0:
		r.errorf(at, "says nothing; want exec, httpGet or another action")
	case len(kinds) > 1:
		r.errorf(at, "%s exclude each other; keep one", strings.Join(kinds, " and "))
	}
	if exec != nil && len(exec.Command) == 0 {
		r.errorf(at.Child("exec").Child("command"), "missing; want the command and its arguments")
	}
	if http != nil {
		r.namedPort(at.Child("httpGet").Child("port"), http.Port, c)
		r.choice(at.Child("httpGet").Child("scheme"), string(http.Scheme), "HTTP", "HTTPS")
	}
	if tcp != nil {
		r.namedPort(at.Child("tcpSocket").Child("port"), tcp.Port, c)
	}
}

// namedPort checks a port of the container, by number or by name.
func (r *ruler) namedPort(at *field.Path, p intstr.IntOrString, c *corev1.Container) {
	if p.Type == intstr.Int {
		r.intPort(at, p.IntVal)
		return
	}
	var names []string
	for _, port := range c.Ports {
		if port.Name == p.StrVal {
			return
		}
		if port.Name != "" {
			names = append(names, port.Name)
		}
	}
	if len(names) == 0 {
		r.errorf(at, "found %q, want a number: no port of the container has a name", p.StrVal)
		return
	}
	r.errorf(at, "found %q, want a number or the name of a port of the container: %s", p.StrVal, oneOf(names))
}

// volumes checks the volumes and returns their names.
func (r *ruler) volumes(at *field.Path, list []corev1.Volume) map[string]bool {
	names := map[string]bool{}
	for i, v := range list {
		p := at.Index(i)
		if names[v.Name] {
			r.errorf(p.Child("name"), "found %q a second time", v.Name)
		}
		for _, text := range validation.IsDNS1123Label(v.Name) {
			r.errorf(p.Child("name"), "found %q: %s", v.Name, problem(text))
		}
		names[v.Name] = true
		sources := oneSet([]string{"configMap", "secret", "emptyDir", "projected", "downwardAPI", "persistentVolumeClaim"},
			v.ConfigMap != nil, v.Secret != nil, v.EmptyDir != nil, v.Projected != nil, v.DownwardAPI != nil, v.PersistentVolumeClaim != nil)
		if len(sources) > 1 {
			r.errorf(p, "%s exclude each other; keep one", strings.Join(sources, " and "))
		}
		if v.ConfigMap != nil {
			r.items(p.Child("configMap"), v.ConfigMap.Items, v.ConfigMap.DefaultMode)
			if v.ConfigMap.Name == "" {
				r.errorf(p.Child("configMap").Child("name"), "missing; want the name of a ConfigMap")
			}
		}
		if v.Secret != nil {
			r.items(p.Child("secret"), v.Secret.Items, v.Secret.DefaultMode)
			if v.Secret.SecretName == "" {
				r.errorf(p.Child("secret").Child("secretName"), "missing; want the name of a Secret")
			}
		}
		if c := v.PersistentVolumeClaim; c != nil {
			for _, text := range validation.IsDNS1123Subdomain(c.ClaimName) {
				r.errorf(p.Child("persistentVolumeClaim").Child("claimName"), "found %q: %s", c.ClaimName, problem(text))
			}
		}
		if v.DownwardAPI != nil {
			r.downward(p.Child("downwardAPI"), v.DownwardAPI.Items)
		}
		if v.Projected != nil {
			r.projected(p.Child("projected"), v.Projected)
		}
	}
	return names
}

func (r *ruler) projected(at *field.Path, v *corev1.ProjectedVolumeSource) {
	for i, s := range v.Sources {
		p := at.Child("sources").Index(i)
		if s.ConfigMap != nil {
			r.items(p.Child("configMap"), s.ConfigMap.Items, nil)
		}
		if s.Secret != nil {
			r.items(p.Child("secret"), s.Secret.Items, nil)
		}
		if s.DownwardAPI != nil {
			r.downward(p.Child("downwardAPI"), s.DownwardAPI.Items)
		}
		if t := s.ServiceAccountToken; t != nil {
			r.filePath(p.Child("serviceAccountToken").Child("path"), t.Path)
			if e := t.ExpirationSeconds; e != nil && *e < 600 {
				r.errorf(p.Child("serviceAccountToken").Child("expirationSeconds"), "found %d, want at least 600", *e)
			}
		}
	}
}

func (r *ruler) downward(at *field.Path, items []corev1.DownwardAPIVolumeFile) {
	for i, f := range items {
		p := at.Child("items").Index(i)
		r.filePath(p.Child("path"), f.Path)
		r.fieldRef(p.Child("fieldRef"), f.FieldRef)
		if (f.FieldRef == nil) == (f.ResourceFieldRef == nil) {
			r.errorf(p, "want one of fieldRef and resourceFieldRef")
		}
	}
}

func (r *ruler) items(at *field.Path, items []corev1.KeyToPath, mode *int32) {
	if mode != nil && (*mode < 0 || *mode > 0o777) {
		r.errorf(at.Child("defaultMode"), "found %d, want a file mode from 0 to 0777", *mode)
	}
	for i, k := range items {
		p := at.Child("items").Index(i)
		if k.Key == "" {
			r.errorf(p.Child("key"), "missing; want a key of the data")
		}
		r.filePath(p.Child("path"), k.Path)
	}
}

// filePath checks a path below a volume: relative, and not out of it.
func (r *ruler) filePath(at *field.Path, p string) {
	if p == "" || path.IsAbs(p) || slices.Contains(strings.Split(p, "/"), "..") {
		r.errorf(at, "found %q, want a relative path without ..", p)
	}
}

func (r *ruler) mounts(at *field.Path, mounts []corev1.VolumeMount, volumes map[string]bool) {
	seen := map[string]bool{}
	for i, m := range mounts {
		p := at.Index(i)
		if !volumes[m.Name] {
			r.errorf(p.Child("name"), "found %q, want the name of a volume in spec.volumes%s", m.Name, field.Suggest(m.Name, sortedKeys(volumes)))
		}
		switch {
		case m.MountPath == "":
			r.errorf(p.Child("mountPath"), "missing; want where the volume appears")
		case !path.IsAbs(m.MountPath):
			r.errorf(p.Child("mountPath"), "found %q, want an absolute path", m.MountPath)
		case path.Clean(m.MountPath) == "/":
			r.errorf(p.Child("mountPath"), "found %q, want a place below the root", m.MountPath)
		case seen[path.Clean(m.MountPath)]:
			r.errorf(p.Child("mountPath"), "found %q a second time", m.MountPath)
		}
		seen[path.Clean(m.MountPath)] = true
		if m.SubPath != "" {
			r.filePath(p.Child("subPath"), m.SubPath)
		}
	}
}
