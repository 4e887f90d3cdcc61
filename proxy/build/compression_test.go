package build

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	zstdv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/compression/zstd/compressor/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mallamesh/malla/proxy/coding"
)

// The higher zstd's level, the shorter what it makes; 3 is what it is by itself.
func TestLevelsOfZstd(t *testing.T) {
	random, text := rand.New(rand.NewPCG(1, 2)), []byte(nil)
	for range 2000 {
		text = fmt.Appendf(text, "word%d ", random.IntN(300))
	}
	size := func(level *wrapperspb.UInt32Value) int {
		r := &reader{env: testEnv(t)}
		e, _ := r.encoding(&corev3.TypedExtensionConfig{TypedConfig: packed(t, &zstdv3.Zstd{CompressionLevel: level})}, nil)
		if len(r.errs) > 0 {
			t.Fatal(r.errs)
		}
		var out bytes.Buffer
		w := coding.NewStock().Encoder(e, &out)
		if _, err := w.Write(text); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return out.Len()
	}
	one, three, most, unset := size(wrapperspb.UInt32(1)), size(wrapperspb.UInt32(3)), size(wrapperspb.UInt32(19)), size(nil)
	if one <= three || three <= most || unset != three {
		t.Errorf("%d bytes are %d at level 1, %d at 3, %d at 19 and %d without one", len(text), one, three, most, unset)
	}
}
