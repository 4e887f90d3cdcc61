package peer

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mallamesh/malla/test/envoy/scenario"
)

// A tapped is what POST /tap answers with.
type tapped struct {
	resp   *http.Response
	traces *json.Decoder
}

// tap asks for a tap ("tap open"), or reads so many traces ("tap read=2"), from there or from the files whose names
// begin with file=. "tap close" ends it.
func (cl *Client) tap(step scenario.Step) error {
	switch {
	case step.Has("open"):
		return cl.openTap(step)
	case step.Has("close"):
		return cl.tapped.resp.Body.Close()
	}
	n, err := strconv.Atoi(step.Attrs["read"])
	if err != nil {
		return fmt.Errorf("want open, close, or read=N")
	}
	if prefix := step.Attrs["file"]; prefix != "" {
		return cl.tapFiles(prefix, n)
	}
	for range n {
		var v any
		if err := cl.tapped.traces.Decode(&v); err != nil {
			return fmt.Errorf("read a trace: %w", err)
		}
		if err := cl.noteTrace(v); err != nil {
			return err
		}
	}
	return nil
}

func (cl *Client) openTap(step scenario.Step) error {
	ctx, cancel := context.WithTimeout(context.Background(), answerTime)
	context.AfterFunc(ctx, cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+cl.Admin+"/tap", strings.NewReader(step.Text))
	if err != nil {
		return err
	}
	resp, err := tapClient.Do(req)
	if err != nil {
		return err
	}
	cl.asked++
	cl.Notes.Add(fmt.Sprintf("admin %d status", cl.asked), fmt.Sprint(resp.StatusCode))
	if resp.StatusCode == http.StatusOK {
		cl.tapped = tapped{resp, json.NewDecoder(resp.Body)}
		return nil
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	cl.Notes.Add(fmt.Sprintf("admin %d body", cl.asked), cl.View.Normalize(string(text)))
	return err
}

var tapClient = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

func (cl *Client) tapFiles(prefix string, n int) error {
	for end := time.Now().Add(answerTime); ; time.Sleep(20 * time.Millisecond) {
		all, err := cl.readTraces(filepath.Join(cl.View.Workspace, prefix) + "*")
		if err == nil && len(all) >= n {
			for _, v := range all {
				if err := cl.noteTrace(v); err != nil {
					return err
				}
			}
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("waited %v for %d traces in %s* in vain, found %d: %v", answerTime, n, prefix, len(all), err)
		}
	}
}

// readTraces reads the values in all files of a pattern. Files are called by chance: they come in the order of what they hold.
func (cl *Client) readTraces(pattern string) (all []any, err error) {
	names, err := filepath.Glob(pattern)
	var files [][]any
	for _, name := range names {
		var file []any
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		for d := json.NewDecoder(bytes.NewReader(text)); ; {
			var v any
			if err := d.Decode(&v); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				return nil, err // it is being written
			}
			file = append(file, v)
		}
		files = append(files, file)
	}
	text := func(file []any) string {
		b, _ := json.Marshal(plainTrace(file)) // of what has been decoded: it always works
		return cl.View.Normalize(string(b))
	}
	slices.SortFunc(files, func(a, b []any) int { return cmp.Compare(text(a), text(b)) })
	return slices.Concat(files...), err
}

// noteTrace notes a trace without what differs between two runs: the order of fields, too, is free.
func (cl *Client) noteTrace(v any) error {
	cl.traced++
	text, err := json.Marshal(plainTrace(v))
	if err == nil {
		cl.Notes.Add(fmt.Sprintf("trace %d", cl.traced), cl.View.Normalize(string(text)))
	}
	return err
}

func plainTrace(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			v[k] = plainTrace(v[k])
		}
		for _, k := range []string{"trace_id", "headers_received_time", "port_value"} {
			if v[k] != nil {
				v[k] = "(" + k + ")"
			}
		}
		if k := v["key"]; k == "x-envoy-upstream-service-time" || k == "date" || k == "x-envoy-expected-rq-timeout-ms" {
			v["value"] = "(some)"
		}
	case []any:
		for i := range v {
			v[i] = plainTrace(v[i])
		}
		slices.SortStableFunc(v, func(a, b any) int { return cmp.Compare(key(a), key(b)) })
	}
	return v
}

func key(v any) string {
	m, _ := v.(map[string]any)
	s, _ := m["key"].(string)
	return s
}
