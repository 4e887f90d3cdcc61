//go:build linux

package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/mallamesh/malla/control/ca"
	"github.com/mallamesh/malla/local/seed"
)

// settledPath answers what the proxies still wait for, "" if for nothing: when the pods are
// ready, their addresses are on the way to everybody else.
const settledPath = "/malla/settled"

// settleLimit is how long `up` waits for that.
const settleLimit = 5 * time.Second

// settle waits until every proxy knows the endpoints of what is ready now.
func (s *state) settle(ctx context.Context, supervisor *http.Client) error {
	ctx, cancel := context.WithTimeoutCause(ctx, settleLimit, errors.New("this takes too long"))
	defer cancel()
	why := "the answer of the supervisor"
	for {
		if now, err := s.u.get(ctx, supervisor, settledPath); err == nil {
			if why = now; why == "" {
				return nil
			}
		}
		select {
		case <-time.After(look):
		case <-ctx.Done():
			return fmt.Errorf("what is ready is not known everywhere yet: %s", why)
		}
	}
}

// A settler finds what the proxies of a mesh wait for.
type settler struct {
	s    *supervisor
	http http.Client

	mu    sync.Mutex // held while it asks
	token string     // guarded by mu
}

func (t *settler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	t.mu.Lock()
	defer t.mu.Unlock()
	why, err := t.waitsFor(ctx)
	if err != nil {
		why = err.Error()
	}
	_, _ = w.Write([]byte(why))
}

// waitsFor says what is missing, "" if nothing.
func (t *settler) waitsFor(ctx context.Context) (string, error) {
	pods, err := t.s.client.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", err
	}
	services, err := t.s.client.CoreV1().Services(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", err
	}
	list, err := t.s.client.DiscoveryV1().EndpointSlices(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", err
	}
	if why := unlisted(pods.Items, services.Items, list.Items); why != "" {
		return why, nil
	}
	for i := range pods.Items {
		p := &pods.Items[i]
		if p.Namespace != seed.Namespace || p.Labels["app"] != "istiod" || !podReady(p) {
			continue
		}
		d, err := t.ask(ctx, p)
		if err != nil {
			return "", err
		}
		if newest := newestSlice(list.Items); d.Told["EndpointSlice"] < newest {
			return fmt.Sprintf("%s tells of EndpointSlices up to version %d, the newest is %d", p.Name, d.Told["EndpointSlice"], newest), nil
		}
		if len(d.Behind) > 0 {
			return "the answer of " + strings.Join(d.Behind, ", "), nil
		}
	}
	return "", nil
}

// unlisted names a ready pod whose address is not in the EndpointSlices of a Service that selects it.
func unlisted(pods []corev1.Pod, services []corev1.Service, list []discoveryv1.EndpointSlice) string {
	type place struct{ service, address string }
	listed := map[place]bool{}
	for i := range list {
		for _, e := range list[i].Endpoints {
			if e.Conditions.Ready != nil && !*e.Conditions.Ready {
				continue
			}
			for _, a := range e.Addresses {
				listed[place{list[i].Namespace + "/" + list[i].Labels[discoveryv1.LabelServiceName], a}] = true
			}
		}
	}
	for i := range services {
		svc := &services[i]
		if len(svc.Spec.Selector) == 0 || svc.Spec.Type == corev1.ServiceTypeExternalName {
			continue
		}
		selector := labels.SelectorFromSet(svc.Spec.Selector)
		for j := range pods {
			p := &pods[j]
			name := svc.Namespace + "/" + svc.Name
			if p.Namespace == svc.Namespace && podReady(p) && selector.Matches(labels.Set(p.Labels)) && !listed[place{name, p.Status.PodIP}] &&
				slices.Contains(svc.Spec.IPFamilies, familyOf(p.Status.PodIP)) {
				return fmt.Sprintf("pod %s/%s is not an endpoint of service %s", p.Namespace, p.Name, name)
			}
		}
	}
	return ""
}

func familyOf(ip string) corev1.IPFamily {
	if strings.Contains(ip, ":") {
		return corev1.IPv6Protocol
	}
	return corev1.IPv4Protocol
}

func podReady(p *corev1.Pod) bool {
	if p.DeletionTimestamp != nil || p.Status.Phase != corev1.PodRunning {
		return false
	}
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue })
}

func newestSlice(list []discoveryv1.EndpointSlice) (newest uint64) {
	for i := range list {
		if v, err := strconv.ParseUint(list[i].ResourceVersion, 10, 64); err == nil {
			newest = max(newest, v)
		}
	}
	return newest
}

// ask reads the page of a control plane, as one of its own.
func (t *settler) ask(ctx context.Context, istiod *corev1.Pod) (d distribution, err error) {
	if t.token == "" {
		got, err := t.s.client.CoreV1().ServiceAccounts(istiod.Namespace).CreateToken(ctx, istiod.Spec.ServiceAccountName,
			&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: []string{ca.Audience}}}, metav1.CreateOptions{})
		if err != nil {
			return d, err
		}
		t.token = got.Status.Token
	}
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(istiod.Status.PodIP, "15014")+distributionPath, nil)
	if err != nil {
		return d, err
	}
	q.Header.Set("Authorization", "Bearer "+t.token)
	a, err := t.http.Do(q)
	if err != nil {
		return d, err
	}
	defer a.Body.Close()
	if a.StatusCode != http.StatusOK {
		t.token = ""
		return d, fmt.Errorf("%s: %s", q.URL, a.Status)
	}
	return d, json.NewDecoder(a.Body).Decode(&d)
}
