package model

import "testing"

// A name server has UDP and TCP on port 53; the proxy carries the second.
func TestPortOfTwoProtocols(t *testing.T) {
	for _, order := range [][]Protocol{{UDP, TCP}, {TCP, UDP}} {
		s := &Service{Ports: []Port{{Number: 53, Protocol: order[0]}, {Number: 53, Protocol: order[1]}}}
		if p, ok := s.Port(53); !ok || p.Protocol != TCP {
			t.Errorf("%v: got %v, %v, want TCP", order, p.Protocol, ok)
		}
	}
	if p, ok := (&Service{Ports: []Port{{Number: 53, Protocol: UDP}}}).Port(53); !ok || p.Protocol != UDP {
		t.Errorf("got %v, %v, want the only one", p, ok)
	}
}
