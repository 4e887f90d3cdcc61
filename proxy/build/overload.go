package build

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	overloadv3 "github.com/envoyproxy/go-control-plane/envoy/config/overload/v3"
	cgroupv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/cgroup_memory/v3"
	cpuv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/cpu_utilization/v3"
	connectionsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/downstream_connections/v3"
	heapv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/fixed_heap/v3"
	injectedv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/injected_resource/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/proxy/listen"
	"github.com/mallamesh/malla/proxy/overload"
)

var overloadFields = []*Message{
	message((*overloadv3.OverloadManager)(nil), reads("refresh_interval", "resource_monitors", "actions", "loadshed_points", "buffer_factory_config")),
	message((*overloadv3.BufferFactoryConfig)(nil), reads("minimum_account_to_track_power_of_two")),
	message((*overloadv3.ResourceMonitor)(nil), reads("name", "typed_config")),
	message((*overloadv3.OverloadAction)(nil), reads("name", "triggers", "typed_config")),
	message((*overloadv3.LoadShedPoint)(nil), reads("name", "triggers")),
	message((*overloadv3.Trigger)(nil), reads("name", "threshold", "scaled")),
	message((*overloadv3.ThresholdTrigger)(nil), reads("value")),
	message((*overloadv3.ScaledTrigger)(nil), reads("scaling_threshold", "saturation_threshold")),
	message((*overloadv3.ScaleTimersOverloadActionConfig)(nil), reads("timer_scale_factors")),
	message((*overloadv3.ScaleTimersOverloadActionConfig_ScaleTimer)(nil), reads("timer", "min_timeout", "min_scale")),
	message((*overloadv3.ShrinkHeapConfig)(nil), reads("timer_interval", "max_unfreed_memory_bytes")),
	message((*connectionsv3.DownstreamConnectionsConfig)(nil), reads("max_active_downstream_connections")),
	message((*heapv3.FixedHeapConfig)(nil), reads("max_heap_size_bytes", "max_heap_size_bytes_runtime")),
	message((*corev3.RuntimeUInt64)(nil), reads("default_value", "runtime_key")),
	message((*cgroupv3.CgroupMemoryConfig)(nil), reads("max_memory_bytes")),
	message((*cpuv3.CpuUtilizationConfig)(nil), reads("mode")),
	message((*injectedv3.InjectedResourceConfig)(nil), reads("filename")),
}

// HeapReserve is memory that the process accounts for and does not have; see app/proxy.
const HeapReserve = 16 << 20

// overload reads the overload manager. The limit of connections among its monitors goes to the other limits.
func (r *reader) overload(m *overloadv3.OverloadManager, l *Limits) *overload.Config {
	if m == nil {
		return nil
	}
	at := field.At("overload_manager")
	c := &overload.Config{Every: r.duration(m.GetRefreshInterval(), at.Child("refresh_interval"))}
	for i, monitor := range m.GetResourceMonitors() {
		at := at.Child("resource_monitors").Index(i)
		if slices.ContainsFunc(c.Monitors, func(n overload.Named) bool { return n.Name == monitor.GetName() }) {
			r.errs.Addf(at.Child("name"), "found %q twice, want each monitor once", monitor.GetName())
		}
		c.Monitors = append(c.Monitors, overload.Named{Name: monitor.GetName(), Monitor: r.monitor(monitor.GetTypedConfig(), l, at.Child("typed_config"))})
	}
	power := m.GetBufferFactoryConfig().GetMinimumAccountToTrackPowerOfTwo()
	if b := m.GetBufferFactoryConfig(); b != nil && (power < 10 || power > 56) {
		r.errs.Addf(at.Child("buffer_factory_config").Child("minimum_account_to_track_power_of_two"), "found %d, want 10 to 56", power)
		power = 0
	}
	c.Account = uint(power)
	names := map[string]bool{}
	for i, a := range m.GetActions() {
		at := at.Child("actions").Index(i)
		if names[a.GetName()] {
			r.errs.Addf(at.Child("name"), "found %q twice, want each action once", a.GetName())
		}
		names[a.GetName()] = true
		c.Actions = append(c.Actions, r.action(a, c, m.GetBufferFactoryConfig() != nil, at))
	}
	for i, p := range m.GetLoadshedPoints() {
		at := at.Child("loadshed_points").Index(i)
		point := overload.PointName(0)
		for point < overload.NumPoints && point.String() != p.GetName() {
			point++
		}
		switch {
		case point == overload.NumPoints:
			r.errs.Addf(at.Child("name"), "found %q, want one of %s", p.GetName(), allNames(overload.NumPoints))
			continue
		case names[p.GetName()]:
			r.errs.Addf(at.Child("name"), "found %q twice, want each point once", p.GetName())
			continue
		}
		names[p.GetName()] = true
		c.Points = append(c.Points, overload.ShedPoint{Point: point, Triggers: r.triggers(p.GetTriggers(), c, at.Child("triggers"))})
	}
	return c
}

// allNames lists all of a kind of names.
func allNames[T interface {
	~int
	fmt.Stringer
}](n T) string {
	var all []string
	for x := range n {
		all = append(all, x.String())
	}
	return strings.Join(all, ", ")
}

// monitor reads one resource monitor.
func (r *reader) monitor(a *anypb.Any, l *Limits, at *field.Path) overload.Monitor {
	switch c := r.unpack(a, at).(type) {
	case *connectionsv3.DownstreamConnectionsConfig:
		if c.GetMaxActiveDownstreamConnections() <= 0 {
			r.errs.Addf(at.Child("max_active_downstream_connections"), "found %d, want at least 1", c.GetMaxActiveDownstreamConnections())
		}
		l.Global, l.Guarded = &listen.Connections{Max: c.GetMaxActiveDownstreamConnections()}, true
		return overload.Open{Count: l.Global.Open, Max: l.Global.Max}
	case *heapv3.FixedHeapConfig:
		most := c.GetMaxHeapSizeBytes()
		if d := c.GetMaxHeapSizeBytesRuntime(); d != nil && most == 0 {
			most = runtimeInteger(r, d)
		} else if d != nil || most == 0 {
			r.errs.Addf(at, "want either max_heap_size_bytes or max_heap_size_bytes_runtime, above 0")
		}
		return overload.Heap{Max: max(most, 1), Reserve: HeapReserve}
	case *cgroupv3.CgroupMemoryConfig:
		g := overload.Cgroup{Root: overload.CgroupRoot, Max: c.GetMaxMemoryBytes()}
		if err := g.Available(); err != nil {
			r.errs.Addf(at, "%v", err)
		}
		return g
	case *cpuv3.CpuUtilizationConfig:
		return &overload.CPU{Container: c.GetMode() == cpuv3.CpuUtilizationConfig_CONTAINER, Stat: "/proc/stat", Root: overload.CgroupRoot, Clock: sinceStart}
	case *injectedv3.InjectedResourceConfig:
		if _, err := os.Stat(c.GetFilename()); err != nil {
			r.errs.Addf(at.Child("filename"), "%v", err)
		}
		return overload.Injected{Path: c.GetFilename()}
	}
	r.errs.Addf(at, "found %q, want the type of a resource monitor", a.GetTypeUrl())
	return overload.Injected{}
}

var started = time.Now()

func sinceStart() time.Duration { return time.Since(started) }

// triggers reads what an action goes by.
func (r *reader) triggers(list []*overloadv3.Trigger, c *overload.Config, at *field.Path) []overload.Trigger {
	if len(list) == 0 {
		r.errs.Addf(at, "is empty, want at least one trigger")
	}
	var out []overload.Trigger
	for i, m := range list {
		at := at.Index(i)
		t := overload.Trigger{Resource: m.GetName()}
		if !slices.ContainsFunc(c.Monitors, func(n overload.Named) bool { return n.Name == t.Resource }) {
			r.errs.Addf(at.Child("name"), "found %q, want the name of a resource monitor", t.Resource)
		}
		if slices.ContainsFunc(out, func(o overload.Trigger) bool { return o.Resource == t.Resource }) {
			r.errs.Addf(at.Child("name"), "found %q twice, want one trigger for each resource", t.Resource)
		}
		switch s := m.GetScaled(); {
		case s != nil:
			t.From, t.To = s.GetScalingThreshold(), s.GetSaturationThreshold()
			if t.From >= t.To {
				r.errs.Addf(at.Child("scaled"), "found scaling_threshold %v and saturation_threshold %v, want the first below the second", t.From, t.To)
			}
		case m.GetThreshold() != nil:
			t.From = m.GetThreshold().GetValue()
			t.To = t.From
		default:
			r.errs.Addf(at, "want threshold or scaled")
		}
		if !(t.From >= 0 && t.To <= 1) {
			r.errs.Addf(at, "found %v to %v, want 0 to 1", t.From, t.To)
		}
		out = append(out, t)
	}
	return out
}

const reservedActions = "envoy.overload_actions."

// action reads one action. An action of any name may make times shorter; all others are known by theirs.
func (r *reader) action(m *overloadv3.OverloadAction, c *overload.Config, accounts bool, at *field.Path) overload.Action {
	a := overload.Action{Name: m.GetName(), Triggers: r.triggers(m.GetTriggers(), c, at.Child("triggers"))}
	typed := at.Child("typed_config")
	timers, scales := r.optionalAny(m.GetTypedConfig(), typed).(*overloadv3.ScaleTimersOverloadActionConfig)
	for a.Kind = 0; a.Kind < overload.NumKinds && a.Kind.String() != a.Name; a.Kind++ {
	}
	switch {
	case a.Kind == overload.NumKinds && scales && !strings.HasPrefix(a.Name, reservedActions):
		a.Kind = overload.ReduceTimeouts
	case a.Kind == overload.NumKinds:
		r.errs.Addf(at.Child("name"), "found %q, want one of %s", a.Name, allNames(overload.NumKinds))
		return a
	}
	switch a.Kind {
	case overload.ReduceTimeouts:
		if !scales {
			r.errs.Addf(typed, "want a ScaleTimersOverloadActionConfig")
		}
		a.Timers = r.timers(timers, c, typed)
	case overload.ShrinkHeap:
		shrink, ok := r.optionalAny(m.GetTypedConfig(), typed).(*overloadv3.ShrinkHeapConfig)
		if !ok && m.GetTypedConfig() != nil {
			r.errs.Addf(typed, "found %q, want a ShrinkHeapConfig", m.GetTypedConfig().GetTypeUrl())
		}
		a.ShrinkEvery = r.orDefault(shrink.GetTimerInterval(), 10*time.Second, typed.Child("timer_interval"))
		if a.ShrinkEvery < time.Second {
			r.errs.Addf(typed.Child("timer_interval"), "found %v, want 1s or more", a.ShrinkEvery)
			a.ShrinkEvery = time.Second
		}
		a.ShrinkAbove = 100 << 20
		if n := shrink.GetMaxUnfreedMemoryBytes(); n != nil {
			a.ShrinkAbove = int64(min(n.GetValue(), math.MaxInt64))
		}
	default:
		if m.GetTypedConfig() != nil {
			r.errs.Addf(typed, "found %q, want none: %s has none", m.GetTypedConfig().GetTypeUrl(), a.Name)
		}
		if a.Kind == overload.ResetStreams && !accounts {
			r.errs.Addf(field.At("overload_manager", "buffer_factory_config"), "is not set, want it for %s", a.Name)
		}
	}
	return a
}

// optionalAny unpacks what may be left out.
func (r *reader) optionalAny(a *anypb.Any, at *field.Path) any {
	if a == nil {
		return nil
	}
	return r.unpack(a, at)
}

// timerTypes are the times that can be made shorter.
var timerTypes = map[overloadv3.ScaleTimersOverloadActionConfig_TimerType]overload.Timer{
	overloadv3.ScaleTimersOverloadActionConfig_HTTP_DOWNSTREAM_CONNECTION_IDLE: overload.ConnectionIdle,
	overloadv3.ScaleTimersOverloadActionConfig_HTTP_DOWNSTREAM_STREAM_IDLE:     overload.StreamIdle,
	overloadv3.ScaleTimersOverloadActionConfig_TRANSPORT_SOCKET_CONNECT:        overload.Handshake,
	overloadv3.ScaleTimersOverloadActionConfig_HTTP_DOWNSTREAM_CONNECTION_MAX:  overload.ConnectionAge,
	overloadv3.ScaleTimersOverloadActionConfig_HTTP_DOWNSTREAM_STREAM_FLUSH:    overload.StreamFlush,
}

func (r *reader) timers(m *overloadv3.ScaleTimersOverloadActionConfig, c *overload.Config, at *field.Path) map[overload.Timer]overload.Floor {
	out := map[overload.Timer]overload.Floor{}
	if len(m.GetTimerScaleFactors()) == 0 {
		r.errs.Addf(at.Child("timer_scale_factors"), "is empty, want at least one timer")
	}
	for i, f := range m.GetTimerScaleFactors() {
		at := at.Child("timer_scale_factors").Index(i)
		timer, ok := timerTypes[f.GetTimer()]
		_, twice := out[timer]
		for _, other := range c.Actions {
			if _, there := other.Timers[timer]; there {
				twice = true
			}
		}
		switch {
		case !ok:
			r.errs.Addf(at.Child("timer"), "found %v, want one of the timers", f.GetTimer())
			continue
		case twice:
			r.errs.Addf(at.Child("timer"), "found %v twice, want each timer once", f.GetTimer())
		}
		var floor overload.Floor
		switch {
		case f.GetMinScale() != nil:
			floor.Share = f.GetMinScale().GetValue() / 100
			if !(floor.Share >= 0 && floor.Share <= 1) {
				r.errs.Addf(at.Child("min_scale"), "found %v, want 0 to 100", f.GetMinScale().GetValue())
			}
		case f.GetMinTimeout() != nil:
			floor.Time = r.duration(f.GetMinTimeout(), at.Child("min_timeout"))
		default:
			r.errs.Addf(at, "want min_timeout or min_scale")
		}
		out[timer] = floor
	}
	return out
}
