package ratelimitservice

import (
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rlsv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/mallamesh/malla/proxy/ratelimit"
)

// What we write, the protocol's own code reads.
func TestRequest(t *testing.T) {
	b := appendRequest(nil, "d", []ratelimit.Descriptor{
		{Entries: []ratelimit.Entry{{Key: "a", Value: []byte("1")}, {Key: "b", Value: nil}}},
		{Entries: []ratelimit.Entry{{Key: "c", Value: []byte("2")}}, HasHits: true, Hits: 300, Refill: true},
		{HasHits: true, Limit: &ratelimit.Own{Requests: 300, Unit: 3}},
	}, 7)
	m := &rlsv3.RateLimitRequest{}
	if err := proto.Unmarshal(b, m); err != nil {
		t.Fatal(err)
	}
	d := m.GetDescriptors()
	if m.GetDomain() != "d" || m.GetHitsAddend() != 7 || len(d) != 3 || len(d[0].GetEntries()) != 2 || d[0].GetEntries()[0].GetValue() != "1" ||
		d[1].GetHitsAddend().GetValue() != 300 || !d[1].GetIsNegativeHits() || d[2].GetHitsAddend() == nil || d[0].GetHitsAddend() != nil ||
		d[0].GetLimit() != nil || d[2].GetLimit().GetRequestsPerUnit() != 300 || d[2].GetLimit().GetUnit() != typev3.RateLimitUnit_HOUR {
		t.Errorf("the service reads %v", m)
	}
}

// FuzzAnswer compares what we read with what the protocol's own code reads.
func FuzzAnswer(f *testing.F) {
	b, err := proto.Marshal(&rlsv3.RateLimitResponse{
		OverallCode: rlsv3.RateLimitResponse_OVER_LIMIT, RawBody: []byte("no"), ResponseHeadersToAdd: []*corev3.HeaderValue{{Key: "a", Value: "b"}},
		RequestHeadersToAdd: []*corev3.HeaderValue{{Key: "c", RawValue: []byte("d")}},
		Statuses: []*rlsv3.RateLimitResponse_DescriptorStatus{{Code: rlsv3.RateLimitResponse_OVER_LIMIT, LimitRemaining: 3, DurationUntilReset: durationpb.New(9e9),
			CurrentLimit: &rlsv3.RateLimitResponse_RateLimit{Name: "n", RequestsPerUnit: 5, Unit: rlsv3.RateLimitResponse_RateLimit_HOUR}}},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte{0x08})
	f.Fuzz(func(t *testing.T, in []byte) {
		var a answer
		if a.parse(in) != nil {
			return // refusing is always safe
		}
		m := &rlsv3.RateLimitResponse{}
		if proto.Unmarshal(in, m) != nil {
			return // parts that we do not read are wrong
		}
		if len(a.response) != len(m.GetResponseHeadersToAdd()) || len(a.request) != len(m.GetRequestHeadersToAdd()) || len(a.statuses) != len(m.GetStatuses()) {
			t.Fatalf("we read %+v; the protocol's code %v", a, m)
		}
		for i, s := range m.GetStatuses() {
			if a.statuses[i].limited != (s.GetCurrentLimit() != nil) {
				t.Fatalf("we read %+v; the protocol's code %v", a, m)
			}
		}
	})
}
