// Package publish offers Services of type NodePort and LoadBalancer on the
// loopback of this machine.
//
// A connection to the published port is carried to one of the service's ready
// endpoints, in turn. Services in front of gateways are left out: a gateway asks
// for its ports itself and so sees its clients' connections.
package publish

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/mallamesh/malla/control/inject"
	"github.com/mallamesh/malla/local/broker"
	"github.com/mallamesh/malla/local/pods"
)

// key names what is published: one port of a service, by the number it has outside.
type key struct {
	owner string // namespace/name
	port  uint16
}

// want is what a published port leads to.
type want struct {
	endpoints []netip.AddrPort
}

// maxConnections bounds the connections of one published port.
const maxConnections = 1024

// Run publishes until ctx ends.
func Run(ctx context.Context, client kubernetes.Interface, factory informers.SharedInformerFactory, host *broker.Client, log *slog.Logger) error {
	services, slices, podInformer := factory.Core().V1().Services(), factory.Discovery().V1().EndpointSlices(), factory.Core().V1().Pods()
	changed := make(chan struct{}, 1)
	wake := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	for _, i := range []cache.SharedIndexInformer{services.Informer(), slices.Informer(), podInformer.Informer()} {
		_, err := i.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc: func(any) { wake() }, UpdateFunc: func(any, any) { wake() }, DeleteFunc: func(any) { wake() },
		})
		if err != nil {
			return err
		}
	}
	factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), services.Informer().HasSynced, slices.Informer().HasSynced, podInformer.Informer().HasSynced) {
		return ctx.Err()
	}
	p := &publisher{host: host, log: log, wake: wake, open: map[key]*port{}, failed: map[key]time.Time{}}
	defer p.close()
	wake()
	retry := time.NewTicker(5 * time.Second)
	defer retry.Stop()
	for {
		select {
		case <-changed:
		case <-retry.C: // ports that could not be opened
		case <-ctx.Done():
			return nil
		}
		all, err := services.Lister().List(labels.Everything())
		if err != nil {
			return err
		}
		sets, err := slices.Lister().List(labels.Everything())
		if err != nil {
			return err
		}
		everyone, err := podInformer.Lister().List(labels.Everything())
		if err != nil {
			return err
		}
		table, _ := pods.Tables(all, sets)
		behind := map[key]want{}
		for _, s := range table {
			for _, sp := range s.Ports {
				behind[key{s.Namespace + "/" + s.Name, sp.Port}] = want{sp.Endpoints}
			}
		}
		p.set(ctx, wanted(all, everyone, behind))
		for _, s := range all {
			if err := name(ctx, client, s); err != nil && ctx.Err() == nil {
				log.Warn("address not written", "service", s.Namespace+"/"+s.Name, "reason", err)
			}
		}
	}
}

// name writes a LoadBalancer's address into its status, where scripts look for it:
// this machine's loopback.
func name(ctx context.Context, client kubernetes.Interface, s *corev1.Service) error {
	if s.Spec.Type != corev1.ServiceTypeLoadBalancer || len(s.Status.LoadBalancer.Ingress) > 0 {
		return nil
	}
	const status = `{"status":{"loadBalancer":{"ingress":[{"ip":"127.0.0.1","ipMode":"Proxy"}]}}}`
	_, err := client.CoreV1().Services(s.Namespace).Patch(ctx, s.Name, types.MergePatchType, []byte(status), metav1.PatchOptions{}, "status")
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// wanted lists what is to be published, by the port's number outside.
func wanted(services []*corev1.Service, everyone []*corev1.Pod, behind map[key]want) map[key]want {
	out := map[key]want{}
	for _, s := range services {
		if s.Spec.Type != corev1.ServiceTypeNodePort && s.Spec.Type != corev1.ServiceTypeLoadBalancer || !ordinary(s, everyone) {
			continue
		}
		owner := s.Namespace + "/" + s.Name
		for _, sp := range s.Spec.Ports {
			if sp.Protocol != corev1.ProtocolTCP && sp.Protocol != "" {
				continue
			}
			w := behind[key{owner, uint16(sp.Port)}]
			if sp.NodePort != 0 {
				out[key{owner, uint16(sp.NodePort)}] = w
			}
			if s.Spec.Type == corev1.ServiceTypeLoadBalancer {
				out[key{owner, uint16(sp.Port)}] = w
			}
		}
	}
	return out
}

// ordinary reports whether the service has pods and none of them is a gateway.
func ordinary(s *corev1.Service, everyone []*corev1.Pod) bool {
	if len(s.Spec.Selector) == 0 {
		return true
	}
	selector, found := labels.SelectorFromSet(s.Spec.Selector), false
	for _, p := range everyone {
		if p.Namespace != s.Namespace || !selector.Matches(labels.Set(p.Labels)) {
			continue
		}
		if inject.Gateway(p) {
			return false
		}
		found = true
	}
	return found
}

// publisher holds the open ports. It is for one goroutine.
type publisher struct {
	host   *broker.Client
	log    *slog.Logger
	wake   func() // has set called again
	open   map[key]*port
	failed map[key]time.Time // when opening was tried last
}

func (p *publisher) set(ctx context.Context, all map[key]want) {
	for k, open := range p.open {
		select {
		case <-open.done: // it is to be had at a better address
			delete(p.open, k)
			continue
		default:
		}
		if _, ok := all[k]; !ok {
			open.l.Close()
			delete(p.open, k)
		}
	}
	for k := range p.failed {
		if _, ok := all[k]; !ok || p.open[k] != nil {
			delete(p.failed, k)
		}
	}
	for k, w := range all {
		if open := p.open[k]; open != nil {
			open.to.Store(&w)
			continue
		}
		if time.Since(p.failed[k]) < 5*time.Second {
			continue
		}
		l, published, err := p.host.Listen(ctx, broker.ListenRequest{Owner: k.owner, Port: k.port})
		if err != nil {
			p.failed[k] = time.Now()
			p.log.Warn("port not published, trying again", "service", k.owner, "port", k.port, "reason", err)
			continue
		}
		open := &port{l: l, done: make(chan struct{}), log: p.log.With("service", k.owner, "address", published.Host.String())}
		open.to.Store(&w)
		p.open[k] = open
		go func() {
			open.serve(ctx)
			close(open.done)
			p.wake()
		}()
	}
}

func (p *publisher) close() {
	for _, open := range p.open {
		open.l.Close()
	}
}

// port is one published port.
type port struct {
	l    net.Listener
	done chan struct{} // closed when nothing is accepted any more
	log  *slog.Logger
	to   atomic.Pointer[want]
	next atomic.Uint64
}

func (p *port) serve(ctx context.Context) {
	slots := make(chan struct{}, maxConnections)
	for {
		conn, err := p.l.Accept()
		if errors.Is(err, net.ErrClosed) || ctx.Err() != nil {
			return
		}
		if err != nil {
			time.Sleep(10 * time.Millisecond) // out of descriptors: others may give some back
			continue
		}
		select {
		case slots <- struct{}{}:
		default:
			conn.Close()
			continue
		}
		go func() {
			defer func() { <-slots }()
			if err := p.carry(ctx, conn); err != nil {
				p.log.Debug("connection not carried", "reason", err)
			}
		}()
	}
}

// carry joins a client with one of the endpoints.
func (p *port) carry(ctx context.Context, client net.Conn) error {
	defer client.Close()
	endpoints := p.to.Load().endpoints
	for try := range len(endpoints) {
		to := endpoints[(p.next.Add(1)+uint64(try))%uint64(len(endpoints))]
		d := net.Dialer{Timeout: 3 * time.Second}
		server, err := d.DialContext(ctx, "tcp", to.String())
		if err != nil {
			continue
		}
		defer server.Close()
		join(client, server)
		return nil
	}
	return fmt.Errorf("none of %d endpoints answers", len(endpoints))
}

// join copies both ways until both sides have ended.
func join(a, b net.Conn) {
	var both sync.WaitGroup
	one := func(to, from net.Conn) {
		_, _ = io.Copy(to, from)
		if half, ok := to.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
		}
	}
	both.Go(func() { one(a, b) })
	both.Go(func() { one(b, a) })
	both.Wait()
}
