package gateways

import (
	"context"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/mallamesh/malla/compile/gatewayapi"
	"github.com/mallamesh/malla/config/kind"
)

// MissingClasses are those of ours that are not among the names.
func MissingClasses(have []string) []string {
	var out []string
	for name := range gatewayapi.Classes(false) {
		if !slices.Contains(have, name) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// class makes a GatewayClass; one that came meanwhile stays, whoever has made it.
func (c *Controller) class(ctx context.Context, name string) error {
	k, _ := kind.Named("GatewayClass")
	u := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{
		"controllerName": gatewayapi.Classes(c.o.AsIstio)[name], "description": "The default gateways of malla",
	}}}
	u.SetGroupVersionKind(k.GVK())
	u.SetName(name)
	_, err := c.o.Objects.Resource(k.GVR()).Create(ctx, u, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}
