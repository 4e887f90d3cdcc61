package access

// A Flag says one thing that went wrong with a stream, or was done to it, in the
// words of Envoy's response flags.
type Flag uint8

// Envoy's response flags, in Envoy's order.
const (
	NoFlag                           Flag = iota
	FailedLocalHealthCheck                // LH
	NoHealthyUpstream                     // UH
	UpstreamRequestTimeout                // UT
	LocalReset                            // LR
	UpstreamRemoteReset                   // UR
	UpstreamConnectionFailure             // UF
	UpstreamConnectionTermination         // UC
	UpstreamOverflow                      // UO
	NoRouteFound                          // NR: no route, or no filter chain
	DelayInjected                         // DI
	FaultInjected                         // FI
	RateLimited                           // RL
	UnauthorizedExternalService           // UAEX
	RateLimitServiceError                 // RLSE
	DownstreamConnectionTermination       // DC
	UpstreamRetryLimitExceeded            // URX: retries, or attempts to connect, used up
	StreamIdleTimeout                     // SI
	InvalidEnvoyRequestHeaders            // IH
	DownstreamProtocolError               // DPE
	UpstreamMaxStreamDurationReached      // UMSDR
	ResponseFromCacheFilter               // RFCF
	NoFilterConfigFound                   // NFCF
	DurationTimeout                       // DT
	UpstreamProtocolError                 // UPE
	NoClusterFound                        // NC
	OverloadManagerTerminated             // OM
	DNSResolutionFailed                   // DF
	DropOverload                          // DO
	DownstreamRemoteReset                 // DR
	UnconditionalDropOverload             // UDO
	numFlags
)

var flagNames = [numFlags]struct{ short, long string }{
	FailedLocalHealthCheck:           {"LH", "FailedLocalHealthCheck"},
	NoHealthyUpstream:                {"UH", "NoHealthyUpstream"},
	UpstreamRequestTimeout:           {"UT", "UpstreamRequestTimeout"},
	LocalReset:                       {"LR", "LocalReset"},
	UpstreamRemoteReset:              {"UR", "UpstreamRemoteReset"},
	UpstreamConnectionFailure:        {"UF", "UpstreamConnectionFailure"},
	UpstreamConnectionTermination:    {"UC", "UpstreamConnectionTermination"},
	UpstreamOverflow:                 {"UO", "UpstreamOverflow"},
	NoRouteFound:                     {"NR", "NoRouteFound"},
	DelayInjected:                    {"DI", "DelayInjected"},
	FaultInjected:                    {"FI", "FaultInjected"},
	RateLimited:                      {"RL", "RateLimited"},
	UnauthorizedExternalService:      {"UAEX", "UnauthorizedExternalService"},
	RateLimitServiceError:            {"RLSE", "RateLimitServiceError"},
	DownstreamConnectionTermination:  {"DC", "DownstreamConnectionTermination"},
	UpstreamRetryLimitExceeded:       {"URX", "UpstreamRetryLimitExceeded"},
	StreamIdleTimeout:                {"SI", "StreamIdleTimeout"},
	InvalidEnvoyRequestHeaders:       {"IH", "InvalidEnvoyRequestHeaders"},
	DownstreamProtocolError:          {"DPE", "DownstreamProtocolError"},
	UpstreamMaxStreamDurationReached: {"UMSDR", "UpstreamMaxStreamDurationReached"},
	ResponseFromCacheFilter:          {"RFCF", "ResponseFromCacheFilter"},
	NoFilterConfigFound:              {"NFCF", "NoFilterConfigFound"},
	DurationTimeout:                  {"DT", "DurationTimeout"},
	UpstreamProtocolError:            {"UPE", "UpstreamProtocolError"},
	NoClusterFound:                   {"NC", "NoClusterFound"},
	OverloadManagerTerminated:        {"OM", "OverloadManagerTerminated"},
	DNSResolutionFailed:              {"DF", "DnsResolutionFailed"},
	DropOverload:                     {"DO", "DropOverload"},
	DownstreamRemoteReset:            {"DR", "DownstreamRemoteReset"},
	UnconditionalDropOverload:        {"UDO", "UnconditionalDropOverload"},
}

// String returns the short name, such as "UH".
func (f Flag) String() string { return flagNames[f].short }

// Long returns the long name, such as "NoHealthyUpstream".
func (f Flag) Long() string { return flagNames[f].long }

// ParseFlag returns the flag with this short name.
func ParseFlag(short string) (Flag, bool) {
	for f := NoFlag + 1; f < numFlags; f++ {
		if flagNames[f].short == short {
			return f, true
		}
	}
	return NoFlag, false
}

// Flags is the set of flags of one stream, in the order in which they were
// raised: Envoy logs them so ("URX,UF"), and dashboards group by that text. The
// zero value is empty; values are comparable and serve as keys of maps.
//
// Ten flags fit, six bits each. A stream raises one or two; what comes after the
// tenth is dropped.
type Flags uint64

const flagBits, maxFlags = 6, 10

// Set adds a flag if it is not there.
func (s *Flags) Set(f Flag) {
	if f == NoFlag {
		return
	}
	for i := 0; i < maxFlags; i++ {
		switch s.at(i) {
		case f:
			return
		case NoFlag:
			*s |= Flags(f) << (flagBits * i)
			return
		}
	}
}

// Has reports whether a flag is there.
func (s Flags) Has(f Flag) bool {
	for ; s != 0; s >>= flagBits {
		if s.at(0) == f {
			return true
		}
	}
	return false
}

func (s Flags) at(i int) Flag { return Flag(s >> (flagBits * i) & (1<<flagBits - 1)) }

// Mask is the set with a bit for each flag, the first flag's being 1.
func (s Flags) Mask() (bits uint64) {
	for ; s != 0; s >>= flagBits {
		bits |= 1 << (s.at(0) - 1)
	}
	return bits
}

// Append appends the short names with commas between, or "-" if there is none.
func (s Flags) Append(dst []byte) []byte { return s.append(dst, Flag.short) }

// AppendLong is Append with the long names.
func (s Flags) AppendLong(dst []byte) []byte { return s.append(dst, Flag.long) }

func (s Flags) append(dst []byte, name func(Flag) string) []byte {
	if s == 0 {
		return append(dst, '-')
	}
	for first := true; s != 0; s >>= flagBits {
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(dst, name(s.at(0))...)
	}
	return dst
}

func (f Flag) short() string { return flagNames[f].short }
func (f Flag) long() string  { return flagNames[f].long }

// String returns the short names with commas between, or "-".
func (s Flags) String() string {
	if s == 0 {
		return "-"
	}
	if s < 1<<flagBits {
		return flagNames[s.at(0)].short
	}
	return string(s.Append(nil))
}
