package model

import "slices"

// A PathNormalization says how paths are written before rules see them, by gateways and by
// what sidecars receive.
type PathNormalization uint8

const (
	NormalizeBase  PathNormalization = iota // as RFC 3986 says
	NormalizeNone                           // as they came
	MergeSlashes                            // and of several slashes one
	DecodeAndMerge                          // and %2F is a slash
)

// A TLSRange is what may be agreed on in TLS. What is empty is the default.
type TLSRange struct {
	OnlyTLS13 bool
	Ciphers   []string // of TLS 1.2
	Curves    []string
}

// ClusterLocal says whether clients of the hosts keep to their own cluster.
type ClusterLocal struct {
	Hosts []string // a full name, *.x or *
	Local bool
}

// KeepsToCluster reports whether only endpoints in the client's own cluster count for a host:
// the last setting for it says so.
func (c *MeshConfig) KeepsToCluster(host string) bool {
	local := false
	for _, s := range c.ClusterLocal {
		if slices.ContainsFunc(s.Hosts, func(h string) bool { return HostMatches(h, host) }) {
			local = s.Local
		}
	}
	return local
}

// A Topology is what stands before gateways.
type Topology struct {
	TrustedProxies uint32
	ClientCert     ClientCertDetails
	ProxyProtocol  bool // connections begin with a PROXY header
}

// ClientCertDetails says what becomes of the header x-forwarded-client-cert.
type ClientCertDetails uint8

const (
	CertDefault       ClientCertDetails = iota
	CertSanitize                        // it is taken away
	CertForwardOnly                     // it is passed on over mutual TLS
	CertAppendForward                   // and this client is added
	CertSanitizeSet                     // it says this client only
	CertAlwaysForward                   // it is passed on always
)

// A LabelSelector selects by labels and by rules about them.
type LabelSelector struct {
	Labels map[string]string
	Rules  []LabelRule
}

// A LabelRule is one of In, NotIn, Exists and DoesNotExist, as in Kubernetes.
type LabelRule struct {
	Key, Operator string
	Values        []string
}

// Matches reports whether the labels are selected.
func (s LabelSelector) Matches(labels map[string]string) bool {
	return Labels(labels).Matches(s.Labels) && !slices.ContainsFunc(s.Rules, func(r LabelRule) bool { return !r.matches(labels) })
}

func (r LabelRule) matches(labels map[string]string) bool {
	v, ok := labels[r.Key]
	switch r.Operator {
	case "In":
		return ok && slices.Contains(r.Values, v)
	case "NotIn":
		return !ok || !slices.Contains(r.Values, v)
	case "Exists":
		return ok
	}
	return !ok // DoesNotExist
}

// Discovers reports whether a namespace with these labels belongs to the mesh. The root
// namespace always does: the settings that say so are there.
func (c *MeshConfig) Discovers(namespace string, labels map[string]string) bool {
	return len(c.Discovery) == 0 || namespace == c.RootNamespace ||
		slices.ContainsFunc(c.Discovery, func(s LabelSelector) bool { return s.Matches(labels) })
}
