package stats

// Overload holds "overload.".
type Overload struct {
	RefreshIntervalDelay Histogram `stat:"refresh_interval_delay"`
}

// Monitor holds "overload.<monitor>.".
type Monitor struct {
	Pressure       Gauge   `stat:"pressure"`
	FailedUpdates  Counter `stat:"failed_updates"`
	SkippedUpdates Counter `stat:"skipped_updates"`
}

// OverloadAction holds "overload.<action>.".
type OverloadAction struct {
	Active       Gauge `stat:"active"`
	ScalePercent Gauge `stat:"scale_percent"`
}

// ShrinkHeap holds "overload.envoy.overload_actions.shrink_heap.", beside what every action has.
type ShrinkHeap struct {
	ShrinkCount Counter `stat:"shrink_count"`
}

// ResetStreams holds "envoy.overload_actions.reset_high_memory_stream.".
type ResetStreams struct {
	Count Counter `stat:"count"`
}

// ShedPoint holds "overload.<load shed point>.".
type ShedPoint struct {
	ScalePercent  Gauge   `stat:"scale_percent"`
	ShedLoadCount Counter `stat:"shed_load_count"`
}
