package table

import (
	"cmp"
	"fmt"
	"net"
	"sort"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

const none = "<none>"

// native are the drawings of Kubernetes' own kinds, by kind and group. Texts and
// columns are those of Kubernetes' server-side printers.
var native = map[string]*Drawing{
	"Pod": draw(podCells, col("Name"), col("Ready"), col("Status"), col("Restarts"), col("Age"),
		wide("IP"), wide("Node"), wide("Nominated Node"), wide("Readiness Gates")),
	"Deployment.apps": draw(deploymentCells, col("Name"), col("Ready"), col("Up-to-date"), col("Available"), col("Age"),
		wide("Containers"), wide("Images"), wide("Selector")),
	"ReplicaSet.apps": draw(replicaSetCells, col("Name"), col("Desired"), col("Current"), col("Ready"), col("Age"),
		wide("Containers"), wide("Images"), wide("Selector")),
	"StatefulSet.apps": draw(statefulSetCells, col("Name"), col("Ready"), col("Age"), wide("Containers"), wide("Images")),
	"DaemonSet.apps": draw(daemonSetCells, col("Name"), col("Desired"), col("Current"), col("Ready"), col("Up-to-date"), col("Available"), col("Node Selector"), col("Age"),
		wide("Containers"), wide("Images"), wide("Selector")),
	"Job.batch": draw(jobCells, col("Name"), col("Status"), col("Completions"), col("Duration"), col("Age"), wide("Containers"), wide("Images"), wide("Selector")),
	"CronJob.batch": draw(cronJobCells, col("Name"), col("Schedule"), col("Timezone"), col("Suspend"), col("Active"), col("Last Schedule"), col("Age"),
		wide("Containers"), wide("Images"), wide("Selector")),
	"Service":                        draw(serviceCells, col("Name"), col("Type"), col("Cluster-IP"), col("External-IP"), col("Port(s)"), col("Age"), wide("Selector")),
	"Ingress.networking.k8s.io":      draw(ingressCells, col("Name"), col("Class"), col("Hosts"), col("Address"), col("Ports"), col("Age")).withStanding(),
	"EndpointSlice.discovery.k8s.io": draw(endpointSliceCells, col("Name"), col("AddressType"), col("Ports"), col("Endpoints"), col("Age")),
	"Endpoints":                      draw(endpointsCells, col("Name"), col("Endpoints"), col("Age")),
	"ConfigMap":                      draw(configMapCells, col("Name"), col("Data"), col("Age")),
	"Secret":                         draw(secretCells, col("Name"), col("Type"), col("Data"), col("Age")),
	"ServiceAccount":                 draw(serviceAccountCells, col("Name"), col("Secrets"), col("Age")),
	"Namespace":                      draw(namespaceCells, col("Name"), col("Status"), col("Age")),
	"Event": draw(eventCells, col("Last Seen"), col("Type"), col("Reason"), col("Object"), wide("Subobject"), wide("Source"),
		col("Message"), wide("First Seen"), wide("Count"), wide("Name")),
}

// draw makes a drawing of a function of the Go type.
func draw[T any](cells func(o *T, c Context) []any, columns ...metav1.TableColumnDefinition) *Drawing {
	d := &Drawing{columns: columns, status: -1}
	for i, c := range columns {
		if c.Name == "Status" {
			d.status = i
		}
	}
	d.cells = func(u *unstructured.Unstructured, c Context) []any {
		o := new(T)
		if runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, o) != nil {
			out := make([]any, len(columns))
			for i := range out {
				out[i] = "<unknown>"
			}
			out[0] = u.GetName()
			return out
		}
		return cells(o, c)
	}
	return d
}

func deploymentCells(d *appsv1.Deployment, c Context) []any {
	names, images := containers(d.Spec.Template.Spec.Containers)
	return []any{d.Name, fmt.Sprintf("%d/%d", d.Status.ReadyReplicas, count(d.Spec.Replicas)), int64(d.Status.UpdatedReplicas),
		int64(d.Status.AvailableReplicas), Age(c.Now, d.CreationTimestamp), names, images, metav1.FormatLabelSelector(d.Spec.Selector)}
}

func replicaSetCells(r *appsv1.ReplicaSet, c Context) []any {
	names, images := containers(r.Spec.Template.Spec.Containers)
	return []any{r.Name, int64(count(r.Spec.Replicas)), int64(r.Status.Replicas), int64(r.Status.ReadyReplicas),
		Age(c.Now, r.CreationTimestamp), names, images, metav1.FormatLabelSelector(r.Spec.Selector)}
}

func count(n *int32) int32 {
	if n == nil {
		return 1
	}
	return *n
}

func containers(list []corev1.Container) (names, images string) {
	var n, i []string
	for _, c := range list {
		n, i = append(n, c.Name), append(i, c.Image)
	}
	return strings.Join(n, ","), strings.Join(i, ",")
}

func serviceCells(s *corev1.Service, c Context) []any {
	ip := none
	if len(s.Spec.ClusterIPs) > 0 {
		ip = s.Spec.ClusterIPs[0]
	} else if s.Spec.ClusterIP != "" {
		ip = s.Spec.ClusterIP
	}
	return []any{s.Name, string(s.Spec.Type), ip, external(s), ports(s.Spec.Ports), Age(c.Now, s.CreationTimestamp), metav1.FormatLabelSelector(&metav1.LabelSelector{MatchLabels: s.Spec.Selector})}
}

func ingressCells(i *networkingv1.Ingress, c Context) []any {
	class := none
	if i.Spec.IngressClassName != nil {
		class = *i.Spec.IngressClassName
	}
	var hosts, at []string
	for _, r := range i.Spec.Rules {
		if r.Host != "" {
			hosts = append(hosts, r.Host)
		}
	}
	shown := strings.Join(hosts, ",")
	switch n := len(hosts); {
	case n == 0:
		shown = "*"
	case n > 3:
		shown = fmt.Sprintf("%s + %d more...", strings.Join(hosts[:3], ","), n-3)
	}
	for _, p := range i.Status.LoadBalancer.Ingress {
		at = append(at, cmp.Or(p.IP, p.Hostname))
	}
	ports := "80"
	if len(i.Spec.TLS) > 0 {
		ports = "80, 443"
	}
	return []any{i.Name, class, shown, strings.Join(at, ","), ports, Age(c.Now, i.CreationTimestamp)}
}

func external(s *corev1.Service) string {
	switch s.Spec.Type {
	case corev1.ServiceTypeExternalName:
		return s.Spec.ExternalName
	case corev1.ServiceTypeLoadBalancer:
		seen := map[string]bool{}
		var ips []string
		for _, in := range s.Status.LoadBalancer.Ingress {
			for _, a := range []string{in.IP, in.Hostname} {
				if a != "" && !seen[a] {
					seen[a] = true
					ips = append(ips, a)
					break
				}
			}
		}
		sort.Strings(ips)
		ips = append(ips, s.Spec.ExternalIPs...)
		if len(ips) == 0 {
			return "<pending>"
		}
		return strings.Join(ips, ",")
	}
	if len(s.Spec.ExternalIPs) == 0 {
		return none
	}
	return strings.Join(s.Spec.ExternalIPs, ",")
}

func ports(list []corev1.ServicePort) string {
	out := make([]string, len(list))
	for i, p := range list {
		out[i] = fmt.Sprintf("%d/%s", p.Port, p.Protocol)
		if p.NodePort > 0 {
			out[i] = fmt.Sprintf("%d:%d/%s", p.Port, p.NodePort, p.Protocol)
		}
	}
	if len(out) == 0 {
		return none
	}
	return strings.Join(out, ",")
}

// shown is how many of a slice's ports and endpoints a row names.
const shown = 3

func endpointSliceCells(e *discoveryv1.EndpointSlice, c Context) []any {
	var ports, addrs []string
	for _, p := range e.Ports {
		switch {
		case p.Port != nil:
			ports = append(ports, strconv.Itoa(int(*p.Port)))
		default:
			ports = append(ports, "*")
		}
	}
	for _, ep := range e.Endpoints {
		addrs = append(addrs, ep.Addresses...)
	}
	return []any{e.Name, string(e.AddressType), some(ports), some(addrs), Age(c.Now, e.CreationTimestamp)}
}

// endpointsCells names addresses with their ports, and none that are not ready.
//
//lint:ignore SA1019 people ask for it
func endpointsCells(e *corev1.Endpoints, c Context) []any {
	var list []string
	for _, set := range e.Subsets {
		for _, a := range set.Addresses {
			if len(set.Ports) == 0 {
				list = append(list, a.IP)
			}
			for _, p := range set.Ports {
				list = append(list, net.JoinHostPort(a.IP, strconv.Itoa(int(p.Port))))
			}
		}
	}
	text := none
	if len(list) > 0 {
		text = some(list)
	}
	return []any{e.Name, text, Age(c.Now, e.CreationTimestamp)}
}

func some(list []string) string {
	switch {
	case len(list) == 0:
		return "<unset>"
	case len(list) > shown:
		return fmt.Sprintf("%s + %d more...", strings.Join(list[:shown], ","), len(list)-shown)
	}
	return strings.Join(list, ",")
}

func configMapCells(m *corev1.ConfigMap, c Context) []any {
	return []any{m.Name, int64(len(m.Data) + len(m.BinaryData)), Age(c.Now, m.CreationTimestamp)}
}

func secretCells(s *corev1.Secret, c Context) []any {
	return []any{s.Name, string(s.Type), int64(len(s.Data)), Age(c.Now, s.CreationTimestamp)}
}

func serviceAccountCells(s *corev1.ServiceAccount, c Context) []any {
	return []any{s.Name, int64(len(s.Secrets)), Age(c.Now, s.CreationTimestamp)}
}

func namespaceCells(n *corev1.Namespace, c Context) []any {
	return []any{n.Name, string(n.Status.Phase), Age(c.Now, n.CreationTimestamp)}
}

func eventCells(e *corev1.Event, c Context) []any {
	first, last := e.FirstTimestamp, e.LastTimestamp
	if first.IsZero() {
		first = metav1.NewTime(e.EventTime.Time)
	}
	if last.IsZero() {
		last = first
	}
	n := int64(e.Count)
	if e.Series != nil {
		n, last = int64(e.Series.Count), metav1.NewTime(e.Series.LastObservedTime.Time)
	}
	if n == 0 {
		n = 1
	}
	o := e.InvolvedObject
	source := e.Source.Component
	if e.Source.Host != "" {
		source += ", " + e.Source.Host
	}
	if source == "" {
		source = e.ReportingController
	}
	return []any{Age(c.Now, last), e.Type, e.Reason, strings.ToLower(o.Kind) + "/" + o.Name, o.FieldPath, source,
		strings.TrimSpace(e.Message), Age(c.Now, first), n, e.Name}
}
