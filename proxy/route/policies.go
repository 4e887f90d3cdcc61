package route

import "fmt"

// Policies are what routes and clusters alike may say of requests: when to send them again, where copies go, and what
// the hash is made of that chooses the host.
type Policies struct {
	Retry   *RetryPolicy // nil: none
	Mirrors []Mirror

	hashes []hashPolicy
}

// NewPolicies returns the policies of a cluster.
func NewPolicies(retry *RetryPolicy, mirrors []MirrorConfig, hashes []HashPolicy) (*Policies, error) {
	p := &Policies{Retry: retry}
	return p, p.compile(mirrors, hashes)
}

func (p *Policies) compile(mirrors []MirrorConfig, hashes []HashPolicy) (err error) {
	if p.Retry != nil {
		if p.Retry, err = p.Retry.compiled(); err != nil {
			return fmt.Errorf("retry_policy: %w", err)
		}
	}
	if p.hashes, err = newHashPolicies(hashes); err != nil {
		return err
	}
	for i, m := range mirrors {
		mirror, err := newMirror(&m)
		if err != nil {
			return fmt.Errorf("request_mirror_policies[%d]: %w", i, err)
		}
		p.Mirrors = append(p.Mirrors, mirror)
	}
	return nil
}

// Under returns p with what a cluster says in its place, policy by policy: nothing is merged.
func (p *Policies) Under(cluster *Policies) Policies {
	out := *p
	if cluster.Retry != nil {
		out.Retry = cluster.Retry
	}
	if len(cluster.Mirrors) > 0 {
		out.Mirrors = cluster.Mirrors
	}
	if len(cluster.hashes) > 0 {
		out.hashes = cluster.hashes
	}
	return out
}
