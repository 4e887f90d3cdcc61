package admin

import (
	"testing"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

func dumped(c *clusterv3.Cluster) *adminv3.ClustersConfigDump_StaticCluster {
	a, err := anypb.New(c)
	if err != nil {
		panic(err)
	}
	return &adminv3.ClustersConfigDump_StaticCluster{Cluster: a}
}

// A mask shows what it names, also of the resource inside; what it cannot name is an error, as in Envoy.
func TestMask(t *testing.T) {
	whole := &clusterv3.Cluster{Name: "a", AltStatName: "b", LoadAssignment: nil, IgnoreHealthOnHostRemoval: true}
	for _, test := range []struct {
		mask string
		want *clusterv3.Cluster // nil: the mask is wrong
	}{
		{"cluster", whole},
		{"cluster.name", &clusterv3.Cluster{Name: "a"}},
		{"cluster.name,cluster.alt_stat_name", &clusterv3.Cluster{Name: "a", AltStatName: "b"}},
		{"cluster.name,cluster", whole},
		{"cluster,cluster.name", whole},
		{"cluster.load_assignment", &clusterv3.Cluster{}},
		{"cluster.nothing", nil},
		{"nothing", nil},
		{"cluster.transport_socket_matches.name", nil}, // inside of a list
		{"cluster.name.inner", nil},
		{"cluster.", nil},
		{",", nil},
	} {
		m := dumped(whole)
		err := parseMask(test.mask).trim(m.ProtoReflect())
		if test.want == nil {
			if err == nil {
				t.Errorf("mask %q is taken", test.mask)
			}
			continue
		}
		if err != nil || !proto.Equal(m, dumped(test.want)) {
			t.Errorf("mask %q shows %v, %v, want %v", test.mask, m, err, test.want)
		}
	}
}

// FuzzMask looks for masks that show more than there was.
func FuzzMask(f *testing.F) {
	f.Add("cluster.name,last_updated")
	f.Fuzz(func(t *testing.T, text string) {
		whole := dumped(&clusterv3.Cluster{Name: "a", AltStatName: "b"})
		m := proto.Clone(whole)
		if parseMask(text).trim(m.ProtoReflect()) == nil && proto.Size(m) > proto.Size(whole) {
			t.Errorf("mask %q shows %v of %v", text, m, whole)
		}
	})
}
