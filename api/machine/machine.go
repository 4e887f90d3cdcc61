// Package machine is what a control plane tells the proxy of a machine that registers itself by a WorkloadGroup:
// how to ask the application whether it is well. A proxy that takes it in says so by its node's metadata.
//
// On the wire it is a Struct of protobuf with the fields of Istio's ReadinessProbe, as people write them.
package machine

import (
	"encoding/json"
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
)

const (
	// Type is the type of the resource in the discovery protocol.
	Type = "type.googleapis.com/malla.machine.v1.Probe"
	// Metadata is "true" in the node of a proxy that takes it in.
	Metadata = "MALLA_PROBES"
)

// Pack makes the resource of a probe in JSON.
func Pack(probe []byte) (*anypb.Any, error) {
	s := &structpb.Struct{}
	if err := json.Unmarshal(probe, s); err != nil {
		return nil, err
	}
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(s)
	return &anypb.Any{TypeUrl: Type, Value: body}, err
}

// Unpack returns the probe of a resource, in JSON.
func Unpack(body []byte) ([]byte, error) {
	s := &structpb.Struct{}
	if err := proto.Unmarshal(body, s); err != nil {
		return nil, fmt.Errorf("probe: %w", err)
	}
	return json.Marshal(s.AsMap())
}
