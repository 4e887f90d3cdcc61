package curl

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"mime/multipart"
	"net/url"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// options are a command line's.
type options struct {
	urls    []string
	outputs []string // -o and -O, in the order of the URLs
	stdin   io.Reader

	silent, showError, verbose, include, head, fail, failBody, failEarly, location, insecure, noBuffer bool
	get, compressed, ipv4, ipv6, http10, globOff, createDirs, version, help, retryAll, retryRefused    bool
	noKeepalive                                                                                        bool

	method, user, agent, referer, writeOut, proxy, proxyUser, caFile, cert, key, dump, cookie, jar string
	unixSocket, requestTarget, byteRange, bearer                                                   string
	headers                                                                                        []string
	data                                                                                           []byte
	hasData, isJSON, isForm                                                                        bool
	form                                                                                           []string
	formType                                                                                       string
	upload                                                                                         string
	hasUpload                                                                                      bool
	resolve, connectTo                                                                             []string
	maxTime, connectTimeout, retryDelay                                                            time.Duration
	retry, maxRedirs                                                                               int
}

// An opt is one option: a flag, or one with a value.
type opt struct {
	long  string
	short byte
	flag  func(*options)
	value func(*options, string) error
}

func flag(long string, short byte, set func(*options)) opt { return opt{long, short, set, nil} }
func value(long string, short byte, set func(*options, string) error) opt {
	return opt{long, short, nil, set}
}
func text(long string, short byte, field func(*options) *string) opt {
	return value(long, short, func(o *options, v string) error { *field(o) = v; return nil })
}
func list(long string, short byte, field func(*options) *[]string) opt {
	return value(long, short, func(o *options, v string) error { *field(o) = append(*field(o), v); return nil })
}
func seconds(long string, short byte, field func(*options) *time.Duration) opt {
	return value(long, short, func(o *options, v string) error {
		n, err := strconv.ParseFloat(v, 64)
		if err != nil || !(n >= 0 && n < 1e9) {
			return fmt.Errorf("expected a proper numerical parameter")
		}
		*field(o) = time.Duration(n * float64(time.Second))
		return nil
	})
}
func number(long string, short byte, field func(*options) *int) opt {
	return value(long, short, func(o *options, v string) (err error) {
		if *field(o), err = strconv.Atoi(v); err != nil {
			return fmt.Errorf("expected a proper numerical parameter")
		}
		return nil
	})
}

func nothing(*options) {}

// table lists what is known.
var table = []opt{
	flag("silent", 's', func(o *options) { o.silent = true }),
	flag("show-error", 'S', func(o *options) { o.showError = true }),
	flag("verbose", 'v', func(o *options) { o.verbose = true }),
	flag("include", 'i', func(o *options) { o.include = true }),
	flag("show-headers", 0, func(o *options) { o.include = true }),
	flag("head", 'I', func(o *options) { o.head = true }),
	flag("fail", 'f', func(o *options) { o.fail = true }),
	flag("fail-with-body", 0, func(o *options) { o.failBody = true }),
	flag("fail-early", 0, func(o *options) { o.failEarly = true }),
	flag("location", 'L', func(o *options) { o.location = true }),
	flag("insecure", 'k', func(o *options) { o.insecure = true }),
	flag("no-buffer", 'N', func(o *options) { o.noBuffer = true }),
	flag("get", 'G', func(o *options) { o.get = true }),
	flag("compressed", 0, func(o *options) { o.compressed = true }),
	flag("ipv4", '4', func(o *options) { o.ipv4 = true }),
	flag("ipv6", '6', func(o *options) { o.ipv6 = true }),
	flag("http1.0", '0', func(o *options) { o.http10 = true }),
	flag("http1.1", 0, func(o *options) { o.http10 = false }),
	flag("http2", 0, nothing), // a wish; curl falls back too
	flag("globoff", 'g', func(o *options) { o.globOff = true }),
	flag("create-dirs", 0, func(o *options) { o.createDirs = true }),
	flag("remote-name", 'O', func(o *options) { o.outputs = append(o.outputs, "/") }),
	flag("no-keepalive", 0, func(o *options) { o.noKeepalive = true }),
	flag("no-progress-meter", 0, nothing),
	flag("progress-bar", '#', nothing),
	flag("disable", 'q', nothing), // there is no configuration file to be disabled
	flag("path-as-is", 0, nothing),
	flag("tcp-nodelay", 0, nothing),
	flag("retry-all-errors", 0, func(o *options) { o.retryAll = true }),
	flag("retry-connrefused", 0, func(o *options) { o.retryRefused = true }),
	flag("version", 'V', func(o *options) { o.version = true }),
	flag("help", 'h', func(o *options) { o.help = true }),
	value("output", 'o', func(o *options, v string) error { o.outputs = append(o.outputs, v); return nil }),
	list("url", 0, func(o *options) *[]string { return &o.urls }),
	list("header", 'H', func(o *options) *[]string { return &o.headers }),
	list("resolve", 0, func(o *options) *[]string { return &o.resolve }),
	list("connect-to", 0, func(o *options) *[]string { return &o.connectTo }),
	text("request", 'X', func(o *options) *string { return &o.method }),
	text("request-target", 0, func(o *options) *string { return &o.requestTarget }),
	text("user", 'u', func(o *options) *string { return &o.user }),
	text("oauth2-bearer", 0, func(o *options) *string { return &o.bearer }),
	text("user-agent", 'A', func(o *options) *string { return &o.agent }),
	text("referer", 'e', func(o *options) *string { return &o.referer }),
	text("write-out", 'w', func(o *options) *string { return &o.writeOut }),
	text("proxy", 'x', func(o *options) *string { return &o.proxy }),
	text("proxy-user", 'U', func(o *options) *string { return &o.proxyUser }),
	text("cacert", 0, func(o *options) *string { return &o.caFile }),
	text("cert", 'E', func(o *options) *string { return &o.cert }),
	text("key", 0, func(o *options) *string { return &o.key }),
	text("dump-header", 'D', func(o *options) *string { return &o.dump }),
	text("cookie", 'b', func(o *options) *string { return &o.cookie }),
	text("cookie-jar", 'c', func(o *options) *string { return &o.jar }),
	text("unix-socket", 0, func(o *options) *string { return &o.unixSocket }),
	text("range", 'r', func(o *options) *string { return &o.byteRange }),
	value("upload-file", 'T', func(o *options, v string) error { o.upload, o.hasUpload = v, true; return nil }),
	list("form", 'F', func(o *options) *[]string { return &o.form }),
	seconds("max-time", 'm', func(o *options) *time.Duration { return &o.maxTime }),
	seconds("connect-timeout", 0, func(o *options) *time.Duration { return &o.connectTimeout }),
	seconds("retry-delay", 0, func(o *options) *time.Duration { return &o.retryDelay }),
	value("retry-max-time", 0, func(*options, string) error { return nil }),
	value("keepalive-time", 0, func(*options, string) error { return nil }),
	number("retry", 0, func(o *options) *int { return &o.retry }),
	number("max-redirs", 0, func(o *options) *int { return &o.maxRedirs }),
	value("data", 'd', func(o *options, v string) error { return o.addData(v, true, true) }),
	value("data-ascii", 0, func(o *options, v string) error { return o.addData(v, true, true) }),
	value("data-binary", 0, func(o *options, v string) error { return o.addData(v, true, false) }),
	value("data-raw", 0, func(o *options, v string) error { return o.addData(v, false, false) }),
	value("data-urlencode", 0, (*options).addEncoded),
	value("json", 0, func(o *options, v string) error { o.isJSON = true; return o.addJSON(v) }),
}

// parse reads the command line.
func parse(args []string, stdin io.Reader) (*options, *failure) {
	o := &options{stdin: stdin, maxRedirs: 50}
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		switch {
		case arg == "--":
			o.urls = append(o.urls, args...)
			args = nil
		case strings.HasPrefix(arg, "--"):
			rest, err := o.long(arg[2:], args)
			if err != nil {
				return nil, failf(exitUsage, "option %s: %v", arg, err)
			}
			args = rest
		case strings.HasPrefix(arg, "-") && arg != "-":
			rest, err := o.short(arg[1:], args)
			if err != nil {
				return nil, failf(exitUsage, "option %s: %v", arg, err)
			}
			args = rest
		default:
			o.urls = append(o.urls, arg)
		}
	}
	if o.version || o.help {
		return o, nil
	}
	if len(o.urls) == 0 {
		return nil, failf(exitUsage, "no URL specified")
	}
	if err := o.finish(); err != nil {
		return nil, err
	}
	return o, nil
}

func (o *options) long(name string, args []string) ([]string, error) {
	i := slices.IndexFunc(table, func(t opt) bool { return t.long == name })
	if i < 0 {
		return nil, fmt.Errorf("is unknown")
	}
	if table[i].flag != nil {
		table[i].flag(o)
		return args, nil
	}
	if len(args) == 0 {
		return nil, fmt.Errorf("requires parameter")
	}
	return args[1:], table[i].value(o, args[0])
}

// short reads a group like "sSo", the rest of which may be the last one's value.
func (o *options) short(group string, args []string) ([]string, error) {
	for group != "" {
		c := group[0]
		group = group[1:]
		i := slices.IndexFunc(table, func(t opt) bool { return t.short == c })
		if i < 0 {
			return nil, fmt.Errorf("-%c is unknown", c)
		}
		if table[i].flag != nil {
			table[i].flag(o)
			continue
		}
		if group == "" {
			if len(args) == 0 {
				return nil, fmt.Errorf("requires parameter")
			}
			group, args = args[0], args[1:]
		}
		return args, table[i].value(o, group)
	}
	return args, nil
}

// read returns the content of "@file", or of standard input for "@-".
func (o *options) read(name string) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(o.stdin)
	}
	return os.ReadFile(name)
}

func (o *options) join(b []byte, sep string) {
	if o.hasData {
		o.data = append(o.data, sep...)
	}
	o.data, o.hasData = append(o.data, b...), true
}

func (o *options) addData(v string, file, strip bool) error {
	b := []byte(v)
	if name, ok := strings.CutPrefix(v, "@"); ok && file {
		var err error
		if b, err = o.read(name); err != nil {
			return err
		}
		if strip { // -d drops line ends of files
			b = []byte(strings.NewReplacer("\r", "", "\n", "").Replace(string(b)))
		}
	}
	o.join(b, "&")
	return nil
}

func (o *options) addJSON(v string) error {
	b := []byte(v)
	if name, ok := strings.CutPrefix(v, "@"); ok {
		var err error
		if b, err = o.read(name); err != nil {
			return err
		}
	}
	o.join(b, "")
	return nil
}

// addEncoded knows "text", "=text", "name=text", "@file" and "name@file".
func (o *options) addEncoded(v string) error {
	i := strings.IndexAny(v, "=@")
	name, content := "", []byte(v)
	if i >= 0 {
		name, content = v[:i], []byte(v[i+1:])
		if v[i] == '@' {
			var err error
			if content, err = o.read(v[i+1:]); err != nil {
				return err
			}
		}
	}
	encoded := strings.ReplaceAll(url.QueryEscape(string(content)), "+", "%20")
	if name != "" {
		encoded = name + "=" + encoded
	}
	o.join([]byte(encoded), "&")
	return nil
}

// finish checks what belongs together and makes the body of -F and -T.
func (o *options) finish() *failure {
	if f := strings.TrimPrefix(o.writeOut, "@"); f != o.writeOut {
		b, err := o.read(f)
		if err != nil {
			return failf(exitRead, "%v", err)
		}
		o.writeOut = string(b)
	}
	if len(o.form) > 0 {
		if err := o.multipart(); err != nil {
			return failf(exitRead, "%v", err)
		}
	}
	if o.hasUpload {
		name := o.upload
		if name == "." {
			name = "-"
		}
		b, err := o.read(name)
		if err != nil {
			return failf(exitRead, "Can't open '%s'!", o.upload)
		}
		o.data = b
	}
	var urls []string
	for _, u := range o.urls {
		if o.globOff {
			urls = append(urls, u)
			continue
		}
		all, err := expand(u)
		if err != nil {
			return err
		}
		urls = append(urls, all...)
	}
	o.urls = urls
	return nil
}

func (o *options) multipart() error {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for _, f := range o.form {
		name, v, ok := strings.Cut(f, "=")
		if !ok {
			return fmt.Errorf("form field %q: want NAME=CONTENT", f)
		}
		if file, isFile := strings.CutPrefix(v, "@"); isFile {
			content, err := o.read(file)
			if err != nil {
				return err
			}
			part, err := w.CreateFormFile(name, path.Base(file))
			if err != nil {
				return err
			}
			_, _ = part.Write(content) // a Buffer does not fail
			continue
		}
		if err := w.WriteField(name, v); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	o.data, o.hasData, o.isForm, o.formType = b.Bytes(), true, true, w.FormDataContentType()
	return nil
}

// maxURLs bounds what a glob may mean.
const maxURLs = 100000

// expand resolves "{a,b}" and "[1-9]" in a URL. "[::1]" is an address.
func expand(u string) ([]string, *failure) {
	i := strings.IndexAny(u, "{[")
	if i < 0 {
		return []string{u}, nil
	}
	end := strings.IndexByte(u[i:], map[byte]byte{'{': '}', '[': ']'}[u[i]])
	if end < 0 {
		return nil, failf(exitURL, "unmatched brace in URL position %d:\n%s", i+1, u)
	}
	inner := u[i+1 : i+end]
	var choices []string
	switch first, last, ok := strings.Cut(inner, "-"); {
	case u[i] == '{':
		choices = strings.Split(inner, ",")
	case strings.Contains(inner, ":"):
		choices = []string{"[" + inner + "]"}
	case !ok:
		return nil, failf(exitURL, "bad range in URL position %d:\n%s", i+2, u)
	default:
		from, err1 := strconv.Atoi(first)
		to, err2 := strconv.Atoi(last)
		if err1 != nil || err2 != nil || from > to || to-from >= maxURLs {
			return nil, failf(exitURL, "bad range specification in URL position %d:\n%s", i+2, u)
		}
		for n := from; n <= to; n++ {
			choices = append(choices, fmt.Sprintf("%0*d", len(first), n)) // [01-10] keeps its zeros
		}
	}
	rest, err := expand(u[i+end+1:])
	if err != nil {
		return nil, err
	}
	if len(choices)*len(rest) > maxURLs {
		return nil, failf(exitURL, "too many URLs in %s", u)
	}
	var all []string
	for _, c := range choices {
		for _, r := range rest {
			all = append(all, u[:i]+c+r)
		}
	}
	return all, nil
}

func basic(user string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(user)) }
