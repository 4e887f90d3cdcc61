package route

import (
	"strconv"
	"time"
)

// GRPC is the time that a grpc-timeout field allows, within the route's limits, 0: any. It reports
// whether there is such a field.
func (l *MaxStream) GRPC(v []byte) (time.Duration, bool) {
	asked, ok := parseGRPCTimeout(v)
	if off := l.GRPCTimeoutOffset; off > 0 && asked > off {
		asked -= off
	}
	if most := *l.GRPCTimeoutMax; most > 0 && (asked == 0 || asked > most) {
		asked = most
	}
	return asked, ok
}

// Stream is how long a stream may last whose client allows the time of a grpc-timeout field: as long as the route's limit
// allows, less what the host is to have left. It reports whether there is such a field. Nothing is left of no time.
func (l *MaxStream) Stream(v []byte) (time.Duration, bool) {
	asked, ok := parseGRPCTimeout(v)
	if most := *l.GRPCTimeoutMax; most > 0 {
		asked = min(asked, most)
	}
	return max(0, asked-l.GRPCTimeoutOffset), ok
}

// AppendGRPCTimeout writes a time as a grpc-timeout field: in milliseconds where eight digits, which is what gRPC
// allows, are enough, else in the next larger unit.
func AppendGRPCTimeout(dst []byte, d time.Duration) []byte {
	n, unit := d.Milliseconds(), byte('m')
	for _, next := range [...]struct {
		unit byte
		of   int64
	}{{'S', 1000}, {'M', 60}, {'H', 60}} {
		if n < 1e8 {
			break
		}
		n, unit = n/next.of, next.unit
	}
	return append(strconv.AppendInt(dst, n, 10), unit)
}

// roundUp makes milliseconds of a time, so that a little of it does not become none.
func roundUp(d time.Duration) time.Duration {
	return (d + time.Millisecond - 1).Truncate(time.Millisecond)
}

// parseGRPCTimeout reads a grpc-timeout (gRPC over HTTP/2: at most eight digits and a unit).
func parseGRPCTimeout(v []byte) (time.Duration, bool) {
	if len(v) < 2 || len(v) > 9 {
		return 0, false
	}
	n := time.Duration(0)
	for _, c := range v[:len(v)-1] {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + time.Duration(c-'0')
	}
	switch v[len(v)-1] {
	case 'H':
		return min(n, 1<<20) * time.Hour, true // a hundred years are for ever, and no overflow
	case 'M':
		return n * time.Minute, true
	case 'S':
		return n * time.Second, true
	case 'm':
		return n * time.Millisecond, true
	case 'u':
		return roundUp(n * time.Microsecond), true
	case 'n':
		return roundUp(n), true
	}
	return 0, false
}
