package model

import "strings"

// Labels that say where something is. Kubernetes copies the first two from
// nodes to their pods.
const (
	RegionLabel  = "topology.kubernetes.io/region"
	ZoneLabel    = "topology.kubernetes.io/zone"
	SubzoneLabel = "topology.istio.io/subzone"
	// LocalityLabel says all in one, with dots between its parts, and counts first.
	LocalityLabel = "istio-locality"
)

// LocalityOf returns region/zone/subzone of what carries the labels, "" if they
// do not say. A subzone stands in a zone, and a zone in a region.
func LocalityOf(labels map[string]string) string {
	if l := labels[LocalityLabel]; l != "" {
		if strings.Contains(l, "/") {
			return l
		}
		return strings.ReplaceAll(l, ".", "/")
	}
	out := labels[RegionLabel]
	for _, name := range []string{ZoneLabel, SubzoneLabel} {
		if out == "" || labels[name] == "" {
			return out
		}
		out += "/" + labels[name]
	}
	return out
}
