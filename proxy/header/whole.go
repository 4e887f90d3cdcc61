package header

// Lacks names the field that a request needs and does not have, empty if it is whole: a method, the path of what is asked for or
// the authority to connect to, and what RFC 8441, section 4, has go together.
func (m *Map) Lacks() string {
	connect := string(m.Get(Method)) == "CONNECT"
	for _, need := range [...]struct {
		field Token
		due   bool
	}{
		{Method, true},
		{Path, !connect || m.Has(Protocol)},
		{Authority, connect},
		{Protocol, connect && m.Has(Path)},
	} {
		if need.due && !m.Has(need.field) {
			return string(need.field.Name())
		}
	}
	return ""
}
