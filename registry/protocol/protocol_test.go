package protocol

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/mallamesh/malla/model"
)

func TestOf(t *testing.T) {
	for _, test := range []struct {
		name, app string
		number    int32
		transport corev1.Protocol
		want      model.Protocol
	}{
		{"http", "", 80, "", model.HTTP},
		{"http-web", "", 80, "TCP", model.HTTP}, // the first part of the name counts
		{"HTTP-web", "", 80, "TCP", model.HTTP},
		{"httpweb", "", 80, "TCP", model.Sniffed}, // only up to a dash
		{"http2", "", 80, "", model.HTTP2},
		{"grpc-api", "", 80, "", model.GRPC},
		{"grpc-web", "", 80, "", model.GRPCWeb},
		{"grpc-web-x", "", 80, "", model.GRPCWeb},
		{"https", "", 443, "", model.HTTPS},
		{"tls-x", "", 443, "", model.TLS},
		{"mongo", "", 1, "", model.Mongo},
		{"redis-x", "", 1, "", model.Redis},
		{"tcp", "", 80, "", model.TCP},
		{"udp", "", 80, "", model.TCP}, // a TCP port does not become UDP by its name
		{"dns", "", 53, "UDP", model.UDP},
		{"http", "", 53, "UDP", model.UDP},
		{"", "", 3306, "", model.TCP}, // the server speaks first
		{"", "", 27017, "", model.TCP},
		{"", "", 8080, "", model.Sniffed},
		{"web", "", 8080, "", model.Sniffed},
		{"http", "tcp", 80, "", model.TCP}, // appProtocol beats the name
		{"http", "kubernetes.io/h2c", 80, "", model.HTTP2},
		{"", "kubernetes.io/ws", 80, "", model.HTTP},
		{"", "kubernetes.io/wss", 80, "", model.HTTPS},
		{"http", "example.com/own", 80, "", model.HTTP}, // an unknown one says nothing
		{"", "http", 3306, "", model.HTTP},
	} {
		p := &corev1.ServicePort{Name: test.name, Port: test.number, Protocol: test.transport}
		if test.app != "" {
			p.AppProtocol = &test.app
		}
		if got := Of(p); got != test.want {
			t.Errorf("port %d %q appProtocol %q: found %s, want %s", test.number, test.name, test.app, got, test.want)
		}
	}
}
