package cli

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"k8s.io/cli-runtime/pkg/genericiooptions"
)

// runUp runs a command line whose `up` only notes its options.
func runUp(args ...string) (code int, got UpOptions, stderr string) {
	var out, errs bytes.Buffer
	roles := Roles{
		Up:   func(_ context.Context, o UpOptions) error { got = o; return nil },
		Stop: func(context.Context, StopOptions) error { return nil },
	}
	code = run(context.Background(), args, roles, genericiooptions.IOStreams{In: strings.NewReader(""), Out: &out, ErrOut: &errs}, func(string) string { return "" })
	return code, got, errs.String()
}

func TestUpFlags(t *testing.T) {
	code, o, errs := runUp("--mesh", "m", "up", "-R", "--inject", "--detach", "--publish", "9090:80", "--image", "a=b", "--image", "c=d", "x", "y")
	if code != 0 || o.Mesh != "m" || !o.Recursive || !o.Inject || !o.Detach || len(o.Publish) != 1 || len(o.Images) != 2 || len(o.Paths) != 2 {
		t.Errorf("exit %d, %+v, %s", code, o, errs)
	}
}

func TestWrongUsageIsTwo(t *testing.T) {
	for _, args := range [][]string{{"up"}, {"up", "--publish", "80", "x"}, {"up", "--publish", "a:b", "x"}, {"up", "--publish", "1:2:3", "x"}, {"up", "--nonsense", "x"}, {"stop", "x"}} {
		if code, _, errs := runUp(args...); code != 2 || !strings.Contains(errs, "malla: hint: ") {
			t.Errorf("%v: exit %d, %q; want 2 and a hint", args, code, errs)
		}
	}
}

func TestProgressPrintsChangesOnly(t *testing.T) {
	var out bytes.Buffer
	p := NewProgress(&out, false, time.Now())
	p.Set(map[string]string{"b": "starting", "a": "starting"})
	p.Set(map[string]string{"b": "starting", "a": "ready"})
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 3 || !strings.Contains(lines[0], "a") || !strings.Contains(lines[2], "ready") {
		t.Errorf("got %q", lines)
	}
}

func TestProgressOnATerminalDrawsInPlace(t *testing.T) {
	var out bytes.Buffer
	p := NewProgress(&out, true, time.Now())
	p.Set(map[string]string{"a": "starting", "b": "starting"})
	p.Set(map[string]string{"a": "ready", "b": "starting"})
	if !strings.Contains(out.String(), "\x1b[2A\x1b[J") {
		t.Errorf("the two lines are not drawn anew: %q", out.String())
	}
}

// A line that the terminal breaks, or that has left it above, could not be drawn anew in its place.
func TestProgressFitsTheTerminal(t *testing.T) {
	var out bytes.Buffer
	p := NewProgress(&out, true, time.Now())
	p.size = func() (int, int) { return 80, 6 }
	lines := map[string]string{"z": "0/2, istio-proxy: started, not ready: HTTP probe failed with statuscode: 503: config not fully received"}
	for i := range 9 {
		lines[fmt.Sprint("pod-", i)] = "ready 1/1"
	}
	p.Set(lines)
	p.Set(lines)
	first, second, _ := strings.Cut(out.String(), "\x1b[5A\x1b[J")
	if first != second || strings.Count(first, "\n") != 5 {
		t.Errorf("drawn %q, and then %q: want 5 lines twice", first, second)
	}
	for line := range strings.Lines(first) {
		if len(line) > 80 {
			t.Errorf("%d letters in %q", len(line), line)
		}
	}
	if !strings.HasPrefix(first, "  z ") || !strings.Contains(first, "  and 6 more\n") {
		t.Errorf("want who is not ready first, and how many there are beside the lines: %q", first)
	}
}

func TestTableOfURLsAligns(t *testing.T) {
	var out bytes.Buffer
	Ready(&out, 2*time.Second, Summary{Pods: 3, Links: []Link{{What: "a", URL: "http://1"}, {What: "longer", URL: "http://2"}}, Next: []string{"malla get pods"}})
	at := -1
	for _, line := range strings.Split(out.String(), "\n") {
		if i := strings.Index(line, "http://"); i >= 0 {
			if at >= 0 && i != at {
				t.Errorf("URLs begin at %d and %d", at, i)
			}
			at = i
		}
	}
	if !strings.Contains(out.String(), "3 pods are ready after 2.0 s.") || !strings.Contains(out.String(), "  malla get pods") {
		t.Errorf("got %q", out.String())
	}
	out.Reset()
	Ready(&out, 2*time.Second, Summary{Pods: 3, NotReady: []string{"default/web: app: CrashLoopBackOff"}})
	if want := "\n3 of 4 pods are ready after 2.0 s. Not ready:\n  default/web: app: CrashLoopBackOff\n\n"; out.String() != want {
		t.Errorf("with a pod that fails: %q, want %q", out.String(), want)
	}
}

// What is offered to be typed is served: it names the host if the gateway asks for one.
func TestTheCommandToTypeNamesTheHost(t *testing.T) {
	for _, test := range []struct{ url, host, want string }{
		{"http://127.0.0.1:8080/cart", "", "curl -i http://127.0.0.1:8080/cart"},
		{"http://127.0.0.1:8080", "shop.example.com", "curl -i -H 'Host: shop.example.com' http://127.0.0.1:8080"},
		{"https://127.0.0.1:8443", "", "curl -ik https://127.0.0.1:8443"},
		{"https://127.0.0.1:8443", "shop.example.com", "curl -ik --resolve shop.example.com:8443:127.0.0.1 https://shop.example.com:8443/"},
		{"tcp://127.0.0.1:31400", "", "curl -N telnet://127.0.0.1:31400"},
	} {
		if got := (Link{URL: test.url, Host: test.host}).Curl(); got != test.want {
			t.Errorf("got %s, want %s", got, test.want)
		}
	}
}
