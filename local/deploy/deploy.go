// Package deploy is the part of a Kubernetes controller manager that a local mesh
// needs for workloads: Deployments make ReplicaSets, and ReplicaSets, StatefulSets, DaemonSets and
// Jobs make Pods; CronJobs make Jobs.
//
// It promises what people rely on: names (<deployment>-<template hash>-<5
// characters>), revisions that `rollout history|undo` understand, rolling updates
// within maxSurge and maxUnavailable, Recreate, pause, scaling, status and its
// conditions. Running the pods is package pods' business.
//
// The API server is in the same process, so a step reads the objects from it and
// not from a cache: no step ever acts on an old picture, and none needs Kubernetes'
// bookkeeping of expectations.
package deploy

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
)

// A Controller keeps workloads in step with their pods.
type Controller struct {
	client kubernetes.Interface
	log    *slog.Logger
	now    func() time.Time
	queue  workqueue.TypedRateLimitingInterface[item]

	// templates are those of StatefulSets by their name and revision: what is below a partition keeps its old one, for as
	// long as this process lives.
	templates sync.Map // of string to *corev1.PodTemplateSpec
}

// item names one object to look at.
type item struct{ kind, namespace, name string }

// New returns a controller that works through client.
func New(client kubernetes.Interface, log *slog.Logger) *Controller {
	limit := workqueue.NewTypedItemExponentialFailureRateLimiter[item](5*time.Millisecond, 10*time.Second)
	return &Controller{client: client, log: log, now: time.Now, queue: workqueue.NewTypedRateLimitingQueue(limit)}
}

// Run works until ctx ends. It wants its own informer factory started by the caller.
func (c *Controller) Run(ctx context.Context, factory informers.SharedInformerFactory) error {
	watch := map[string]cache.SharedIndexInformer{
		"Deployment": factory.Apps().V1().Deployments().Informer(),
		"ReplicaSet": factory.Apps().V1().ReplicaSets().Informer(),
		"Pod":        factory.Core().V1().Pods().Informer(),

		"StatefulSet": factory.Apps().V1().StatefulSets().Informer(),
		"DaemonSet":   factory.Apps().V1().DaemonSets().Informer(),
		"Job":         factory.Batch().V1().Jobs().Informer(),
		"CronJob":     factory.Batch().V1().CronJobs().Informer(),
	}
	for kind, informer := range watch {
		_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    func(o any) { c.saw(kind, o) },
			UpdateFunc: func(_, o any) { c.saw(kind, o) },
			DeleteFunc: func(o any) { c.saw(kind, o) },
		})
		if err != nil {
			return err
		}
	}
	accounts := factory.Core().V1().ServiceAccounts().Informer()
	sets := watch["ReplicaSet"].GetStore()
	_, err := accounts.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: func(o any) { c.account(o, sets) }})
	if err != nil {
		return err
	}
	factory.Start(ctx.Done())
	go func() {
		<-ctx.Done()
		c.queue.ShutDown()
	}()
	for {
		next, done := c.queue.Get()
		if done {
			return nil
		}
		c.step(ctx, next)
		c.queue.Done(next)
	}
}

// owners are the kinds that are looked at.
var owners = []string{"Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Job", "CronJob"}

// saw queues the object, and whoever controls it.
func (c *Controller) saw(kind string, o any) {
	if gone, ok := o.(cache.DeletedFinalStateUnknown); ok {
		o = gone.Obj
	}
	m, ok := o.(metav1.Object)
	if !ok {
		return
	}
	if kind != "Pod" {
		c.queue.Add(item{kind, m.GetNamespace(), m.GetName()})
	}
	if owner := metav1.GetControllerOf(m); owner != nil && slices.Contains(owners, owner.Kind) {
		c.queue.Add(item{owner.Kind, m.GetNamespace(), owner.Name})
	}
}

// account queues the ReplicaSets whose pods could not be made before the account was there.
func (c *Controller) account(o any, sets cache.Store) {
	a, ok := o.(*corev1.ServiceAccount)
	if !ok {
		return
	}
	for _, o := range sets.List() {
		rs, ok := o.(*appsv1.ReplicaSet)
		if ok && rs.Namespace == a.Namespace && rs.Spec.Template.Spec.ServiceAccountName == a.Name && len(rs.Status.Conditions) > 0 {
			i := item{"ReplicaSet", rs.Namespace, rs.Name}
			c.queue.Forget(i)
			c.queue.Add(i)
		}
	}
}

// step brings one object further; an error is tried again after a while.
func (c *Controller) step(ctx context.Context, i item) {
	var again time.Duration
	var err error
	switch i.kind {
	case "Deployment":
		again, err = c.deployment(ctx, i.namespace, i.name)
	case "ReplicaSet":
		again, err = c.replicaSet(ctx, i.namespace, i.name)
	case "StatefulSet":
		again, err = c.statefulSet(ctx, i.namespace, i.name)
	case "DaemonSet":
		again, err = c.daemonSet(ctx, i.namespace, i.name)
	case "Job":
		again, err = c.job(ctx, i.namespace, i.name)
	case "CronJob":
		again, err = c.cronJob(ctx, i.namespace, i.name)
	}
	switch {
	case err == nil:
		c.queue.Forget(i)
		if again > 0 {
			c.queue.AddAfter(i, again)
		}
	case ctx.Err() != nil:
	default:
		if !apierrors.IsConflict(err) && !errors.Is(err, context.Canceled) {
			c.log.Warn("step failed, trying again", "kind", i.kind, "namespace", i.namespace, "name", i.name, "reason", err)
		}
		c.queue.AddRateLimited(i)
	}
}

// event tells people what was done to an object.
func (c *Controller) event(ctx context.Context, about metav1.Object, kind, typ, reason, message string) {
	now := metav1.NewTime(c.now())
	_, _ = c.client.CoreV1().Events(about.GetNamespace()).Create(ctx, &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{GenerateName: about.GetName() + ".", Namespace: about.GetNamespace()},
		InvolvedObject: corev1.ObjectReference{Kind: kind, Namespace: about.GetNamespace(), Name: about.GetName(), UID: about.GetUID(), APIVersion: apiVersion(kind)},
		Type:           typ, Reason: reason, Message: message, Count: 1,
		FirstTimestamp: now, LastTimestamp: now, Source: corev1.EventSource{Component: component(kind)},
	}, metav1.CreateOptions{}) // an event that is lost is only a message less
}

// controlled keeps the objects that owner controls.
func controlled[T any, P interface {
	*T
	metav1.Object
}](items []T, owner metav1.Object) []P {
	var out []P
	for i := range items {
		if p := P(&items[i]); metav1.IsControlledBy(p, owner) {
			out = append(out, p)
		}
	}
	return out
}

func ownerOf(o metav1.Object, kind string) []metav1.OwnerReference {
	return []metav1.OwnerReference{*metav1.NewControllerRef(o, appsv1.SchemeGroupVersion.WithKind(kind))}
}

// apiVersion is that of a kind that is looked at.
func apiVersion(kind string) string {
	if g, ok := groups[kind]; ok {
		return g.String()
	}
	return appsv1.SchemeGroupVersion.String()
}

// component is what Kubernetes calls the controller of a kind.
func component(kind string) string {
	switch kind {
	case "Deployment", "ReplicaSet":
		return "deployment-controller"
	case "CronJob":
		return "cronjob-controller"
	}
	return strings.ToLower(kind) + "-controller"
}
