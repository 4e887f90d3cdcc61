package scenario

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A View is a scenario as one of the proxies has it: its addresses and places.
type View struct {
	*Scenario
	IP        string            // a loopback address that nobody else uses
	Upstream  map[string]string // host:port of each upstream
	Workspace string            // a directory for files of the scenario
	PKI       string            // a directory with certificates (package peer)
	Lines     string            // a log that scenarios share, for those that do not care where lines are written
	listeners []named           // in the configuration's order

	Without string // a field, by its full name, that is taken out of the configuration, "" for none

	mu     sync.Mutex
	normal map[string]string // guarded by mu: who waits for something normalizes all that has come, over and over
}

type named struct{ name, address string }

// Prefix is put before names of clusters, listeners, secrets and statistics.
func (v *View) Prefix() string {
	return strings.NewReplacer("/", "-", ".", "-", "_", "-").Replace(v.Name) + "--"
}

// Log is the file that access logs are written to by default. Scenarios that say nothing of it share one: Envoy has
// a thread and a timer for every file, and a thousand of them would be most of what it does.
func (v *View) Log() string {
	if v.Lines == "" || v.ownLog {
		return v.Workspace + "/access.log"
	}
	return v.Lines
}

// Logged returns what the log says so far of this scenario.
func (v *View) Logged() []string {
	text, _ := os.ReadFile(v.Log())
	var out []string
	for l := range strings.Lines(string(text)) {
		if v.Log() != v.Lines || strings.HasPrefix(l, v.Prefix()) {
			out = append(out, v.Normalize(strings.TrimSuffix(l, "\n")))
		}
	}
	return out
}

// Listener returns where a listener listens; "" is the first.
func (v *View) Listener(name string) (string, error) {
	if strings.Contains(name, ":") || strings.HasPrefix(name, "/") { // an address
		return name, nil
	}
	for _, l := range v.listeners {
		if name == "" || l.name == name {
			return l.address, nil
		}
	}
	return "", fmt.Errorf("there is no listener %q", name)
}

// Fill replaces {{...}} in a text.
func (v *View) Fill(text string) (string, error) {
	for {
		before, rest, found := strings.Cut(text, "{{")
		if !found {
			return text, nil
		}
		what, after, found := strings.Cut(rest, "}}")
		if !found {
			return "", fmt.Errorf("found {{ without }}")
		}
		value, err := v.value(strings.Fields(what))
		if err != nil {
			return "", err
		}
		text = before + value + after
	}
}

func (v *View) value(words []string) (string, error) {
	if len(words) == 0 {
		words = []string{""}
	}
	switch words[0] {
	case "prefix":
		return v.Prefix(), nil
	case "dir":
		return v.Workspace, nil
	case "log":
		return v.Log(), nil
	case "pki":
		return v.PKI, nil
	case "ip":
		return v.IP, nil
	case "closed": // nobody listens there
		return address(v.IP + ":9"), nil
	case "pem":
		if len(words) == 2 {
			text, err := os.ReadFile(filepath.Join(v.PKI, words[1]+".pem"))
			if errors.Is(err, fs.ErrNotExist) { // as for fingerprints
				return "", nil
			}
			return string(text), err
		}
	case "hash", "spki", "der":
		if len(words) == 2 {
			return v.fingerprint(words[1], words[0])
		}
	case "upstream":
		if len(words) == 2 && v.Upstream[words[1]] != "" {
			return address(v.Upstream[words[1]]), nil
		}
	case "port":
		if len(words) == 2 && v.Upstream[words[1]] != "" {
			_, port, err := net.SplitHostPort(v.Upstream[words[1]])
			return port, err
		}
	case "endpoints":
		var list []string
		for _, w := range words[1:] {
			if v.Upstream[w] == "" {
				return "", fmt.Errorf("{{endpoints %s}}: there is no upstream of that name", w)
			}
			list = append(list, "{endpoint: {address: "+address(v.Upstream[w])+"}}")
		}
		return "{endpoints: [{lb_endpoints: [" + strings.Join(list, ", ") + "]}]}", nil
	}
	return "", fmt.Errorf("found {{%s}}, want {{upstream NAME}}, {{port NAME}}, {{endpoints NAME...}}, {{closed}}, {{ip}}, {{prefix}}, {{dir}}, {{log}}, {{pki}}, {{pem NAME}}, {{der NAME}}, {{hash NAME}} or {{spki NAME}}", strings.Join(words, " "))
}

// fingerprint is the SHA-256 of a certificate in hex, or of its key in base64.
func (v *View) fingerprint(name, what string) (string, error) {
	text, err := os.ReadFile(filepath.Join(v.PKI, name+".pem"))
	if errors.Is(err, fs.ErrNotExist) { // the configuration is only looked at: nobody has made certificates
		return strings.Repeat("0", 64), nil
	}
	if err != nil {
		return "", err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return "", fmt.Errorf("%s.pem: found no certificate", name)
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(c.Raw)
	switch what {
	case "der":
		return base64.StdEncoding.EncodeToString(c.Raw), nil
	case "spki":
		sum = sha256.Sum256(c.RawSubjectPublicKeyInfo)
		return base64.StdEncoding.EncodeToString(sum[:]), nil
	}
	return hex.EncodeToString(sum[:]), nil
}

// address writes Envoy's address in YAML on one line.
func address(hostport string) string {
	if strings.HasPrefix(hostport, "/") {
		return "{pipe: {path: " + hostport + "}}"
	}
	at := strings.LastIndex(hostport, ":")
	return `{socket_address: {address: "` + strings.Trim(hostport[:at], "[]") + `", port_value: ` + hostport[at+1:] + "}}"
}

var (
	uuid      = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	instant   = regexp.MustCompile(`"timestamp":"[0-9T:.-]+Z"`)
	portValue = regexp.MustCompile(`"port_value":[0-9]+`)
	endpoint  = regexp.MustCompile(`127\.\d+\.\d+\.\d+:\d+`)
	endpoint6 = regexp.MustCompile(`\[::1\]:\d+`)
	session   = regexp.MustCompile(`="(C[A-Za-z0-9+/]{14,}={0,2})"`) // a message of a cookie that keeps a client at its host
	ofName    = regexp.MustCompile(`\.example:[0-9]{5}\b`)
	secret    = regexp.MustCompile(`\b([A-Z0-9_]+_(?:SECRET(?:_0)?|RANDOM)) [0-9a-f]{64} [0-9a-f]{64,96}$`) // a line of a key log
	hash      = regexp.MustCompile(`="[0-9a-f]{16}"`)                                                       // of a cookie that balancing makes
	dates     = regexp.MustCompile(`(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} (\d{4}) \d\d:\d\d:\d\d GMT`)
	took      = regexp.MustCompile(`(?i)(x-envoy-upstream-service-time: )\d+`)
	left      = regexp.MustCompile(`(?i)(x-envoy-expected-rq-timeout-ms: |grpc-timeout: )(\d+)`)
)

// Normalize takes out of a text what differs between two runs of one proxy: ids,
// ports, the date of today, and what a shared process needs to tell scenarios apart.
func (v *View) Normalize(text string) string {
	v.mu.Lock()
	defer v.mu.Unlock()
	out, done := v.normal[text]
	if !done {
		out = v.normalize(text)
		if v.normal == nil {
			v.normal = map[string]string{}
		}
		v.normal[text] = out
	}
	return out
}

func (v *View) normalize(text string) string {
	text = strings.ReplaceAll(text, v.Prefix(), "")
	text = endpoint.ReplaceAllString(text, "127.0.0.1:(port)")
	text = endpoint6.ReplaceAllString(text, "[::1]:(port)")
	text = session.ReplaceAllStringFunc(text, plainSession)
	text = ofName.ReplaceAllString(text, ".example:(port)")
	text = strings.ReplaceAll(text, v.IP, "127.0.0.1")
	text = instant.ReplaceAllString(text, `"timestamp":"(now)"`)
	text = portValue.ReplaceAllString(text, `"port_value":(port)`)
	for _, place := range [][2]string{{v.Lines, "(dir)/access.log"}, {v.Workspace, "(dir)"}, {v.PKI, "(pki)"}} {
		if place[0] != "" {
			text = strings.ReplaceAll(text, place[0], place[1])
		}
	}
	text = secret.ReplaceAllString(text, "$1 (random) (secret)")
	text = hash.ReplaceAllString(text, `="(hash)"`)
	text = uuid.ReplaceAllStringFunc(text, func(id string) string {
		if id[14] == '4' { // the version, which is where the decision to trace is kept
			return "(uuid)"
		}
		return "(uuid " + id[14:15] + ")"
	})
	text = took.ReplaceAllString(text, "${1}(ms)")
	// What is left of a timeout, in tenths of a second, or in five seconds of a long one: those of a busy machine.
	text = left.ReplaceAllStringFunc(text, func(l string) string {
		m := left.FindStringSubmatch(l)
		ms, err := strconv.Atoi(m[2])
		if err != nil {
			return l
		}
		step := 100
		if ms > 5000 {
			step = 5000
		}
		return m[1] + strconv.Itoa((ms+step-1)/step*step)
	})
	return dates.ReplaceAllStringFunc(text, func(d string) string {
		if year, err := strconv.Atoi(dates.FindStringSubmatch(d)[2]); err == nil && year >= time.Now().Year()-1 {
			return "(now)"
		}
		return d
	})
}

// plainSession says what is in the cookie of a session: its host, and whether it ends.
func plainSession(value string) string {
	b, err := base64.StdEncoding.DecodeString(strings.Trim(value, `="`) + strings.Repeat("=", strings.Count(value, "=")-1))
	if err != nil || len(b) < 2 || b[0] != '\n' || len(b) < 2+int(b[1]) {
		return value
	}
	host, ends := string(b[2:2+b[1]]), ""
	if len(b) > len(host)+2 {
		ends = ", and an end"
	}
	return `="(` + endpoint.ReplaceAllString(host, "127.0.0.1:(port)") + ends + `)"`
}

// NormalizeHead is Normalize for a message: the order of headers of different names
// is free (RFC 9110, section 5.3).
func (v *View) NormalizeHead(text string) string {
	head, body, ok := strings.Cut(text, "\r\n\r\n")
	if !ok {
		return v.Normalize(text)
	}
	lines := strings.Split(v.Normalize(head), "\r\n")
	slices.SortStableFunc(lines[1:], func(a, b string) int {
		return strings.Compare(fieldName(a), fieldName(b))
	})
	return strings.Join(lines, "\r\n") + "\r\n\r\n" + v.Normalize(body)
}

// fieldName is the name of a header line; that of a pseudo-header begins with a colon.
func fieldName(line string) string {
	if i := strings.Index(strings.TrimPrefix(line, ":"), ":"); i > 0 {
		line = line[:i+1]
	}
	return strings.ToLower(line)
}
