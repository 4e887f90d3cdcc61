// Package machines registers workloads that are no pods: a proxy whose node names a WorkloadGroup
// (ISTIO_META_AUTO_REGISTER_GROUP) has a WorkloadEntry for as long as it is connected.
//
// The entry is what the group's template says, with the proxy's address, and the labels of template, group
// and proxy, the latter counting most. It is called GROUP-ADDRESS[-NETWORK], belongs to the group, and says by Istio's
// annotations which control plane its proxy is connected to, and since when. When the proxy has been
// gone for the grace period, wherever it was connected, the entry is removed.
//
// What a proxy says of the health of its application is the entry's condition Healthy. One that says nothing
// though it probes its application is not healthy yet.
//
// Only a proxy that has proved to be the template's service account in the group's namespace is registered. What entries mean
// for services is not known here, and neither is the discovery protocol.
package machines
