package scenario

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// A Variation changes what all scenarios start from, so that each of them asks something else of both proxies than
// its sentence does: a search for what nobody has thought of.
type Variation struct {
	sections []Section // of the configuration, before the scenario's own
	client   []string  // h2, tls: how the client speaks
	upstream []string  // h2, tls: how upstreams do
	Workers  int       // 0: as the scenario says
}

// Set adds a change, as a flag's value: a section of the configuration with its text, "hcm {normalize_path: false}",
// or "client h2", "client tls", "upstream h2", "upstream tls", "workers 2".
func (v *Variation) Set(text string) error {
	kind, rest, _ := strings.Cut(strings.TrimSpace(text), " ")
	var err error
	switch {
	case kind == "client" && (rest == "h2" || rest == "tls"):
		v.client = append(v.client, rest)
	case kind == "upstream" && (rest == "h2" || rest == "tls"):
		v.upstream = append(v.upstream, rest)
	case kind == "workers":
		v.Workers, err = strconv.Atoi(rest)
	case slices.Contains(configSections, kind) && kind != "envoy.yaml" && kind != "file":
		v.sections = append(v.sections, Section{Kind: kind, Text: rest})
	default:
		err = fmt.Errorf("found %q, want a section of the configuration and its text, client h2|tls, upstream h2|tls, or workers N", text)
	}
	return err
}

// String is what flags need; a variation has no default.
func (v *Variation) String() string { return "" }

// Varies reports whether there is any change.
func (v *Variation) Varies() bool {
	return v.Workers > 0 || len(v.sections)+len(v.client)+len(v.upstream) > 0
}

// Apply changes a scenario; an error says why its text cannot be read as the variation needs it.
func (v *Variation) Apply(s *Scenario) error {
	if s.Refused {
		return fmt.Errorf("nothing is played")
	}
	for _, how := range v.upstream {
		if err := s.upstreamSpeaks(how); err != nil {
			return err
		}
	}
	s.config = slices.Concat(v.sections, s.config)
	if v.Workers > 0 {
		s.Workers = v.Workers
	}
	if slices.Contains(v.client, "h2") {
		if err := s.clientH2(); err != nil {
			return err
		}
	}
	if slices.Contains(v.client, "tls") {
		if err := s.clientTLS(); err != nil {
			return err
		}
	}
	return nil
}

// opened puts a connect before the first step of every connection that has none.
func (s *Scenario) opened() {
	there := map[string]bool{}
	var out []Step
	for _, step := range s.Steps {
		conn := step.Attrs["conn"]
		switch step.Do {
		case "connect":
			there[conn] = true
		case "request", "send", "answer", "read":
			if !there[conn] {
				c := Step{Do: "connect", Attrs: map[string]string{}}
				for _, k := range []string{"conn", "listener", "from"} {
					if value, ok := step.Attrs[k]; ok {
						c.Attrs[k] = value
					}
				}
				out, there[conn] = append(out, c), true
			}
		}
		out = append(out, step)
	}
	s.Steps = out
}

// clientH2 has the client say over HTTP/2 what it says over HTTP/1.1.
func (s *Scenario) clientH2() error {
	s.opened()
	for i, step := range s.Steps {
		switch step.Do {
		case "connect":
			if step.Has("h2") || step.Attrs["alpn"] != "" {
				return fmt.Errorf("says itself what it speaks")
			}
			s.Steps[i].Words = append(slices.Clone(step.Words), "h2")
		case "request":
			text, err := requestH2(step)
			if err != nil {
				return err
			}
			s.Steps[i].Text = text
		case "send", "answer", "read":
			return fmt.Errorf("is about bytes of HTTP/1.1")
		case "close":
			if step.Has("half") {
				return fmt.Errorf("is about half a connection")
			}
		}
	}
	return nil
}

// ofConnection are fields that HTTP/2 has not (RFC 9113, section 8.2.2).
var ofConnection = []string{"connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "http2-settings"}

func requestH2(step Step) (string, error) {
	if step.Has("open") || step.Has("exact") {
		return "", fmt.Errorf("is about bytes of HTTP/1.1")
	}
	raw, err := step.Bytes()
	if err != nil {
		return "", err
	}
	in := bufio.NewReader(strings.NewReader(raw))
	r, err := http.ReadRequest(in)
	if err != nil || r.ProtoMinor != 1 || r.Method == "CONNECT" || !strings.HasPrefix(r.RequestURI, "/") && r.RequestURI != "*" || len(r.Header["Upgrade"]) > 0 {
		return "", fmt.Errorf("its request is not one of HTTP/2")
	}
	body, err := io.ReadAll(r.Body)
	if err != nil || in.Buffered() > 0 {
		return "", fmt.Errorf("its request is not whole, or not alone")
	}
	head, _, _ := strings.Cut(raw, "\r\n\r\n")
	first, rest, _ := strings.Cut(head, "\r\n")
	var b strings.Builder
	method, path, _ := strings.Cut(first, " ")
	fmt.Fprintf(&b, "%s %s\n", method, strings.TrimSuffix(path, " HTTP/1.1"))
	if err := fieldsH2(&b, rest); err != nil {
		return "", err
	}
	finishH2(&b, body, r.Trailer)
	return b.String(), nil
}

// fieldsH2 writes lines of fields as HTTP/2 has them.
func fieldsH2(b *strings.Builder, lines string) error {
	for l := range strings.SplitSeq(lines, "\r\n") {
		if l == "" {
			continue
		}
		name, value, ok := strings.Cut(l, ":")
		name = strings.ToLower(name)
		switch {
		case !ok || name == "" || strings.ContainsAny(name, " \t"):
			return fmt.Errorf("has a field that is none")
		case slices.Contains(ofConnection, name):
		case name == "host":
			fmt.Fprintf(b, ":authority: %s\n", escaped(strings.Trim(value, " \t")))
		default:
			fmt.Fprintf(b, "%s: %s\n", name, escaped(strings.Trim(value, " \t")))
		}
	}
	return nil
}

func finishH2(b *strings.Builder, body []byte, trailers http.Header) {
	b.WriteString("\n")
	b.WriteString(escaped(string(body)))
	if len(body) > 0 {
		b.WriteString("\n")
	}
	if len(trailers) > 0 {
		b.WriteString("(trailers)\n")
		for k, values := range trailers {
			for _, value := range values {
				fmt.Fprintf(b, "%s: %s\n", strings.ToLower(k), escaped(value))
			}
		}
	}
}

// escaped writes a text so that Lines reads it.
func escaped(text string) string {
	var b strings.Builder
	for _, c := range []byte(text) {
		switch {
		case c == '\\':
			b.WriteString(`\\`)
		case c < ' ' && c != '\t' || c >= 0x7f:
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// tlsServer and tlsClient are the sockets of both sides with the certificates of package peer.
const (
	tlsServer = `{transport_socket: {name: tls, typed_config: {"@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, common_tls_context: {tls_certificates: [{certificate_chain: {filename: "{{pki}}/server.pem"}, private_key: {filename: "{{pki}}/server-key.pem"}}]}}}}`
	tlsClient = `{name: tls, typed_config: {"@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, sni: server.example}}`
	speakH2   = `{envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {"@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, explicit_http_config: {http2_protocol_options: {}}}}`
)

func (s *Scenario) clientTLS() error {
	s.opened()
	for i, step := range s.Steps {
		if step.Do != "connect" {
			continue
		}
		if step.Has("tls") {
			return fmt.Errorf("says itself how it is encrypted")
		}
		s.Steps[i].Words = append(slices.Clone(step.Words), "tls")
	}
	s.config = slices.Insert(s.config, 0, Section{Kind: "chain", Text: tlsServer})
	return nil
}

// upstreamSpeaks has upstreams say over HTTP/2 what they say over HTTP/1.1, or all that over TLS.
func (s *Scenario) upstreamSpeaks(how string) error {
	for _, section := range s.config {
		if strings.Contains(section.Text, "explicit_http_config") || strings.Contains(section.Text, "transport_socket:") || section.Kind == "tcp_proxy" || section.Kind == "envoy.yaml" {
			return fmt.Errorf("says itself how its upstreams speak")
		}
	}
	if !slices.ContainsFunc(s.Upstreams, func(u *Upstream) bool { return u.Name == "backend" }) {
		s.Upstreams = append([]*Upstream{{Name: "backend", Attrs: map[string]string{}}}, s.Upstreams...)
	}
	for _, u := range s.Upstreams {
		if u.Attrs["proto"] != "" || u.Attrs["tls"] != "" {
			return fmt.Errorf("says itself how its upstreams speak")
		}
		if how == "tls" {
			u.Attrs["tls"] = "server"
		} else {
			u.Attrs["proto"] = "h2"
			for i, a := range u.Answers {
				text, err := answerH2(a)
				if err != nil {
					return err
				}
				u.Answers[i].Text = text
			}
		}
		if len(u.Answers) == 0 {
			u.Answers = []Step{{Attrs: map[string]string{}, Text: map[string]string{"h2": "200\ncontent-length: 2\n\nok", "tls": "HTTP/1.1 200 OK\ncontent-length: 2\n\nok"}[how]}}
		}
	}
	s.speaks = append(s.speaks, how)
	return nil
}

func answerH2(a Step) (string, error) {
	if a.Text == "" {
		return "", nil
	}
	if strings.Contains(a.Text, "(pause)") || a.Has("continue") || a.Has("echo") {
		return "", fmt.Errorf("is about bytes of HTTP/1.1")
	}
	raw, err := a.Bytes()
	if err != nil {
		return "", err
	}
	in := bufio.NewReader(strings.NewReader(raw))
	r, err := http.ReadResponse(in, nil)
	if err != nil || r.StatusCode < 200 {
		return "", fmt.Errorf("its answer is not one of HTTP/2")
	}
	body, err := io.ReadAll(r.Body)
	if err != nil && !a.Has("close") && !a.Has("reset") && !a.Has("silent") {
		return "", fmt.Errorf("its answer is not whole")
	}
	head, _, _ := strings.Cut(raw, "\r\n\r\n")
	_, rest, _ := strings.Cut(head, "\r\n")
	var b strings.Builder
	fmt.Fprintf(&b, "%d\n", r.StatusCode)
	if err := fieldsH2(&b, rest); err != nil {
		return "", err
	}
	finishH2(&b, body, r.Trailer)
	return b.String(), nil
}

// speak has a cluster do what its upstream does.
func (v *View) speak(c object) error {
	for _, how := range v.speaks {
		key, text := "typed_extension_protocol_options", speakH2
		if how == "tls" {
			key, text = "transport_socket", tlsClient
		}
		tree, err := v.tree("{value: " + text + "}")
		if err != nil {
			return err
		}
		name, _ := c["name"].(string)
		if have, _ := c[key].(object); have == nil || name == "backend" {
			c[key] = tree["value"]
		}
	}
	return nil
}
