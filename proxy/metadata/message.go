package metadata

// A Message is a message of protobuf: Envoy's typed metadata. It never changes.
type Message struct {
	Type string // its URL
	Wire []byte // what is sent of it
	// Fields are what is set, by the names of fields, for scripts. Numbers are float64, enumerations too, bytes are texts, and a map whose keys are
	// no texts is a map[any]any.
	Fields Struct
	// Expression is the message as expressions see it: one of package cel's values.
	Expression any
}

// Message returns the message of a namespace, nil if there is none. What is in the same namespace of Space is something else.
func (d *Dynamic) Message(namespace string) *Message {
	for i := range d.spaces {
		if s := &d.spaces[i]; s.message != nil && s.name == namespace {
			return s.message
		}
	}
	return nil
}

// Messages returns the messages of all namespaces now, nil if there are none.
func (d *Dynamic) Messages() (out map[string]*Message) {
	for i := range d.spaces {
		if s := &d.spaces[i]; s.message != nil {
			if out == nil {
				out = map[string]*Message{}
			}
			out[s.name] = s.message
		}
	}
	return out
}

// PutMessage has a namespace hold a message.
func (d *Dynamic) PutMessage(namespace string, m *Message) {
	for i := range d.spaces {
		if s := &d.spaces[i]; s.message != nil && s.name == namespace {
			s.message = m
			return
		}
	}
	d.spaces = append(d.spaces, space{name: namespace, message: m})
}
