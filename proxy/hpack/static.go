package hpack

import "github.com/mallamesh/malla/proxy/header"

const (
	numStatic = 61
	overhead  = 32 // bytes that a table counts for an entry besides its name and value (section 4.1)
)

// DefaultTable is the size of a table until its peer's settings say otherwise.
const DefaultTable = 4096

// staticFields is RFC 7541, appendix A; index 0 is not used.
var staticFields = [numStatic + 1][2]string{
	{},
	{":authority", ""}, {":method", "GET"}, {":method", "POST"}, {":path", "/"}, {":path", "/index.html"},
	{":scheme", "http"}, {":scheme", "https"}, {":status", "200"}, {":status", "204"}, {":status", "206"},
	{":status", "304"}, {":status", "400"}, {":status", "404"}, {":status", "500"}, {"accept-charset", ""},
	{"accept-encoding", "gzip, deflate"}, {"accept-language", ""}, {"accept-ranges", ""}, {"accept", ""},
	{"access-control-allow-origin", ""}, {"age", ""}, {"allow", ""}, {"authorization", ""}, {"cache-control", ""},
	{"content-disposition", ""}, {"content-encoding", ""}, {"content-language", ""}, {"content-length", ""},
	{"content-location", ""}, {"content-range", ""}, {"content-type", ""}, {"cookie", ""}, {"date", ""}, {"etag", ""},
	{"expect", ""}, {"expires", ""}, {"from", ""}, {"host", ""}, {"if-match", ""}, {"if-modified-since", ""},
	{"if-none-match", ""}, {"if-range", ""}, {"if-unmodified-since", ""}, {"last-modified", ""}, {"link", ""},
	{"location", ""}, {"max-forwards", ""}, {"proxy-authenticate", ""}, {"proxy-authorization", ""}, {"range", ""},
	{"referer", ""}, {"refresh", ""}, {"retry-after", ""}, {"server", ""}, {"set-cookie", ""},
	{"strict-transport-security", ""}, {"transfer-encoding", ""}, {"user-agent", ""}, {"vary", ""}, {"via", ""},
	{"www-authenticate", ""},
}

var (
	static       [numStatic + 1]header.Field
	staticTokens [256]uint8                   // token -> first index of the name
	staticNames  = make(map[string]uint8, 64) // the same for names without a token
)

func init() {
	for i := numStatic; i >= 1; i-- {
		f := staticFields[i]
		t := header.TokenOf([]byte(f[0]))
		static[i] = header.Field{Name: []byte(f[0]), Value: []byte(f[1]), Token: t}
		if t != header.None {
			static[i].Name = t.Name()
			staticTokens[t] = uint8(i)
		} else {
			staticNames[f[0]] = uint8(i)
		}
	}
}
