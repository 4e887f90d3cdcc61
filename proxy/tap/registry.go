package tap

import "sync"

// A Registry knows the points that wait for somebody to ask for a tap, by name. One at a time may, as with Envoy.
type Registry struct {
	mu       sync.Mutex // guards what follows
	points   map[string]map[*Point]bool
	attached string // the name that somebody has asked for
	config   *Config
	gone     []*Point // that have gone meanwhile; what is still on its way there is recorded
}

// Add adds a point to those of a name, and returns what takes it away.
func (r *Registry) Add(name string, p *Point) (remove func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.points == nil {
		r.points = map[string]map[*Point]bool{}
	}
	if r.points[name] == nil {
		r.points[name] = map[*Point]bool{}
	}
	r.points[name][p] = true
	if r.config != nil && r.attached == name { // a new version of a listener that somebody looks at
		p.Set(r.config)
	}
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.config != nil && r.attached == name {
			r.gone = append(r.gone, p)
		}
		if delete(r.points[name], p); len(r.points[name]) == 0 {
			delete(r.points, name)
		}
	}
}

// A Refusal says why a tap is not attached, in Envoy's words.
type Refusal string

func (r Refusal) Error() string { return string(r) }

// Attach puts a config in force at all points of a name, until the function that it returns is called.
func (r *Registry) Attach(name string, c *Config) (detach func(), err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.config != nil:
		return nil, Refusal("An attached /tap admin stream already exists. Detach it.")
	case len(r.points[name]) == 0:
		return nil, Refusal("Unknown config id '" + name + "'. No extension has registered with this id.")
	}
	r.attached, r.config = name, c
	r.set(c)
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.set(nil)
		for _, p := range r.gone {
			p.Set(nil)
		}
		r.config, r.gone = nil, nil
	}, nil
}

func (r *Registry) set(c *Config) {
	for p := range r.points[r.attached] {
		p.Set(c)
	}
}
