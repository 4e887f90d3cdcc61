package seed

import (
	"context"
	"log/slog"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
)

// patience is how long after a Gateway we wait for the workload it selects: its
// author's own may be in the next file.
const patience = 300 * time.Millisecond

// Follow adds the default gateway when a Gateway needs it, until ctx ends.
func Follow(ctx context.Context, client dynamic.Interface, factory informers.SharedInformerFactory, log *slog.Logger) error {
	gateways := dynamicinformer.NewDynamicSharedInformerFactory(client, 0)
	informer := gateways.ForResource(mustGVR("Gateway"))
	changed := make(chan struct{}, 1)
	wake := func(any) {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	if _, err := informer.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: wake, UpdateFunc: func(_, o any) { wake(o) }}); err != nil {
		return err
	}
	deployments := factory.Apps().V1().Deployments()
	synced := deployments.Informer().HasSynced
	gateways.Start(ctx.Done())
	factory.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), informer.Informer().HasSynced, synced) {
		return ctx.Err()
	}
	for {
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
		select {
		case <-time.After(patience):
		case <-ctx.Done():
			return nil
		}
		objects, err := informer.Lister().List(labels.Everything())
		if err != nil {
			return err
		}
		var selectors, workloads []map[string]string
		for _, o := range objects {
			s, _, _ := unstructured.NestedStringMap(o.(*unstructured.Unstructured).Object, "spec", "selector")
			selectors = append(selectors, s)
		}
		all, err := deployments.Lister().List(labels.Everything())
		if err != nil {
			return err
		}
		for _, d := range all {
			workloads = append(workloads, d.Spec.Template.Labels)
		}
		pods, err := client.Resource(mustGVR("Pod")).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		for i := range pods.Items {
			workloads = append(workloads, pods.Items[i].GetLabels())
		}
		if !NeedsIngressGateway(selectors, workloads) {
			continue
		}
		if err := IngressGateway(ctx, client); err != nil {
			log.Warn("default gateway not made", "reason", err)
			time.AfterFunc(time.Second, func() { wake(nil) })
		}
	}
}
