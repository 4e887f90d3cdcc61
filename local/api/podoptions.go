package api

import (
	"net/url"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// logOptions reads what a client wants of a log from the parameters.
func logOptions(v url.Values) (*corev1.PodLogOptions, error) {
	o := &corev1.PodLogOptions{
		Container:  v.Get("container"),
		Follow:     isTrue(v.Get("follow")),
		Previous:   isTrue(v.Get("previous")),
		Timestamps: isTrue(v.Get("timestamps")),
	}
	for name, into := range map[string]**int64{"sinceSeconds": &o.SinceSeconds, "tailLines": &o.TailLines, "limitBytes": &o.LimitBytes} {
		text := v.Get(name)
		if text == "" {
			continue
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 0 || n == 0 && name != "tailLines" {
			return nil, badRequest("%s: %q, want a number above 0", name, text)
		}
		*into = &n
	}
	if text := v.Get("sinceTime"); text != "" {
		t, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return nil, badRequest("sinceTime: %q, want a time as 2006-01-02T15:04:05Z", text)
		}
		o.SinceTime = &metav1.Time{Time: t}
	}
	if o.SinceTime != nil && o.SinceSeconds != nil {
		return nil, badRequest("at most one of sinceTime and sinceSeconds may be given")
	}
	if text := v.Get("stream"); text != "" && text != corev1.LogStreamAll {
		return nil, badRequest("stream: %q is not supported, logs hold both streams: want All", text)
	}
	return o, nil
}

func execOptions(v url.Values) *corev1.PodExecOptions {
	return &corev1.PodExecOptions{
		Container: v.Get("container"),
		Command:   v["command"],
		Stdin:     isTrue(v.Get("stdin")),
		Stdout:    isTrue(v.Get("stdout")),
		Stderr:    isTrue(v.Get("stderr")),
		TTY:       isTrue(v.Get("tty")),
	}
}
