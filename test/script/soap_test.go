//go:build linux

package script_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/mallamesh/malla/test/script/mesh"
)

// TestCanary walks from one version of a service to the next while it is in use.
func TestCanary(t *testing.T) {
	linux(t)
	m := mesh.Up(t, mesh.Options{Name: "soap", Paths: []string{mesh.Samples(t, "soap")}})
	version := func(a mesh.Answer) (string, error) {
		if a.Status != http.StatusOK || !strings.HasPrefix(a.Header.Get("content-type"), "text/xml") {
			return "", fmt.Errorf("status %d, %q: %s", a.Status, a.Header.Get("content-type"), a.Body)
		}
		for _, v := range []string{"v1", "v2"} {
			if strings.Contains(a.Body, "<version>"+v+"</version>") {
				return v, nil
			}
		}
		return "", fmt.Errorf("no version in %s", a.Body)
	}
	count := func(n int) map[string]int {
		return mesh.Count(n, 4, func(c *http.Client) (string, error) {
			a, err := mesh.Get(c, m.URL("/consumer"))
			if err != nil {
				return "", err
			}
			return version(a)
		})
	}
	mesh.Until(t, 5*time.Second, "the first answer", func() error {
		if got := count(1); got["v1"] != 1 {
			return fmt.Errorf("%v", got)
		}
		return nil
	})
	load := mesh.Steady(m.URL("/consumer"), 50, func(a mesh.Answer) error { _, err := version(a); return err })

	m.Must("apply", "-f", mesh.Samples(t, "soap", "provider-v2.yaml"))
	m.Rollout("provider-v2")
	mesh.Until(t, 5*time.Second, "both versions behind the Service", func() error {
		r := m.Run("get", "endpoints", "provider", "-o", "jsonpath={.subsets[*].addresses[*].ip}")
		if len(strings.Fields(r.Out)) != 2 {
			return fmt.Errorf("%s", r)
		}
		return nil
	})
	fits(t, count(500), map[string]float64{"v1": 1})

	for _, step := range []struct {
		file string
		want map[string]float64
	}{
		{"canary-90-10.yaml", map[string]float64{"v1": 90, "v2": 10}},
		{"canary-50-50.yaml", map[string]float64{"v1": 50, "v2": 50}},
		{"canary-0-100.yaml", map[string]float64{"v2": 1}},
	} {
		m.Must("apply", "-f", mesh.Samples(t, "soap", step.file))
		mesh.Until(t, 3*time.Second, step.file, func() error {
			got := count(40)
			if got["v2"] == 0 || step.want["v1"] == 0 && got["v1"] > 0 {
				return fmt.Errorf("%v", got)
			}
			return nil
		})
		if step.file == "canary-50-50.yaml" { // told from 90/10 by its counts only
			mesh.Until(t, 3*time.Second, step.file, func() error {
				if got := count(200); got["v2"] < 60 { // chance shows 4e-15 of those by 90/10 as 50/50, and keeps 3e-9 of those by 50/50 from it
					return fmt.Errorf("%v", got)
				}
				return nil
			})
		}
		fits(t, count(1000), step.want)
	}
	if err := load.Stop(); err != nil {
		t.Errorf("on the walk: %v", err)
	}

	t.Run("text/xml passes byte for byte", func(t *testing.T) {
		pod := m.Pod("app=consumer")
		envelope := `<?xml version="1.0" encoding="utf-8"?>` + "\r\n\t" + `<soap:Envelope xmlns:soap="http://schemas.xmlsoap.org/soap/envelope/"><soap:Body><Describe xmlns="urn:malla:samples:provider"><subject>ä &amp; ☕</subject></Describe></soap:Body></soap:Envelope>` + "\n"
		ask := func(url string) string {
			r := m.Exec(pod, "consumer", append(append([]string{}, curl...), "-sS", "-X", "POST", "-H", "Content-Type: text/xml; charset=utf-8", "-H", `SOAPAction: "urn:malla:samples:provider#Describe"`, "--data-binary", envelope, url)...)
			if r.Code != 0 {
				t.Fatalf("%s", r)
			}
			return r.Out
		}
		provider := m.Field("pod/"+m.Pod("app=provider,version=v2"), ".status.podIP")
		through, direct := ask("http://provider:5000/"), ask("http://"+provider+":5000/")
		if through != direct || !strings.Contains(through, "ä &amp; ☕") {
			t.Errorf("by the rule:\n%s\nby the address:\n%s", through, direct)
		}
	})
}
