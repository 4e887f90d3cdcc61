package proxy

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strings"
)

// registers reports whether the workload is registered by its proxy.
func (e *environment) registers() bool { return e.Metadata["AUTO_REGISTER_GROUP"] != "" }

// said takes in what the variables ISTIO_META_ and ISTIO_METAJSON_ say, which count more than the same of proxyMetadata.
func (e *environment) said(proxyMetadata map[string]string, variables []string) error {
	for name, value := range proxyMetadata {
		if err := e.say(name, value); err != nil {
			return fmt.Errorf("PROXY_CONFIG proxyMetadata: %w", err)
		}
	}
	for _, kv := range variables {
		name, value, _ := strings.Cut(kv, "=")
		if err := e.say(name, value); err != nil {
			return fmt.Errorf("environment variable %w", err)
		}
	}
	return nil
}

func (e *environment) say(name, value string) error {
	if key, ok := strings.CutPrefix(name, "ISTIO_META_"); ok {
		if value != "" || e.Metadata[key] == "" {
			e.Metadata[key] = value
		}
		return nil
	}
	key, ok := strings.CutPrefix(name, "ISTIO_METAJSON_")
	if !ok {
		return nil
	}
	var to any
	switch key {
	case "LABELS":
		to = &e.Labels // over those of the pod
	case "ANNOTATIONS":
		to = &e.Annotations
	default:
		to = new(any)
	}
	if err := json.Unmarshal([]byte(value), to); err != nil {
		return fmt.Errorf("%s: found %q, want JSON, of labels and annotations an object of strings: %w", name, value, err)
	}
	if v, ok := to.(*any); ok {
		e.Structured[key] = *v
	}
	return nil
}

// hostname is what this machine is called.
func hostname() (string, error) {
	name, err := os.Hostname()
	name, _, _ = strings.Cut(name, ".")
	return name, err
}

// ownAddresses lists this machine's addresses that others may reach, v4 first.
func ownAddresses() (string, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return "", err
	}
	var v4, v6 []string
	for _, a := range all {
		n, ok := a.(*net.IPNet)
		switch {
		case !ok || !n.IP.IsGlobalUnicast():
		case n.IP.To4() != nil:
			v4 = append(v4, n.IP.String())
		default:
			v6 = append(v6, n.IP.String())
		}
	}
	return strings.Join(append(v4, v6...), ","), nil
}
