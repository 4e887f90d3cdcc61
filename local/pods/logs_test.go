package pods

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// says writes a line each second, "a 0", "a 1" and so on, and exits.
func says(lines int) program {
	return func(p *fakeProcess) int {
		for i := range lines {
			fmt.Fprintf(p.spec.Log, "line %d\n", i)
			select {
			case <-time.After(time.Second):
			case <-p.kill:
				return 0
			}
		}
		return 0
	}
}

func (c *cluster) logs(o corev1.PodLogOptions) string {
	c.t.Helper()
	r, err := c.kubelet.Logs(c.t.Context(), "default", "web", &o)
	if err != nil {
		return "error: " + err.Error()
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		c.t.Fatal(err)
	}
	return string(b)
}

func TestLogs(t *testing.T) {
	n := func(n int64) *int64 { return &n }
	story(t, map[string]program{"app": says(4)}, func(c *cluster) {
		at := time.Now()
		c.pod("  restartPolicy: Never\n" + one)
		c.after(3500 * time.Millisecond)
		stamp := metav1.NewTime(at.Add(2 * time.Second))
		for _, test := range []struct {
			name string
			o    corev1.PodLogOptions
			want string
		}{
			{"all", corev1.PodLogOptions{}, "line 0\nline 1\nline 2\nline 3\n"},
			{"--tail", corev1.PodLogOptions{TailLines: n(2)}, "line 2\nline 3\n"},
			{"--tail=0", corev1.PodLogOptions{TailLines: n(0)}, ""},
			{"--tail of more than there is", corev1.PodLogOptions{TailLines: n(9)}, "line 0\nline 1\nline 2\nline 3\n"},
			{"--since", corev1.PodLogOptions{SinceSeconds: n(2)}, "line 2\nline 3\n"},
			{"--since-time", corev1.PodLogOptions{SinceTime: &stamp}, "line 2\nline 3\n"},
			{"--since with --tail", corev1.PodLogOptions{SinceSeconds: n(2), TailLines: n(1)}, "line 3\n"},
			{"--limit-bytes", corev1.PodLogOptions{LimitBytes: n(9)}, "line 0\nli"},
			{"--timestamps", corev1.PodLogOptions{Timestamps: true, TailLines: n(1)}, at.Add(3*time.Second).UTC().Format(stampLayout) + " line 3\n"},
			{"--previous of the first run", corev1.PodLogOptions{Previous: true}, `error: previous terminated container "app" in pod "web" not found`},
			{"a container that is not there", corev1.PodLogOptions{Container: "x"}, "error: container x is not valid for pod web"},
		} {
			if got := c.logs(test.o); got != test.want {
				t.Errorf("%s: got %q, want %q", test.name, got, test.want)
			}
		}
		c.after(time.Minute)
		c.want("Succeeded, app Completed(0)")
		if got := c.logs(corev1.PodLogOptions{TailLines: n(1), Follow: true}); got != "line 3\n" {
			t.Errorf("following what has ended: %q", got)
		}
	})
}

func TestLogsOfWhatDidNotStart(t *testing.T) {
	story(t, nil, func(c *cluster) {
		c.pod("  initContainers: [{name: i, image: what}]\n" + one)
		if got, want := c.logs(corev1.PodLogOptions{Container: "app"}), `error: container "app" in pod "web" is waiting to start: PodInitializing`; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if got, want := c.logs(corev1.PodLogOptions{Container: "i"}), `error: container "i" in pod "web" is waiting to start: ErrImagePull: nothing stands for image "what"`; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestFollow(t *testing.T) {
	story(t, map[string]program{"app": says(3)}, func(c *cluster) {
		c.pod(one)
		ctx, cancel := context.WithCancel(c.t.Context())
		defer cancel()
		r, err := c.kubelet.Logs(ctx, "default", "web", &corev1.PodLogOptions{Follow: true})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		began := time.Now()
		b := make([]byte, 1000)
		for {
			n, err := r.Read(b)
			if n > 0 {
				got = append(got, fmt.Sprintf("%s %s", time.Since(began).Round(time.Second), strings.TrimSpace(string(b[:n]))))
			}
			if err != nil {
				break
			}
		}
		// Each line comes when it is written, and the stream ends with the run.
		if text := strings.Join(got, ", "); text != "0s line 0, 1s line 1, 2s line 2" {
			t.Errorf("got %s", text)
		}
		synctest.Wait()
		if prev := c.logs(corev1.PodLogOptions{Previous: true}); prev != "line 0\nline 1\nline 2\n" {
			t.Errorf("the previous run: %q", prev)
		}
	})
}

func TestFollowEndsWithItsReaderAndWithThePod(t *testing.T) {
	story(t, map[string]program{"app": serves}, func(c *cluster) {
		c.pod(one)
		gone, err := c.kubelet.Logs(c.t.Context(), "default", "web", &corev1.PodLogOptions{Follow: true})
		if err != nil {
			t.Fatal(err)
		}
		gone.Close() // the bubble would not end if somebody still waited
		r, err := c.kubelet.Logs(c.t.Context(), "default", "web", &corev1.PodLogOptions{Follow: true})
		if err != nil {
			t.Fatal(err)
		}
		c.delete(-1)
		if _, err := io.ReadAll(r); err != nil {
			t.Error(err)
		}
		c.after(2 * time.Second)
		if entries, err := os.ReadDir(c.kubelet.Dir); err != nil || len(entries) != 0 {
			t.Errorf("%v of the pod's logs are left (%v)", entries, err)
		}
	})
}

func TestLongLinesAreWhole(t *testing.T) {
	long := strings.Repeat("0123456789", 5000)
	story(t, map[string]program{"app": func(p *fakeProcess) int {
		fmt.Fprintf(p.spec.Log, "first\n%s\n", long)
		fmt.Fprint(p.spec.Log, "no end")
		return serves(p)
	}}, func(c *cluster) {
		c.pod(one)
		if got := c.logs(corev1.PodLogOptions{}); got != "first\n"+long+"\nno end" {
			t.Errorf("got %d bytes %q..., want %d", len(got), got[:min(len(got), 30)], len(long)+13)
		}
		two := int64(2)
		if got := c.logs(corev1.PodLogOptions{TailLines: &two, Timestamps: true}); strings.Count(got, "Z ") != 2 {
			t.Errorf("the last two lines have %d times", strings.Count(got, "Z "))
		}
	})
}

// A program that never ends its line must not make us hold it.
func TestALineWithoutEndIsBounded(t *testing.T) {
	l := newLogFile(t.TempDir())
	w := l.next()
	for range 1000 {
		if _, err := w.Write(bytes.Repeat([]byte("x"), 10_000)); err != nil {
			t.Fatal(err)
		}
	}
	if cap(l.part) > 4*maxLine {
		t.Errorf("holds %d bytes", cap(l.part))
	}
}

func TestLogsTurnOver(t *testing.T) {
	dir := t.TempDir()
	l := newLogFile(dir)
	w := l.next()
	line := append(bytes.Repeat([]byte("x"), 999), '\n')
	view, err := l.view(false)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { view.close() }()
	const lines = 3 * maxLog / 1000
	for range lines {
		if _, err := w.Write(line); err != nil {
			t.Fatal(err)
		}
	}
	var size int64
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := os.Stat(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
	}
	if size > 2*maxLog+10_000 || size < maxLog {
		t.Errorf("%d bytes are kept, want between %d and %d", size, maxLog, 2*maxLog)
	}
	// A view spans both files.
	now, err := l.view(false)
	if err != nil {
		t.Fatal(err)
	}
	defer now.close()
	var out bytes.Buffer
	tail := int64(maxLog/1033 + 500)
	if err := now.stream(t.Context(), &out, &corev1.PodLogOptions{TailLines: &tail}); err != nil {
		t.Fatal(err)
	}
	if int64(out.Len()) != tail*1000 {
		t.Errorf("got %d lines, want %d", out.Len()/1000, tail)
	}
}

// Who follows a log that is turned over meanwhile misses nothing.
func TestFollowOverATurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLogFile(t.TempDir())
		w := l.next()
		view, err := l.view(false)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { view.close() }()
		var out bytes.Buffer
		ended := make(chan error, 1)
		go func() { ended <- view.stream(t.Context(), &out, &corev1.PodLogOptions{Follow: true}) }()
		synctest.Wait()
		line := append(bytes.Repeat([]byte("x"), 9999), '\n')
		const lines = 3 * maxLog / 10_000
		for i := range lines {
			if _, err := w.Write(line); err != nil {
				t.Fatal(err)
			}
			if i%100 == 0 {
				synctest.Wait()
			}
		}
		l.end()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		if out.Len() != lines*10_000 {
			t.Errorf("got %d bytes, want %d", out.Len(), lines*10_000)
		}
	})
}
