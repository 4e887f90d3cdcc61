package deploy

import (
	"context"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// groups are those of the kinds that own pods.
var groups = map[string]schema.GroupVersion{"Job": batchv1.SchemeGroupVersion, "CronJob": batchv1.SchemeGroupVersion}

// ownedBy says who controls an object.
func ownedBy(o metav1.Object, kind string) []metav1.OwnerReference {
	group, ok := groups[kind]
	if !ok {
		group = appsv1.SchemeGroupVersion
	}
	return []metav1.OwnerReference{*metav1.NewControllerRef(o, group.WithKind(kind))}
}

// podsOf lists the pods that an owner controls.
func (c *Controller) podsOf(ctx context.Context, owner metav1.Object, selector *metav1.LabelSelector) ([]*corev1.Pod, error) {
	list, err := c.client.CoreV1().Pods(owner.GetNamespace()).List(ctx, metav1.ListOptions{LabelSelector: metav1.FormatLabelSelector(selector)})
	if err != nil {
		return nil, err
	}
	return controlled[corev1.Pod](list.Items, owner), nil
}

// podOf makes a pod of a template. Its labels may be added to.
func podOf(template *corev1.PodTemplateSpec, owner metav1.Object, kind string) *corev1.Pod {
	t := template.DeepCopy()
	p := &corev1.Pod{ObjectMeta: t.ObjectMeta, Spec: t.Spec}
	p.Name, p.GenerateName, p.Namespace = "", owner.GetName()+"-", owner.GetNamespace()
	p.OwnerReferences = ownedBy(owner, kind)
	if p.Labels == nil {
		p.Labels = map[string]string{}
	}
	return p
}

func (c *Controller) create(ctx context.Context, owner metav1.Object, kind string, p *corev1.Pod) error {
	made, err := c.client.CoreV1().Pods(p.Namespace).Create(ctx, p, metav1.CreateOptions{})
	if err == nil {
		c.event(ctx, owner, kind, corev1.EventTypeNormal, "SuccessfulCreate", "Created pod: "+made.Name)
	}
	return err
}

func (c *Controller) deletePod(ctx context.Context, owner metav1.Object, kind string, p *corev1.Pod) error {
	err := c.client.CoreV1().Pods(p.Namespace).Delete(ctx, p.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(p.UID))})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err == nil {
		c.event(ctx, owner, kind, corev1.EventTypeNormal, "SuccessfulDelete", "Deleted pod: "+p.Name)
	}
	return err
}

// soonest returns when a pod becomes available by time alone, 0 for never.
func soonest(pods []*corev1.Pod, minReady int32, now time.Time) (out time.Duration) {
	for _, p := range pods {
		if since := readySince(p); since != nil {
			if left := since.Add(time.Duration(minReady) * time.Second).Sub(now); left > 0 && (out == 0 || left < out) {
				out = left
			}
		}
	}
	return out
}
