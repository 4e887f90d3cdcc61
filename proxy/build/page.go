package build

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// roots are what configuration begins with; RouteConfiguration and VirtualHost (VHDS)
// come alone as well.
var roots = []proto.Message{
	(*bootstrapv3.Bootstrap)(nil), (*listenerv3.Listener)(nil), (*routev3.RouteConfiguration)(nil), (*routev3.VirtualHost)(nil),
	(*clusterv3.Cluster)(nil), (*endpointv3.ClusterLoadAssignment)(nil), (*tlsv3.Secret)(nil),
}

// Pages returns docs/xds.md and the pages below it, by their paths in docs. shown says
// of a field (by its full name) what shows that it works: the name of a scenario in
// test/envoy, or of a test.
func Pages(shown map[string]string) map[string][]byte {
	pages := map[string][]byte{}
	byPackage := map[protoreflect.FullName][]*Message{}
	for _, name := range slices.Sorted(maps.Keys(Messages)) {
		m := Messages[name]
		p := m.Descriptor.ParentFile().Package()
		byPackage[p] = append(byPackage[p], m)
	}
	var index bytes.Buffer
	index.WriteString(indexHead)
	for _, p := range slices.Sorted(maps.Keys(byPackage)) {
		var b bytes.Buffer
		fmt.Fprintf(&b, "# %s\n\n%s", p, printed)
		for _, m := range byPackage[p] {
			pageMessage(&b, m, shown)
		}
		pages["xds/"+string(p)+".md"] = b.Bytes()
		fmt.Fprintf(&index, "- [%s](xds/%s.md)\n", p, p)
	}
	index.WriteString("\nMessages that only a refused field holds are refused with it: [they are listed, too](xds/refused.md).\n")
	pages["xds.md"] = index.Bytes()
	pages["xds/refused.md"] = refusedPage()
	return pages
}

const printed = "<!-- Printed from the table in proxy/build by go test ./proxy/build -update. Do not edit. -->\n"

const indexHead = `# What malla-proxy reads of Envoy's configuration

` + printed + `
These pages list every message that may occur in a bootstrap, a listener, a route
configuration, a virtual host, a cluster, a load assignment, a secret, or a typed
configuration that the proxy knows, and every field of it.

- **Supported** fields do what Envoy's documentation says. What stands beside them
  shows it: a scenario of [test/envoy](../test/envoy/README.md), in which the real Envoy
  does the same, or a test.
- **In part**: only the values that are named may be set.
- **Without effect**: the field may be set and does nothing here; the reason says why
  that is right.
- **Refused**: a resource that sets the field is refused with the field's path (a NACK
  for xDS, an error at start for a bootstrap), and its last good version stays in
  force. Fields that this version has never heard of, and messages that are not on
  these pages, are refused too.

Values are judged by the rules that Envoy's API brings: which numbers are in range, what
may be empty, which letters a text may have. Whatever breaks one is refused likewise,
also in a field without effect. What a file may be written like is protobuf's mapping of
JSON; it may have 256 MiB.

`

// pageMessage prints a row for each field, so that changes of two people meet rarely.
func pageMessage(b *bytes.Buffer, m *Message, shown map[string]string) {
	fmt.Fprintf(b, "\n## %s\n\n", m.Name())
	fields := m.Descriptor.Fields()
	if fields.Len() == 0 {
		b.WriteString("Supported; it has no fields.\n")
		return
	}
	b.WriteString("| field | | |\n| --- | --- | --- |\n")
	for i := range fields.Len() {
		name := fields.Get(i).Name()
		f := m.Fields[name]
		proof := shown[string(m.Descriptor.FullName())+"."+string(name)]
		switch f.Support {
		case Read:
			fmt.Fprintf(b, "| `%s` | supported | %s |\n", name, cmp.Or(proof, "nothing shows it yet"))
		case Refused:
			fmt.Fprintf(b, "| `%s` | refused | %s|\n", name, strings.TrimLeft(f.Reason+" ", " "))
		case Limited:
			fmt.Fprintf(b, "| `%s` | only %s | %s; %s |\n", name, strings.Join(f.Values, ", "), f.Reason, cmp.Or(proof, "nothing shows it yet"))
		case WithoutEffect:
			fmt.Fprintf(b, "| `%s` | without effect | %s |\n", name, f.Reason)
		}
	}
}

// Name is the message's name without its package.
func (m *Message) Name() string {
	return strings.TrimPrefix(string(m.Descriptor.FullName()), string(m.Descriptor.ParentFile().Package())+".")
}

// refusedPage lists the messages that are reachable through refused fields only.
func refusedPage() []byte {
	var b bytes.Buffer
	b.WriteString("# Messages that are refused\n\n" + printed + "\nA field that would hold one of these is refused, or does nothing; the first such field is named.\n\n| message | field |\n| --- | --- |\n")
	held := unread()
	for _, name := range slices.Sorted(maps.Keys(held)) {
		fmt.Fprintf(&b, "| `%s` | `%s` |\n", name, held[name])
	}
	return b.Bytes()
}

// unread finds every message that can be reached and has no rows, and a field that
// holds it.
func unread() map[protoreflect.FullName]protoreflect.FullName {
	out := map[protoreflect.FullName]protoreflect.FullName{}
	seen := map[protoreflect.FullName]bool{}
	var walk func(d protoreflect.MessageDescriptor)
	walk = func(d protoreflect.MessageDescriptor) {
		if seen[d.FullName()] {
			return
		}
		seen[d.FullName()] = true
		for i := range d.Fields().Len() {
			fd := d.Fields().Get(i)
			inner := fd.Message()
			if fd.IsMap() {
				inner = fd.MapValue().Message()
			}
			if inner == nil || inner.ParentFile().Package() == "google.protobuf" {
				continue
			}
			if name := inner.FullName(); Messages[name] == nil && out[name] == "" {
				out[name] = fd.FullName()
			}
			walk(inner)
		}
	}
	for _, m := range roots {
		walk(m.ProtoReflect().Descriptor())
	}
	for _, name := range slices.Sorted(maps.Keys(Messages)) { // typed configurations
		walk(Messages[name].Descriptor)
	}
	return out
}
