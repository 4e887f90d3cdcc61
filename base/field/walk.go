package field

// Walk calls fn for each step of the path, outermost first. A list element has an
// index and an empty name.
func (p *Path) Walk(fn func(name string, index int)) {
	if p == nil {
		return
	}
	p.parent.Walk(fn)
	fn(p.name, p.index)
}
