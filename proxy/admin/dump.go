package admin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"runtime"
	"strconv"
	"strings"
	"time"

	adminv3 "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/mallamesh/malla/base/pipe"
	"github.com/mallamesh/malla/base/regex"
)

// writeJSON prints a message as Envoy's admin interface does: names as in the
// proto, one space of indentation.
func writeJSON(w http.ResponseWriter, m proto.Message) { write(w, m, false) }

// write is writeJSON, with fields that have their default value if all is asked for.
func write(w http.ResponseWriter, m proto.Message, all bool) {
	text, err := protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: all}.Marshal(m)
	if err != nil {
		fail(w, err.Error(), http.StatusInternalServerError)
		return
	}
	var b bytes.Buffer // protojson varies its own spaces on purpose
	if err := json.Indent(&b, text, "", " "); err != nil {
		fail(w, err.Error(), http.StatusInternalServerError)
		return
	}
	b.WriteByte('\n')
	w.Header().Set("Content-Type", "application/json")
	_, _ = escapes.WriteString(w, b.String()) // the client has gone
}

// escapes are what protobuf's printer for C++ escapes, and Go's does not.
var escapes = strings.NewReplacer("<", `\u003c`, ">", `\u003e`, "\x7f", `\u007f`)

// configDump serves /config_dump?resource=<field>&mask=<paths>&name_regex=<regex>&include_eds.
func (s *Server) configDump(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	var names *regex.Sieve
	if text := q.Get("name_regex"); text != "" {
		re, err := pattern(text)
		if err != nil {
			fail(w, fmt.Sprintf("Error while parsing name_regex from %.*s: %v", maxPattern, text, err), http.StatusBadRequest)
			return
		}
		names = regex.NewSieve(re, maxMatching)
	}
	resource := q.Get("resource")
	messages := append([]proto.Message{&adminv3.BootstrapConfigDump{Bootstrap: s.Bootstrap, LastUpdated: timestamppb.New(s.Started)}},
		s.Store.Dump(q.Has("include_eds") || resource == "dynamic_endpoint_configs" || resource == "static_endpoint_configs")...)
	for _, m := range messages {
		filterNames(m, names)
	}
	if names != nil && names.Err() != nil {
		failSlow(w, names.Err())
		return
	}
	if resource != "" {
		picked, found := pick(messages, resource)
		if !found {
			fail(w, resource+" not found in config dump", http.StatusNotFound)
			return
		}
		messages = picked
	}
	out := &adminv3.ConfigDump{}
	shown := q.Get("mask")
	for _, m := range messages {
		if shown != "" {
			m = proto.Clone(m) // others are shown the same one
			if parseMask(shown).trim(m.ProtoReflect()) != nil {
				if resource == "" {
					continue // a mask for messages of another kind
				}
				fail(w, fmt.Sprintf("FieldMask paths: \"%s\" could not be successfully used.", shown), http.StatusBadRequest)
				return
			}
		}
		a, err := anypb.New(m)
		if err != nil {
			fail(w, err.Error(), http.StatusInternalServerError)
			return
		}
		out.Configs = append(out.Configs, a)
	}
	if shown != "" && len(out.Configs) == 0 {
		fail(w, fmt.Sprintf("FieldMask %s could not be successfully applied to any configs.", shown), http.StatusBadRequest)
		return
	}
	writeJSON(w, out)
}

// pick returns the elements of the one list that is called name.
func pick(messages []proto.Message, name string) ([]proto.Message, bool) {
	for _, m := range messages {
		r := m.ProtoReflect()
		fd := r.Descriptor().Fields().ByName(protoreflect.Name(name))
		if fd == nil || fd.Message() == nil {
			continue
		}
		if !fd.IsList() {
			return []proto.Message{r.Get(fd).Message().Interface()}, true
		}
		out := []proto.Message{}
		list := r.Get(fd).List()
		for i := range list.Len() {
			out = append(out, list.Get(i).Message().Interface())
		}
		return out, true
	}
	return nil, false
}

// filterNames leaves the resources in m whose names match.
func filterNames(m proto.Message, names *regex.Sieve) {
	if names == nil {
		return
	}
	r := m.ProtoReflect()
	fields := r.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		if !fd.IsList() || fd.Message() == nil {
			continue
		}
		list := r.Mutable(fd).List()
		kept := 0
		for j := range list.Len() {
			if names.MatchString(nameOf(list.Get(j).Message())) {
				list.Set(kept, list.Get(j))
				kept++
			}
		}
		list.Truncate(kept)
	}
}

// nameOf finds the name of a resource in an element of a dump: its own, or that of
// the resource it carries.
func nameOf(m protoreflect.Message) string {
	fields := m.Descriptor().Fields()
	for _, n := range []protoreflect.Name{"name", "cluster_name"} {
		if fd := fields.ByName(n); fd != nil && fd.Kind() == protoreflect.StringKind {
			return m.Get(fd).String()
		}
	}
	for i := range fields.Len() {
		fd := fields.Get(i)
		if fd.IsList() || fd.Message() == nil || fd.Message().FullName() != "google.protobuf.Any" || !m.Has(fd) {
			continue
		}
		if inner, err := m.Get(fd).Message().Interface().(*anypb.Any).UnmarshalNew(); err == nil {
			return nameOf(inner.ProtoReflect())
		}
	}
	return ""
}

func (s *Server) serverInfo(w http.ResponseWriter, _ *http.Request) {
	up := s.Now().Sub(s.Started).Truncate(time.Second)
	write(w, &adminv3.ServerInfo{
		Version: s.Version, State: s.State(), UptimeCurrentEpoch: durationpb.New(up), UptimeAllEpochs: durationpb.New(up),
		HotRestartVersion: "disabled", CommandLineOptions: s.Arguments, Node: s.Node,
	}, true)
}

// listeners serves /listeners?format=json.
func (s *Server) listeners(w http.ResponseWriter, r *http.Request) {
	run := s.Store.Runtime()
	if r.URL.Query().Get("format") == "json" {
		out := &adminv3.Listeners{}
		for _, l := range run.Listeners {
			st := &adminv3.ListenerStatus{Name: l.Name}
			for i, a := range l.Addrs {
				if i == 0 {
					st.LocalAddress = addressOf(a)
				} else {
					st.AdditionalLocalAddresses = append(st.AdditionalLocalAddresses, addressOf(a))
				}
			}
			out.ListenerStatuses = append(out.ListenerStatuses, st)
		}
		writeJSON(w, out)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=UTF-8")
	for _, l := range run.Listeners {
		for _, a := range l.Addrs {
			fmt.Fprintf(w, "%s::%s\n", l.Name, pipe.String(a))
		}
	}
}

func addressOf(a netip.AddrPort) *corev3.Address {
	if listener, endpoint, ok := pipe.Inside(a); ok {
		return &corev3.Address{Address: &corev3.Address_EnvoyInternalAddress{EnvoyInternalAddress: &corev3.EnvoyInternalAddress{
			AddressNameSpecifier: &corev3.EnvoyInternalAddress_ServerListenerName{ServerListenerName: listener}, EndpointId: endpoint}}}
	}
	if path, ok := pipe.Path(a); ok {
		return &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: path}}}
	}
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: a.Addr().String(), PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(a.Port())}}}}
}

// memory answers with Go's numbers under Envoy's names.
func (s *Server) memory(w http.ResponseWriter, _ *http.Request) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	writeJSON(w, &adminv3.Memory{Allocated: m.HeapAlloc, HeapSize: m.HeapSys, PageheapUnmapped: m.HeapReleased, PageheapFree: m.HeapIdle - m.HeapReleased, TotalThreadCache: m.MCacheInuse, TotalPhysicalBytes: m.Sys})
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }
