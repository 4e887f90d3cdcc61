package stats

// ResetCounters has every counter begin at 0 again. What is counted meanwhile may be lost.
func (r *Registry) ResetCounters() {
	for _, s := range r.scopes() {
		for i := range s.fields {
			switch v := s.set.FieldByIndex(s.fields[i].index).Addr().Interface().(type) {
			case *Counter:
				v.reset()
			case *ClassCodes:
				v.reset()
			case *Codes:
				v.reset()
			case *Made:
				v.reset()
			case *Named:
				if list := v.list.Load(); list != nil {
					for _, c := range *list {
						c.n.reset()
					}
				}
			}
		}
	}
}

func (c *Counter) reset() { c.n.Store(0) }

func (c *ClassCodes) reset() {
	for i := range c.class {
		c.class[i].reset()
	}
}

func (c *Codes) reset() {
	c.ClassCodes.reset()
	if t := c.codes.Load(); t != nil {
		for _, n := range t.counters {
			n.reset()
		}
	}
}
