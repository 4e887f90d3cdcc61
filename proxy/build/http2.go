package build

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mallamesh/malla/base/field"
	"github.com/mallamesh/malla/proxy/h2"
)

var http2Fields = []*Message{
	message((*corev3.Http2ProtocolOptions)(nil),
		reads("hpack_table_size", "max_concurrent_streams", "initial_stream_window_size", "initial_connection_window_size", "allow_connect",
			"max_outbound_frames", "max_outbound_control_frames", "max_consecutive_inbound_frames_with_empty_payload",
			"max_inbound_priority_frames_per_stream", "max_inbound_window_update_frames_per_data_frame_sent",
			"stream_error_on_invalid_http_messaging", "override_stream_error_on_invalid_http_message", "connection_keepalive",
			"stream_reset_burst", "stream_reset_rate"),
		refuses("METADATA frames are not part of HTTP/2", "allow_metadata"),
		ignores("there are no METADATA frames", "max_metadata_size"),
		ignores("there is one codec", "use_oghttp2_codec"),
		ignores("values that will be seen once are sent as they are, which costs the peer less; the peer cannot tell", "enable_huffman_encoding")),
	message((*corev3.KeepaliveSettings)(nil), reads("interval", "timeout", "interval_jitter", "connection_idle_interval")),
}

// http2 reads how a connection of HTTP/2 is spoken on; at is the place of m, which may be nil. What is
// out of range is an error, as in Envoy's API.
func (r *reader) http2(m *corev3.Http2ProtocolOptions, at *field.Path) h2.Options {
	var o h2.Options
	within := func(name string, v *uint32, low, high uint32) int {
		if v == nil {
			return 0
		}
		if *v < low || *v > high {
			r.errs.Addf(at.Child(name), "found %d, want %d to %d", *v, low, high)
		}
		return int(*v)
	}
	const maxInt = 1<<31 - 1
	o.DecoderTable = orNone(number(m.GetHpackTableSize()))
	o.MaxConcurrentStreams = uint32(within("max_concurrent_streams", number(m.GetMaxConcurrentStreams()), 1, maxInt))
	o.StreamWindow = within("initial_stream_window_size", number(m.GetInitialStreamWindowSize()), 65535, maxInt)
	o.ConnWindow = within("initial_connection_window_size", number(m.GetInitialConnectionWindowSize()), 65535, maxInt)
	o.AllowConnect = m.GetAllowConnect()
	o.StreamErrors = m.GetStreamErrorOnInvalidHttpMessaging() //nolint:staticcheck // deprecated, still sent
	if b := m.GetOverrideStreamErrorOnInvalidHttpMessage(); b != nil {
		o.StreamErrors = b.GetValue()
	}
	l := &o.Limits
	l.OutboundFrames = within("max_outbound_frames", number(m.GetMaxOutboundFrames()), 1, maxInt)
	l.OutboundControlFrames = within("max_outbound_control_frames", number(m.GetMaxOutboundControlFrames()), 1, maxInt)
	l.EmptyFrames = orNone(number(m.GetMaxConsecutiveInboundFramesWithEmptyPayload()))
	l.PriorityPerStream = orNone(number(m.GetMaxInboundPriorityFramesPerStream()))
	l.WindowUpdatesPerData = within("max_inbound_window_update_frames_per_data_frame_sent", number(m.GetMaxInboundWindowUpdateFramesPerDataFrameSent()), 1, maxInt)
	l.ResetBurst, l.ResetRate = orNone(number64(m.GetStreamResetBurst())), orNone(number64(m.GetStreamResetRate()))
	if k := m.GetConnectionKeepalive(); k != nil {
		at := at.Child("connection_keepalive")
		o.PingInterval, o.PingTimeout = r.duration(k.GetInterval(), at.Child("interval")), r.duration(k.GetTimeout(), at.Child("timeout"))
		o.PingIdle, o.PingJitter = r.duration(k.GetConnectionIdleInterval(), at.Child("connection_idle_interval")), defaultJitter
		if j := k.GetIntervalJitter(); j != nil {
			if o.PingJitter = j.GetValue(); !(o.PingJitter >= 0 && o.PingJitter <= 100) {
				r.errs.Addf(at.Child("interval_jitter"), "found %v, want 0 to 100", o.PingJitter)
			}
		}
		if k.GetTimeout() == nil {
			r.errs.Addf(at.Child("timeout"), "is not set, want how long an answer may take")
		}
	}
	return o
}

// number64 is number for one that may be longer than anybody counts.
func number64(v *wrapperspb.UInt64Value) *uint32 {
	if v == nil {
		return nil
	}
	n := uint32(min(v.GetValue(), 1<<31-1))
	return &n
}

// defaultJitter is Envoy's, in percent.
const defaultJitter = 15

// orNone is a number for options in which 0 means the default and less than 0 none.
func orNone(v *uint32) int {
	switch {
	case v == nil:
		return 0
	case *v == 0:
		return -1
	}
	return int(min(*v, 1<<31-1))
}
