// Package v1 has the kinds of malla's own: those of malla.dev/v1.
//
// They are few, for what people ask a mesh for and no other API says.
package v1

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Group is that of the kinds here.
const Group = "malla.dev"

// A DNSPolicy says what happens when workloads ask for names: some names are denied, or answered
// late, or logged. It holds for workloads of its namespace, in the root namespace for those of all.
type DNSPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec DNSPolicySpec `json:"spec,omitempty"`
}

// DNSPolicySpec is what a DNSPolicy says.
type DNSPolicySpec struct {
	// Selector has the labels of the workloads; without it, it is for all of them.
	Selector *Selector `json:"selector,omitempty"`
	// Rules are tried in their order, and the first that names the host counts.
	Rules []DNSRule `json:"rules,omitempty"`
}

// A Selector selects workloads.
type Selector struct {
	MatchLabels map[string]string `json:"matchLabels,omitempty"`
}

// A DNSRule is about some names.
type DNSRule struct {
	// Hosts are names, exact or as *.example.com, or * for all.
	Hosts []string `json:"hosts,omitempty"`
	// Deny answers NXDOMAIN or REFUSED in place of what the name means.
	Deny string `json:"deny,omitempty"`
	// Delay has the answer come later: a time such as 500ms, up to 10s.
	Delay *metav1.Duration `json:"delay,omitempty"`
	// Percentage of the questions that are denied and delayed; 100 if it is not there.
	Percentage *float64 `json:"percentage,omitempty"`
	// Log writes a line for each question into the log of the proxy.
	Log bool `json:"log,omitempty"`
}

// DeepCopyObject implements runtime.Object.
func (p *DNSPolicy) DeepCopyObject() runtime.Object {
	out := *p
	p.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
	if s := p.Spec.Selector; s != nil {
		labels := map[string]string{}
		for k, v := range s.MatchLabels {
			labels[k] = v
		}
		out.Spec.Selector = &Selector{MatchLabels: labels}
	}
	out.Spec.Rules = slices.Clone(p.Spec.Rules)
	for i := range out.Spec.Rules {
		r := &out.Spec.Rules[i]
		r.Hosts = slices.Clone(r.Hosts)
		if r.Delay != nil {
			d := *r.Delay
			r.Delay = &d
		}
		if r.Percentage != nil {
			n := *r.Percentage
			r.Percentage = &n
		}
	}
	return &out
}
