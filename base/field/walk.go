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

// Below returns the path of p's place in what stands at root.
func (p *Path) Below(root *Path) *Path {
	if p == nil {
		return root
	}
	return &Path{parent: p.parent.Below(root), name: p.name, index: p.index}
}
