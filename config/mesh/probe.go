package mesh

import (
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/mallamesh/malla/base/field"
)

// CheckProbe adds what is wrong with a readiness probe of a machine to errs.
func CheckProbe(p *networking.ReadinessProbe, at *field.Path, errs *field.List) {
	if p == nil {
		return
	}
	port := func(at *field.Path, n uint32) {
		if n < 1 || n > 65535 {
			errs.Addf(at.Child("port"), "found %d, want 1 to 65535", n)
		}
	}
	switch h := p.GetHealthCheckMethod().(type) {
	case nil:
		errs.Addf(at, "says nothing; want httpGet, tcpSocket, exec or grpc")
	case *networking.ReadinessProbe_HttpGet:
		at := at.Child("httpGet")
		port(at, h.HttpGet.GetPort())
		if s := strings.ToLower(h.HttpGet.GetScheme()); s != "" && s != "http" && s != "https" {
			errs.Addf(at.Child("scheme"), "found %q, want http or https", h.HttpGet.GetScheme())
		}
		for i, header := range h.HttpGet.GetHttpHeaders() {
			if header.GetName() == "" {
				errs.Addf(at.Child("httpHeaders").Index(i).Child("name"), "missing; want the name of a header field")
			}
		}
	case *networking.ReadinessProbe_TcpSocket:
		port(at.Child("tcpSocket"), h.TcpSocket.GetPort())
	case *networking.ReadinessProbe_Exec:
		if len(h.Exec.GetCommand()) == 0 {
			errs.Addf(at.Child("exec").Child("command"), "missing; want the command and its arguments")
		}
	case *networking.ReadinessProbe_Grpc:
		port(at.Child("grpc"), h.Grpc.GetPort())
	}
	for _, n := range []struct {
		name  string
		value int32
	}{{"initialDelaySeconds", p.GetInitialDelaySeconds()}, {"timeoutSeconds", p.GetTimeoutSeconds()}, {"periodSeconds", p.GetPeriodSeconds()},
		{"successThreshold", p.GetSuccessThreshold()}, {"failureThreshold", p.GetFailureThreshold()}} {
		if n.value < 0 {
			errs.Addf(at.Child(n.name), "found %d, want 0 or more", n.value)
		}
	}
}
