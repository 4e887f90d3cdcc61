package mesh

import (
	"fmt"
	"strings"
	"time"
)

// Pods lists the names of pods that a selector (-l) finds.
func (m *Mesh) Pods(selector string, flags ...string) []string {
	m.t.Helper()
	out := m.Must(append([]string{"get", "pods", "-l", selector, "-o", "jsonpath={.items[*].metadata.name}"}, flags...)...)
	return strings.Fields(out)
}

// Pod is the only pod that a selector finds.
func (m *Mesh) Pod(selector string, flags ...string) string {
	m.t.Helper()
	pods := m.Pods(selector, flags...)
	if len(pods) != 1 {
		m.t.Fatalf("pods with %s: %v, want one", selector, pods)
	}
	return pods[0]
}

// Field is a jsonpath of one object.
func (m *Mesh) Field(object, path string, flags ...string) string {
	m.t.Helper()
	return strings.TrimSpace(m.Must(append([]string{"get", object, "-o", "jsonpath={" + path + "}"}, flags...)...))
}

// Exec runs a command in a container of a pod ("deploy/sleep" or a name).
func (m *Mesh) Exec(pod, container string, command ...string) Result {
	return m.RunIn(40*time.Second, "", append([]string{"exec", pod, "-c", container, "--"}, command...)...)
}

// ExecIn is Exec in a namespace.
func (m *Mesh) ExecIn(namespace, pod, container string, command ...string) Result {
	return m.RunIn(40*time.Second, "", append([]string{"exec", "-n", namespace, pod, "-c", container, "--"}, command...)...)
}

// Logs are all lines of a container in the pods that a selector finds.
func (m *Mesh) Logs(selector, container string, flags ...string) []string {
	m.t.Helper()
	out := m.Must(append([]string{"logs", "-l", selector, "-c", container, "--tail=-1"}, flags...)...)
	return strings.Split(strings.TrimRight(out, "\n"), "\n")
}

// LogLine waits for a line of a container's log that holds all words.
func (m *Mesh) LogLine(selector, container string, words []string, flags ...string) string {
	m.t.Helper()
	found := ""
	Until(m.t, 5*time.Second, fmt.Sprintf("a line with %q in the log of %s, %s", words, selector, container), func() error {
		lines := m.Logs(selector, container, flags...)
		for _, line := range lines {
			if has(line, words) {
				found = line
				return nil
			}
		}
		return fmt.Errorf("%d lines, the last: %q", len(lines), lines[max(0, len(lines)-3):])
	})
	return found
}

func has(line string, words []string) bool {
	for _, w := range words {
		if !strings.Contains(line, w) {
			return false
		}
	}
	return true
}

// Ready waits until all pods of a selector are ready.
func (m *Mesh) Ready(selector string, flags ...string) {
	m.t.Helper()
	Until(m.t, 30*time.Second, "pods with "+selector+" ready", func() error {
		r := m.Run(append([]string{"get", "pods", "-l", selector, "-o",
			`jsonpath={range .items[*]}{.metadata.name} {.metadata.deletionTimestamp} {.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}`}, flags...)...)
		if r.Code != 0 {
			return fmt.Errorf("%s", r)
		}
		lines := strings.Split(strings.TrimSpace(r.Out), "\n")
		for _, l := range lines {
			if !strings.HasSuffix(l, " True") || len(strings.Fields(l)) != 2 {
				return fmt.Errorf("%s", r.Out)
			}
		}
		return nil
	})
}

// Rollout waits until a Deployment is as its specification says.
func (m *Mesh) Rollout(deployment string, flags ...string) {
	m.t.Helper()
	m.Must(append([]string{"rollout", "status", "deploy/" + deployment, "--timeout=30s"}, flags...)...)
}
