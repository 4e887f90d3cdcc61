package translate

import (
	"cmp"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	filev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/mallamesh/malla/base/logformat"
	"github.com/mallamesh/malla/model"
)

// logJSON has the same values by name.
var logJSON = map[string]string{
	"start_time": "%START_TIME%", "route_name": "%ROUTE_NAME%", "method": "%REQ(:METHOD)%",
	"path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%", "protocol": "%PROTOCOL%", "response_code": "%RESPONSE_CODE%",
	"response_flags": "%RESPONSE_FLAGS%", "response_code_details": "%RESPONSE_CODE_DETAILS%",
	"connection_termination_details": "%CONNECTION_TERMINATION_DETAILS%", "bytes_received": "%BYTES_RECEIVED%",
	"bytes_sent": "%BYTES_SENT%", "duration": "%DURATION%", "upstream_service_time": "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
	"x_forwarded_for": "%REQ(X-FORWARDED-FOR)%", "user_agent": "%REQ(USER-AGENT)%", "request_id": "%REQ(X-REQUEST-ID)%",
	"authority": "%REQ(:AUTHORITY)%", "upstream_host": "%UPSTREAM_HOST%", "upstream_cluster": "%UPSTREAM_CLUSTER_RAW%",
	"upstream_local_address": "%UPSTREAM_LOCAL_ADDRESS%", "downstream_local_address": "%DOWNSTREAM_LOCAL_ADDRESS%",
	"downstream_remote_address": "%DOWNSTREAM_REMOTE_ADDRESS%", "requested_server_name": "%REQUESTED_SERVER_NAME%",
	"upstream_transport_failure_reason": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
}

// accessLog is the mesh's access log, none if nobody asks for one.
func accessLog(v *model.View) []*accesslogv3.AccessLog {
	cfg := v.Mesh.Config
	if cfg.AccessLogFile == "" {
		return nil
	}
	format, own := &corev3.SubstitutionFormatString{}, cfg.AccessLogFormat
	if v.Proxy.Stock {
		own = logformat.ForEnvoy(own)
	}
	if cfg.AccessLogEncoding == model.LogJSON {
		format.Format = &corev3.SubstitutionFormatString_JsonFormat{JsonFormat: jsonFormat(own)}
	} else {
		text, named := logformat.Text(cmp.Or(own, "istio"))
		if !named {
			text = own
		}
		if text[len(text)-1] != '\n' {
			text += "\n" // a format that was written on one line of YAML
		}
		format.Format = &corev3.SubstitutionFormatString_TextFormatSource{TextFormatSource: &corev3.DataSource{
			Specifier: &corev3.DataSource_InlineString{InlineString: text},
		}}
	}
	return []*accesslogv3.AccessLog{{
		Name: "envoy.access_loggers.file",
		ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: pack(&filev3.FileAccessLog{
			Path: cfg.AccessLogFile, AccessLogFormat: &filev3.FileAccessLog_LogFormat{LogFormat: format},
		})},
	}}
}

// jsonFormat reads the author's object; without one, or if it is none, it is
// the default. (The parser of MeshConfig refuses what is no JSON.)
func jsonFormat(s string) *structpb.Struct {
	out := new(structpb.Struct)
	if s != "" && protojson.Unmarshal([]byte(s), out) == nil {
		return out
	}
	fields := make(map[string]*structpb.Value, len(logJSON))
	for k, op := range logJSON {
		fields[k] = str(op)
	}
	return object(fields)
}

// listenerLog writes connections that no filter chain took.
func listenerLog(v *model.View) []*accesslogv3.AccessLog {
	logs := accessLog(v)
	for _, l := range logs {
		l.Filter = &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_ResponseFlagFilter{
			ResponseFlagFilter: &accesslogv3.ResponseFlagFilter{Flags: []string{"NR"}},
		}}
	}
	return logs
}
