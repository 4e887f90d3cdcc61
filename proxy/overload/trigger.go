package overload

// A Trigger makes of a resource's pressure the state of an action.
type Trigger struct {
	Resource string // name of its monitor
	// Below and at From there is none; at To, and above, it is 1; between them it grows. If both are
	// the same it is a threshold.
	From, To float64
}

// State is what the action is to do, 0 to 1.
func (t *Trigger) State(pressure float64) float64 {
	switch {
	case pressure >= t.To:
		return 1
	case pressure <= t.From:
		return 0
	}
	return (pressure - t.From) / (t.To - t.From)
}

// An action is something with triggers.
type action struct {
	triggers []Trigger
	state    float64
	set      func(state float64) // called when the state has changed
}

// update looks at the pressures of all resources and reports whether the state has changed.
func (a *action) update(pressure map[string]float64) bool {
	state := 0.0
	for i := range a.triggers {
		t := &a.triggers[i]
		state = max(state, t.State(pressure[t.Resource]))
	}
	if state == a.state {
		return false
	}
	a.state = state
	a.set(state)
	return true
}
