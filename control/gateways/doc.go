// Package gateways makes the workloads of Gateway API's Gateways: for each a
// ServiceAccount, a Deployment and a Service of one name, owned by the Gateway, so that
// they go with it.
//
// What is to be made is said by package compile/gatewayapi; this package keeps what is
// there equal to it. An object whose owner is somebody else is left alone. What was made
// remembers, in an annotation, of what: only a change of that is written, so that what
// people do to it (scale it, annotate it) stays.
//
// As in Istio, a ConfigMap of the root namespace with the label
// gateway.istio.io/defaults-for-class: CLASS holds strategic merge patches for the
// objects of all Gateways of a class, under the keys deployment, service and
// serviceAccount; one that the GatewayClass's parametersRef names comes after it, and one of the
// Gateway's own namespace, which the Gateway's parametersRef names, has the last word for that Gateway alone.
package gateways
