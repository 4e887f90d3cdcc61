package curl

import (
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// writeOut prints the format of -w after a transfer.
func (t *transfer) writeOut(err *failure) {
	if t.o.writeOut == "" {
		return
	}
	if err != nil {
		t.errCode, t.errText = err.code, err.text
	}
	var out io.Writer = t.out
	f := t.o.writeOut
	for f != "" {
		switch {
		case strings.HasPrefix(f, "%%"):
			io.WriteString(out, "%")
			f = f[2:]
		case strings.HasPrefix(f, "%{"):
			name, rest, ok := strings.Cut(f[2:], "}")
			if !ok {
				io.WriteString(out, f)
				return
			}
			f = rest
			switch name {
			case "stderr":
				t.out.Flush()
				out = t.err
			case "stdout":
				out = t.out
			default:
				io.WriteString(out, t.variable(name))
			}
		case strings.HasPrefix(f, "%header{"):
			name, rest, ok := strings.Cut(f[len("%header{"):], "}")
			if !ok {
				io.WriteString(out, f)
				return
			}
			io.WriteString(out, t.get(name))
			f = rest
		case f[0] == '\\' && len(f) > 1:
			if s, ok := map[byte]string{'n': "\n", 'r': "\r", 't': "\t"}[f[1]]; ok {
				io.WriteString(out, s)
			} else {
				io.WriteString(out, f[:2])
			}
			f = f[2:]
		default:
			io.WriteString(out, f[:1])
			f = f[1:]
		}
	}
}

func inSeconds(d time.Duration) string { return fmt.Sprintf("%.6f", d.Seconds()) }

// variable is the value of a -w variable; an unknown one is empty, as curl's.
func (t *transfer) variable(name string) string {
	switch name {
	case "http_code", "response_code":
		return fmt.Sprintf("%03d", t.status)
	case "http_version":
		if t.proto == "" {
			return "0"
		}
		return t.proto
	case "method":
		return t.method
	case "url":
		return t.url
	case "url_effective":
		if t.target == nil {
			return t.url
		}
		u := *t.target
		u.User = nil
		if u.Path == "" {
			u.Path = "/"
		}
		return u.String()
	case "scheme":
		if t.target == nil {
			return ""
		}
		return t.target.Scheme
	case "content_type":
		return t.get("Content-Type")
	case "redirect_url":
		return t.next
	case "num_redirects":
		return strconv.Itoa(t.hops)
	case "num_connects":
		return strconv.Itoa(t.opened)
	case "num_headers":
		return strconv.Itoa(len(t.header))
	case "size_download":
		return strconv.FormatInt(t.size, 10)
	case "size_upload":
		return strconv.FormatInt(t.sent, 10)
	case "speed_download":
		if t.times.total <= 0 {
			return "0"
		}
		return strconv.FormatInt(int64(float64(t.size)/t.times.total.Seconds()), 10)
	case "exitcode":
		return strconv.Itoa(t.errCode)
	case "errormsg":
		return t.errText
	case "ssl_verify_result":
		return "0"
	case "time_namelookup":
		return inSeconds(t.times.lookup)
	case "time_connect":
		return inSeconds(t.times.connect)
	case "time_appconnect":
		return inSeconds(t.times.tls)
	case "time_pretransfer":
		return inSeconds(t.times.pretransfer)
	case "time_starttransfer":
		return inSeconds(t.times.first)
	case "time_redirect":
		return inSeconds(t.times.redirect)
	case "time_total":
		return inSeconds(t.times.total)
	case "remote_ip", "remote_port", "local_ip", "local_port":
		return t.address(name)
	}
	return ""
}

func (t *transfer) address(name string) string {
	if t.conn == nil {
		return ""
	}
	addr := t.conn.RemoteAddr()
	if strings.HasPrefix(name, "local") {
		addr = t.conn.LocalAddr()
	}
	host, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		return ""
	}
	if strings.HasSuffix(name, "_port") {
		return port
	}
	return host
}
