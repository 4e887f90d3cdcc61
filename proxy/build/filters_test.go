package build

import (
	"strings"
	"testing"

	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/proxy/stream"
)

// Somebody has to take requests: an unknown filter is passed over if it is optional, but not at the end of the chain.
func TestLastFilterIsNotOptional(t *testing.T) {
	r := &listenerReader{reader: reader{env: testEnv(t)}}
	unknown := &hcmv3.HttpFilter{Name: "x", IsOptional: true, ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: &anypb.Any{TypeUrl: "type.googleapis.com/example.Filter"}}}
	r.httpFilters([]*hcmv3.HttpFilter{unknown}, &stream.Config{}, field.At("http_filters"))
	if err := r.errs.Err(); err == nil || !strings.Contains(err.Error(), "http_filters[0]") {
		t.Errorf("found %v, want it to be refused", err)
	}
}
