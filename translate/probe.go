package translate

import (
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mallamesh/malla/api/machine"
	"github.com/mallamesh/malla/model"
)

// probeName is the one resource of its type.
const probeName = "probe"

// probe returns how the proxy of a machine is to ask the application there.
func probe(v *model.View, name string) (*anypb.Any, bool) {
	if name != probeName || v.Proxy.Probe == "" {
		return nil, false
	}
	body, err := machine.Pack([]byte(v.Proxy.Probe))
	return body, err == nil
}
