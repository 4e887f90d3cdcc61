package stats

import "runtime"

// A Subscription counts what came of one ("listener_manager.lds.", "http.<prefix>.rds.<name>.").
type Subscription struct {
	InitFetchTimeout Counter   `stat:"init_fetch_timeout"`
	UpdateAttempt    Counter   `stat:"update_attempt"`
	UpdateSuccess    Counter   `stat:"update_success"`
	UpdateFailure    Counter   `stat:"update_failure"`
	UpdateRejected   Counter   `stat:"update_rejected"`
	UpdateTime       Gauge     `stat:"update_time"`
	UpdateDuration   Histogram `stat:"update_duration"`
	Version          Hash      `stat:"version"`
	VersionText      Text      `stat:"version_text"`
}

// Reloads counts what a subscription has changed.
type Reloads struct {
	ConfigReload       Counter `stat:"config_reload"`
	ConfigReloadTimeMS Gauge   `stat:"config_reload_time_ms"`
}

// RDS counts the subscription to a route table of one connection manager.
type RDS struct {
	Subscription `stat:""`
	Reloads      `stat:""`
	UpdateEmpty  Counter `stat:"update_empty"`
}

// EDS counts what a cluster's own set does not of the subscription to its hosts.
type EDS struct {
	InitFetchTimeout Counter   `stat:"init_fetch_timeout"`
	UpdateRejected   Counter   `stat:"update_rejected"`
	UpdateTime       Gauge     `stat:"update_time"`
	UpdateDuration   Histogram `stat:"update_duration"`
	VersionText      Text      `stat:"version_text"`
}

// RDS returns the set of "http.<prefix>.rds.<table>.", shown for as long as somebody holds it.
func (r *Registry) RDS(prefix, table string) *RDSUse {
	s := r.add("http."+prefix+".rds."+table+".", "http.rds.", func() any { return new(RDS) }, Tag{TagHTTP, prefix}, Tag{TagRDS, table})
	u := &RDSUse{s.set.Addr().Interface().(*RDS), func() *RDSUse { return r.RDS(prefix, "vhds."+table) }}
	runtime.AddCleanup(u, (*Scope).Close, s)
	return u
}

// An RDSUse holds the statistics of a subscription for as long as somebody holds it.
type RDSUse struct {
	*RDS
	vhds func() *RDSUse
}

// VHDS returns the set of "http.<prefix>.rds.vhds.<table>.", of the virtual hosts of the table that come one by one.
func (u *RDSUse) VHDS() *RDSUse { return u.vhds() }

// ScopedRDS counts the subscription to the scopes of one connection manager.
type ScopedRDS struct {
	RDS            `stat:""`
	AllScopes      Gauge `stat:"all_scopes"`
	ActiveScopes   Gauge `stat:"active_scopes"`
	OnDemandScopes Gauge `stat:"on_demand_scopes"`
}

// ScopedRDS returns the set of "http.<prefix>.scoped_rds.<name>.", shown for as long as somebody holds it.
func (r *Registry) ScopedRDS(prefix, name string) *ScopedRDSUse {
	s := r.add("http."+prefix+".scoped_rds."+name+".", "http.scoped_rds.", func() any { return new(ScopedRDS) }, Tag{TagHTTP, prefix}, Tag{TagScopedRDS, name})
	u := &ScopedRDSUse{s.set.Addr().Interface().(*ScopedRDS)}
	runtime.AddCleanup(u, (*Scope).Close, s)
	return u
}

// A ScopedRDSUse is an RDSUse for scopes.
type ScopedRDSUse struct{ *ScopedRDS }

// SDS counts the subscription to a secret.
type SDS struct {
	Subscription      `stat:""`
	KeyRotationFailed Counter `stat:"key_rotation_failed"`
}

// SDS returns the set of "sds.<name>.", shown for as long as somebody holds it.
func (r *Registry) SDS(name string) *SDSUse {
	s := r.add("sds."+name+".", "sds.", func() any { return new(SDS) }, Tag{TagResource, name})
	u := &SDSUse{s.set.Addr().Interface().(*SDS)}
	runtime.AddCleanup(u, (*Scope).Close, s)
	return u
}

// An SDSUse is an RDSUse for SDS.
type SDSUse struct{ *SDS }

// EDS returns the set of "cluster.<name>." that only clusters have whose hosts come from a control plane or a file,
// beside the cluster's own.
func (r *Registry) EDS(name string) *EDSUse {
	s := r.add("cluster."+name+".", "cluster.", func() any { return new(EDS) }, Tag{TagCluster, name})
	c, all := r.Cluster(name)
	u := &EDSUse{s.set.Addr().Interface().(*EDS), c}
	runtime.AddCleanup(u, (*Scope).Close, s)
	runtime.AddCleanup(u, (*Scope).Close, all)
	return u
}

// An EDSUse is an RDSUse for EDS.
type EDSUse struct {
	*EDS
	Cluster *Cluster
}

// Extension counts the subscription to a filter's configuration.
type Extension struct {
	Subscription   `stat:""`
	ConfigReload   Counter `stat:"config_reload"`
	ConfigFail     Counter `stat:"config_fail"`
	ConfigConflict Counter `stat:"config_conflict"`
}

// Extension returns the set of "extension_config_discovery.<kind>.<name>.", shown for as long as somebody holds it.
func (r *Registry) Extension(kind, name string) *ExtensionUse {
	s := r.add("extension_config_discovery."+kind+"."+name+".", "extension_config_discovery."+kind+".", func() any { return new(Extension) }, Tag{TagResource, name})
	u := &ExtensionUse{s.set.Addr().Interface().(*Extension)}
	runtime.AddCleanup(u, (*Scope).Close, s)
	return u
}

// An ExtensionUse is an RDSUse for ECDS.
type ExtensionUse struct{ *Extension }
