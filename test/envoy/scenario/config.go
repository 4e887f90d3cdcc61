package scenario

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"net"
	"strconv"
	"strings"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	"sigs.k8s.io/yaml"
)

// base is the configuration that sections change: one listener, which speaks HTTP
// and passes everything on to the upstream "backend".
//
//go:embed base.yaml
var base string

const (
	routerFilter = `{"name": "envoy.filters.http.router", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}`
	tcpFilter    = `{"name": "envoy.filters.network.tcp_proxy", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", "stat_prefix": "tcp", "cluster": "backend"}}`
	fileLog      = `{"name": "envoy.access_loggers.file", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog"}}`
	tcpFormat    = "%RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %UPSTREAM_CLUSTER_RAW% \"%UPSTREAM_HOST%\" %CONNECTION_TERMINATION_DETAILS% \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %REQUESTED_SERVER_NAME%\n"
)

type (
	object = map[string]any
	list   = []any
)

// Config returns the scenario's bootstrap without an admin interface, with the
// prefix on its names.
func (v *View) Config() (map[string]any, error) {
	tree, err := v.tree(base)
	if err != nil {
		return nil, fmt.Errorf("base.yaml: %w", err)
	}
	for _, s := range v.config {
		if s.Kind == "file" {
			continue
		}
		if tree, err = v.apply(tree, s); err != nil {
			return nil, fmt.Errorf("section %s: %w", s.Kind, err)
		}
	}
	if err := v.complete(tree); err != nil {
		return nil, err
	}
	v.rename(tree, "", "")
	return without(tree, v.Without, &bootstrapv3.Bootstrap{})
}

// Files returns the files that the configuration names, by their names in the
// workspace. YAML among them has the prefix on its names.
func (v *View) Files() (map[string]string, error) {
	out := map[string]string{}
	for _, s := range v.config {
		if s.Kind != "file" {
			continue
		}
		text, err := v.File(s.Name, s.Text)
		if err != nil {
			return nil, fmt.Errorf("file %s: %w", s.Name, err)
		}
		out[s.Name] = text
	}
	return out, nil
}

// File makes the text of a file in the workspace.
func (v *View) File(name, text string) (string, error) {
	if !strings.HasSuffix(name, ".yaml") {
		return v.Fill(text)
	}
	tree, err := v.tree(text)
	if err != nil {
		return "", err
	}
	v.rename(tree, "", "")
	if tree, err = without(tree, v.Without, resources()...); err != nil {
		return "", err
	}
	out, err := json.MarshalIndent(tree, "", " ")
	return string(out), err
}

func (v *View) tree(text string) (object, error) {
	text, err := v.Fill(text)
	if err != nil {
		return nil, err
	}
	var out object
	return out, yaml.UnmarshalStrict([]byte(text), &out)
}

// apply changes the configuration by one section.
func (v *View) apply(tree object, s Section) (object, error) {
	if s.Kind == "envoy.yaml" {
		return v.tree(s.Text)
	}
	text, err := v.Fill(s.Text)
	if err != nil {
		return nil, err
	}
	var value any
	if err := yaml.UnmarshalStrict([]byte(text), &value); err != nil {
		return nil, err
	}
	into := func(path ...string) error { return put(tree, value, path...) }
	const listener = "static_resources.listeners.0"
	const chain = listener + ".filter_chains.0"
	const hcm = chain + ".filters.-1.typed_config"
	switch s.Kind {
	case "bootstrap":
		err = into()
	case "admin_config":
		err = into("admin")
	case "listener":
		err = into(strings.Split(listener, ".")...)
	case "listeners": // more of them
		err = more(tree, value, "static_resources", "listeners")
	case "chain":
		err = into(strings.Split(chain, ".")...)
	case "hcm":
		err = into(strings.Split(hcm, ".")...)
	case "route_config":
		err = into(strings.Split(hcm+".route_config", ".")...)
	case "virtual_hosts":
		err = into(strings.Split(hcm+".route_config.virtual_hosts", ".")...)
	case "routes":
		value = list{object{"name": "all", "domains": list{"*"}, "routes": value}}
		err = into(strings.Split(hcm+".route_config.virtual_hosts", ".")...)
	case "filters": // before the router
		filters, ok := value.(list)
		if !ok {
			return nil, fmt.Errorf("want a list")
		}
		value = append(filters, decoded(routerFilter))
		err = into(strings.Split(hcm+".http_filters", ".")...)
	case "network_filters": // before the last
		filters, ok := value.(list)
		if !ok {
			return nil, fmt.Errorf("want a list")
		}
		var last any
		if last, err = at(tree, strings.Split(chain+".filters.-1", ".")...); err == nil {
			value = append(filters, last)
			err = into(strings.Split(chain+".filters", ".")...)
		}
	case "tcp_proxy": // in place of HTTP
		log := decoded(fileLog).(object)
		log["typed_config"].(object)["path"] = v.Log()
		log["typed_config"].(object)["log_format"] = object{"text_format_source": object{"inline_string": v.Prefix() + tcpFormat}}
		filter := decoded(tcpFilter).(object)
		filter["typed_config"].(object)["access_log"] = list{log}
		if fields, ok := value.(object); ok {
			if fields["weighted_clusters"] != nil {
				delete(filter["typed_config"].(object), "cluster")
			}
			merge(filter["typed_config"].(object), fields)
		}
		value = list{filter}
		err = into(strings.Split(chain+".filters", ".")...)
	case "cluster":
		if s.Name != "" && s.Name != "backend" {
			return nil, fmt.Errorf("changes cluster backend; others stand in clusters")
		}
		err = into("static_resources", "clusters", "0")
	case "clusters":
		err = more(tree, value, "static_resources", "clusters")
	case "secrets":
		err = more(tree, value, "static_resources", "secrets")
	}
	return tree, err
}

func decoded(text string) any {
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		panic(err) // our own constants
	}
	return v
}

// at walks a path of keys and indexes; -1 is the last.
func at(v any, path ...string) (any, error) {
	for i, p := range path {
		switch t := v.(type) {
		case object:
			v = t[p]
		case list:
			n, err := strconv.Atoi(p)
			if n < 0 {
				n += len(t)
			}
			if err != nil || n < 0 || n >= len(t) {
				return nil, fmt.Errorf("%s: want one of %d elements", strings.Join(path[:i+1], "."), len(t))
			}
			v = t[n]
		default:
			return nil, fmt.Errorf("%s: is not there", strings.Join(path[:i+1], "."))
		}
	}
	return v, nil
}

// put merges a value into the place of a path. A list replaces what was there.
func put(tree object, value any, path ...string) error {
	if fields, ok := value.(object); ok {
		place, err := at(tree, path...)
		if err != nil {
			return err
		}
		if old, ok := place.(object); ok {
			merge(old, fields)
			return nil
		}
	}
	if len(path) == 0 {
		return fmt.Errorf("want fields")
	}
	parent, err := at(tree, path[:len(path)-1]...)
	if err != nil {
		return err
	}
	fields, ok := parent.(object)
	if !ok {
		return fmt.Errorf("%s: want fields", strings.Join(path, "."))
	}
	fields[path[len(path)-1]] = value
	return nil
}

// merge puts fields into others; null takes a field away.
func merge(into, fields object) {
	for k, v := range fields {
		old, a := into[k].(object)
		inner, b := v.(object)
		switch {
		case v == nil:
			delete(into, k)
		case a && b:
			merge(old, inner)
		default:
			into[k] = v
		}
	}
}

func more(tree object, value any, path ...string) error {
	added, ok := value.(list)
	if !ok {
		return fmt.Errorf("want a list")
	}
	old, err := at(tree, path...)
	if err != nil {
		return err
	}
	have, _ := old.(list)
	return put(tree, append(have, added...), path...)
}

// complete adds what every scenario would have to write: addresses of listeners,
// endpoints of clusters that are called like an upstream.
func (v *View) complete(tree object) error {
	resources, _ := tree["static_resources"].(object)
	listeners, _ := resources["listeners"].(list)
	v.listeners = nil
	for i, l := range listeners {
		fields, ok := l.(object)
		if !ok {
			continue
		}
		name, _ := fields["name"].(string)
		if fields["internal_listener"] != nil {
			v.listeners = append(v.listeners, named{name, "envoy_internal_" + name})
			continue
		}
		if fields["address"] == nil {
			fields["address"] = object{"socket_address": object{"address": v.IP, "port_value": 10000 + i}}
		}
		v.listeners = append(v.listeners, named{name, addressOf(fields["address"])})
	}
	clusters, _ := resources["clusters"].(list)
	for _, c := range clusters {
		fields, ok := c.(object)
		if !ok {
			continue
		}
		if err := v.completeCluster(fields); err != nil {
			return err
		}
	}
	return nil
}

func addressOf(a any) string {
	fields, _ := a.(object)
	if pipe, ok := fields["pipe"].(object); ok {
		return fmt.Sprint(pipe["path"])
	}
	socket, _ := fields["socket_address"].(object)
	return net.JoinHostPort(fmt.Sprint(socket["address"]), fmt.Sprint(socket["port_value"]))
}

func (v *View) completeCluster(c object) error {
	if err := v.speak(c); err != nil {
		return err
	}
	name, _ := c["name"].(string)
	if c["type"] == nil && c["cluster_type"] == nil {
		c["type"] = "STATIC"
	}
	if c["connect_timeout"] == nil {
		c["connect_timeout"] = "1s"
	}
	if c["load_assignment"] == nil && v.Upstream[name] != "" && c["type"] != "EDS" && c["type"] != "ORIGINAL_DST" && c["cluster_type"] == nil {
		tree, err := v.tree("load_assignment: {{endpoints " + name + "}}")
		if err != nil {
			return err
		}
		c["load_assignment"] = tree["load_assignment"]
	}
	if load, ok := c["load_assignment"].(object); ok && load["cluster_name"] == nil {
		load["cluster_name"] = name
	}
	return nil
}

// rename puts the prefix before the names that scenarios of one process share. key
// is the field that holds the value, list the one that holds the list it is in.
func (v *View) rename(value any, key, list string) {
	switch t := value.(type) {
	case object:
		typ, _ := t["@type"].(string)
		for k, inner := range t {
			text, ok := inner.(string)
			if !ok {
				v.rename(inner, k, "")
				continue
			}
			switch {
			case k == "cluster", k == "cluster_name", k == "stat_prefix", k == "alt_stat_name", k == "server_listener_name",
				k == "name" && (list == "clusters" || list == "listeners" || list == "secrets" || secretKeys[key] || secretKeys[list]),
				k == "name" && list == "resources" && (strings.HasSuffix(typ, ".Cluster") || strings.HasSuffix(typ, ".Listener") || strings.HasSuffix(typ, ".Secret")):
				t[k] = v.Prefix() + text
			}
		}
	case []any:
		for i, inner := range t {
			if text, ok := inner.(string); ok && key == "clusters" { // of an aggregate cluster
				t[i] = v.Prefix() + text
				continue
			}
			v.rename(inner, "", key)
		}
	}
}

// secretKeys are fields that refer to a secret.
var secretKeys = map[string]bool{"tls_certificate_sds_secret_configs": true, "validation_context_sds_secret_config": true, "session_ticket_keys_sds_secret_config": true}
