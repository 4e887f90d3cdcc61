package build

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// Page returns docs/xds.md.
func Page() []byte {
	var b bytes.Buffer
	b.WriteString(pageHead)
	counts := map[Support]int{}
	var body bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(Messages)) {
		pageMessage(&body, Messages[name], counts)
	}
	fmt.Fprintf(&b, "%d messages: %d fields are supported, %d in part, %d accepted without effect, %d refused.\n", len(Messages),
		counts[Read], counts[Limited], counts[WithoutEffect], counts[Refused])
	b.Write(body.Bytes())
	return b.Bytes()
}

const pageHead = `# What malla-proxy reads of Envoy's configuration

<!-- Printed from the table in proxy/build by go test ./proxy/build -update. Do not edit. -->

This page lists every message that may occur in a bootstrap, a listener, a route
configuration, a cluster, a load assignment, a secret, or a typed configuration that
the proxy knows, and every field of it.

- **Supported** fields do what Envoy's documentation says.
- **In part**: only the values that are named may be set.
- **Without effect**: the field may be set and does nothing here; the reason says why
  that is right.
- **Refused**: a resource that sets the field is refused with the field's path (a NACK
  for xDS, an error at start for a bootstrap), and its last good version stays in
  force. Fields that this version has never heard of, and messages that are not on
  this page, are refused too.

`

func pageMessage(b *bytes.Buffer, m *Message, counts map[Support]int) {
	fmt.Fprintf(b, "\n## %s\n\n", m.Descriptor.FullName())
	var supported, refused []string
	var notes []string
	fields := m.Descriptor.Fields()
	for i := range fields.Len() {
		name := fields.Get(i).Name()
		f := m.Fields[name]
		counts[f.Support]++
		switch f.Support {
		case Read:
			supported = append(supported, code(name))
		case Refused:
			refused = append(refused, code(name))
		case Limited:
			notes = append(notes, fmt.Sprintf("| %s | only %s | %s |", code(name), strings.Join(f.Values, ", "), f.Reason))
		case WithoutEffect:
			notes = append(notes, fmt.Sprintf("| %s | without effect | %s |", code(name), f.Reason))
		}
	}
	if fields.Len() == 0 {
		b.WriteString("Supported; it has no fields.\n")
	}
	if len(supported) > 0 {
		fmt.Fprintf(b, "Supported: %s.\n", strings.Join(supported, ", "))
	}
	if len(notes) > 0 {
		if len(supported) > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(b, "| field | | why |\n| --- | --- | --- |\n%s\n", strings.Join(notes, "\n"))
	}
	if len(refused) > 0 {
		if len(supported)+len(notes) > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(b, "Refused: %s.\n", strings.Join(refused, ", "))
	}
}

func code(name protoreflect.Name) string { return "`" + string(name) + "`" }
