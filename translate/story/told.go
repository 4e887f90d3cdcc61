package story

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/mallamesh/malla/translate"
)

// Told is all that the proxy is told and that objects say of themselves: stories of which it differs are not of one meaning.
func (s *Story) Told() ([]byte, error) {
	var out bytes.Buffer
	for _, kind := range slices.Sorted(maps.Keys(types)) {
		for _, name := range translate.Names(s.View, types[kind]) {
			m, ok := translate.Resource(s.View, types[kind], name)
			if !ok {
				continue
			}
			body, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
			if err != nil {
				return nil, err
			}
			fmt.Fprintf(&out, "%s %s %x\n", kind, name, body)
		}
	}
	table, err := names(s.View)
	if err != nil {
		return nil, err
	}
	out.WriteString(table)
	out.WriteString(s.status())
	return out.Bytes(), nil
}
