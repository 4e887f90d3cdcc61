package build

import (
	"strings"
	"testing"
	"time"
)

// What is asked of the administration interface is read as strictly as a listener, and in YAML or JSON.
func TestReadTap(t *testing.T) {
	env := testEnv(t)
	id, c, reader, err := ReadTap(env, []byte(`
config_id: one
tap_config:
  match: {any_match: true}
  output_config: {max_buffered_rx_bytes: 7, sinks: [{format: JSON_BODY_AS_STRING, buffered_admin: {max_traces: 3, timeout: 2s}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if id != "one" || c.MaxRx != 7 || c.MaxTx != 1024 || reader.Max != 3 || reader.Timeout != 2*time.Second || !reader.Block {
		t.Errorf("found %q, %+v, %+v", id, c, reader)
	}
	if _, _, reader, err = ReadTap(env, []byte(`{"config_id": "one", "tap_config": {"match": {"any_match": true}, "output_config": {"sinks": [{"streaming_admin": {}}]}}}`)); err != nil || reader == nil || reader.Block {
		t.Errorf("a tap that streams: %+v, %v", reader, err)
	}
	for text, want := range map[string]string{
		"tap_config: {match: {any_match: true}, output_config: {sinks: [{streaming_admin: {}}]}}":                                   "config_id: is empty",
		"config_id: a\ntap_config: {output_config: {sinks: [{streaming_admin: {}}]}}":                                               "tap_config.match: says not",
		"config_id: a\ntap_config: {match: {any_match: true}}":                                                                      "tap_config.output_config: is not set",
		"config_id: a\ntap_config: {match: {any_match: true}, output_config: {sinks: [{format: PROTO_TEXT, streaming_admin: {}}]}}": "format: found PROTO_TEXT",
		"config_id: a\ntap_config: {match: {any_match: true}, output_config: {sinks: [{streaming_grpc: {}}]}}":                      "streaming_grpc",
		"config_id: a\ntap_config: {match: {any_match: true}, output_config: {sinks: [{buffered_admin: {}}]}}":                      "max_traces: found 0",
	} {
		if _, _, _, err := ReadTap(env, []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: found %v, want %s", text, err, want)
		}
	}
}
