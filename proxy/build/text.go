package build

import (
	"fmt"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/proxy/build/document"
	"github.com/mallamesh/malla/proxy/xdsclient"
)

// A Note takes what stands in a text without effect, though it is no mistake; nil: nobody wants to know.
type Note func(*field.Error)

// ParseBootstrap reads an Envoy bootstrap in YAML, JSON or one of protobuf's forms, by the file's name.
// [NewBootstrap] refuses what would not be honored.
func ParseBootstrap(name string, text []byte, note Note) (*bootstrapv3.Bootstrap, error) {
	m := &bootstrapv3.Bootstrap{}
	if errs := parse(name, text, m, note); len(errs) > 0 {
		return nil, errs
	}
	return m, nil
}

// ParseFile reads a file of file-based xDS: a DiscoveryResponse in YAML, JSON or one of protobuf's forms. Its
// resources are checked one by one, by [Store.Apply].
func ParseFile(name string, text []byte, note Note) (*discoveryv3.DiscoveryResponse, error) {
	m := &discoveryv3.DiscoveryResponse{}
	errs := parse(name, text, m, note)
	for _, e := range errs {
		e.In = resourceAt(m, e.At)
	}
	return m, errs.Err()
}

// parse fills m with what a text says. Of one that cannot be read all that is not supported is told as well.
func parse(name string, text []byte, m proto.Message, note Note) field.List {
	if len(text) > MaxConfig {
		return field.List{{In: name, Msg: fmt.Sprintf("%d bytes, at most %d are read", len(text), MaxConfig)}}
	}
	notes, err := document.Read(name, text, m)
	if note != nil {
		for _, e := range notes {
			note(e)
		}
	}
	errs, wrong := err.(field.List)
	if !wrong {
		return nil
	}
	told := map[string]bool{}
	for _, e := range errs {
		told[e.At.String()] = true
	}
	var more field.List
	if _, whole := m.(*discoveryv3.DiscoveryResponse); !whole { // its resources are checked one by one
		checkMessage(m.ProtoReflect(), nil, 0, &more)
	}
	document.Locate(name, text, more)
	for _, e := range more {
		if !told[e.At.String()] {
			errs = append(errs, e)
		}
	}
	return errs
}

// resourceAt names the resource that a path leads into.
func resourceAt(m *discoveryv3.DiscoveryResponse, at *field.Path) (resource string) {
	depth, within := 0, false
	at.Walk(func(name string, index int) {
		switch {
		case depth == 0:
			within = name == "resources"
		case depth == 1 && within && name == "" && index < len(m.GetResources()):
			body := m.GetResources()[index]
			resource = kindOf(body.GetTypeUrl())
			if name, err := xdsclient.NameOf(body); err == nil && name != "" {
				resource += " " + name
			}
		}
		depth++
	})
	return resource
}
