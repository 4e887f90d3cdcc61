package peer

import (
	"encoding/base64"
	"encoding/binary"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/mallamesh/malla/proxy/stats"
)

var sample = stats.Peer{
	Workload: "reviews-v2", Namespace: "default", Cluster: "Kubernetes",
	CanonicalService: "reviews", CanonicalRevision: "v2", App: "reviews", Version: "v2",
}

// What we write is a Struct to everybody else, and what everybody writes is a peer to us.
func TestStruct(t *testing.T) {
	var s structpb.Struct
	if err := proto.Unmarshal(Encode(&sample, []Entry{{"NAME", "reviews-v2-x"}}), &s); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{"NAMESPACE": "default", "WORKLOAD_NAME": "reviews-v2", "NAME": "reviews-v2-x", "CLUSTER_ID": "Kubernetes"} {
		if got := s.Fields[key].GetStringValue(); got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	if got := s.Fields["LABELS"].GetStructValue().GetFields()["service.istio.io/canonical-name"].GetStringValue(); got != "reviews" {
		t.Errorf("canonical name %q", got)
	}
	theirs, err := structpb.NewStruct(map[string]any{
		"NAMESPACE": "default", "WORKLOAD_NAME": "reviews-v2", "CLUSTER_ID": "Kubernetes", "OWNER": "x", "NUMBER": 7, "LIST": []any{"a"},
		"LABELS": map[string]any{"app": "reviews", "version": "v2", "service.istio.io/canonical-name": "reviews", "service.istio.io/canonical-revision": "v2"},
	})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := proto.Marshal(theirs)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := Decode(raw); err != nil || *p != sample {
		t.Errorf("%+v, %v; want %+v", p, err, sample)
	}
}

func TestMessageOfTheTCPExchange(t *testing.T) {
	m := Message(&sample, nil)
	if binary.BigEndian.Uint32(m) != 0x3D230467 || int(binary.BigEndian.Uint32(m[4:])) != len(m)-8 {
		t.Fatalf("begins with % x", m[:8])
	}
	var any anypb.Any
	var s structpb.Struct
	if err := proto.Unmarshal(m[8:], &any); err != nil {
		t.Fatal(err)
	}
	if err := any.UnmarshalTo(&s); err != nil {
		t.Fatal(err)
	}
	if p, err := DecodeAny(m[8:]); err != nil || *p != sample {
		t.Errorf("%+v, %v", p, err)
	}
	if _, err := DecodeAny([]byte{10, 1, 'x', 18, 0}); err == nil {
		t.Error("an Any of another type is taken")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(Encode(&sample, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Decode(b)
		if err != nil {
			return
		}
		if again, err := Decode(Encode(p, nil)); err != nil || *again != *p {
			t.Errorf("%+v comes back as %+v, %v", p, again, err)
		}
	})
}

func TestCacheIsBounded(t *testing.T) {
	c := &cache{peers: map[string]*stats.Peer{}}
	for i := range 3 * maxPeers {
		c.find("spiffe://x", binary.AppendUvarint(nil, uint64(i)))
	}
	if len(c.peers) > maxPeers {
		t.Errorf("%d peers are kept, want at most %d", len(c.peers), maxPeers)
	}
	if p := c.find("", nil); p != nil {
		t.Errorf("nobody is %+v", p)
	}
	if p := c.find("spiffe://x", []byte("not base64")); p == nil || p.Principal != "spiffe://x" {
		t.Errorf("somebody who tells nonsense is %+v", p)
	}
}

// What a stranger tells of itself costs little memory, and does not break the scrape.
func TestStrangersNames(t *testing.T) {
	long := strings.Repeat("x", 50_000)
	p, err := Decode(Encode(&stats.Peer{Workload: long, CanonicalService: "a\xffb"}, nil))
	if err != nil || len(p.Workload) != maxName || p.CanonicalService != "a?b" {
		t.Errorf("a workload of %d bytes, service %q, %v; want %d, \"a?b\"", len(p.Workload), p.CanonicalService, err, maxName)
	}
	c := &cache{peers: map[string]*stats.Peer{}}
	text := base64.StdEncoding.EncodeToString(Encode(&stats.Peer{Workload: long}, nil))
	if p := c.find("", []byte(text)); len(p.Workload) != maxName || len(c.peers) != 0 {
		t.Errorf("a workload of %d bytes, %d are remembered; want %d and none", len(p.Workload), len(c.peers), maxName)
	}
}
