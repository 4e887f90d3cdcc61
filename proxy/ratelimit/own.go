package ratelimit

import (
	"math"

	"github.com/mallamesh/malla/proxy/metadata"
)

// An Own is a limit that goes to the service with a descriptor and counts in place of the service's own. Filters that count in
// this process have limits of their own, and pass it over.
type Own struct {
	Requests uint32 // per unit
	Unit     uint8  // one of Units; 0: not known
}

// Units are Envoy's units of time, by number.
var Units = [...]string{"UNKNOWN", "SECOND", "MINUTE", "HOUR", "DAY", "MONTH", "YEAR"}

// ownIn reads the limit that stands at a place of a request's metadata: {requests_per_unit: 10, unit: HOUR}. What is no such limit is none.
func ownIn(d *metadata.Dynamic, at *metadata.Key) *Own {
	v, _ := at.Find(d)
	fields, _ := v.(metadata.Struct)
	n, ok := fields["requests_per_unit"].(float64)
	if !ok || !(n >= 0 && n <= math.MaxUint32) { // a part of one is cut off, as in Envoy
		return nil
	}
	for i, name := range Units {
		if fields["unit"] == name {
			return &Own{uint32(n), uint8(i)}
		}
	}
	return nil
}
