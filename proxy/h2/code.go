package h2

import "strconv"

// A Code says why a stream or a connection ended (RFC 9113, section 7).
type Code uint32

// The codes.
const (
	NoError            Code = 0x0
	ProtocolError      Code = 0x1
	InternalError      Code = 0x2
	FlowControlError   Code = 0x3
	SettingsTimeout    Code = 0x4
	StreamClosed       Code = 0x5
	FrameSizeError     Code = 0x6
	RefusedStream      Code = 0x7
	Cancel             Code = 0x8
	CompressionError   Code = 0x9
	ConnectError       Code = 0xa
	EnhanceYourCalm    Code = 0xb
	InadequateSecurity Code = 0xc
	HTTP11Required     Code = 0xd
)

var codeNames = [...]string{
	"NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED", "FRAME_SIZE_ERROR",
	"REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM", "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED",
}

// String returns the RFC's name.
func (c Code) String() string {
	if int(c) < len(codeNames) {
		return codeNames[c]
	}
	return "code " + strconv.FormatUint(uint64(c), 10)
}

// An Error ends a connection. Errors are constants and allocate nothing.
type Error struct {
	Code    Code   // what GOAWAY said
	Details string // Envoy's response code details
	Why     string
	Flood   bool // a limit was exceeded: for Envoy that is no protocol error
	Stuck   bool // the peer takes nothing, so what is to be sent need not be waited for
}

// Premature reports that a client has reset too many requests before they had an answer.
func (e *Error) Premature() bool { return e == errPremature }

func (e *Error) Error() string { return "http2: " + e.Code.String() + ": " + e.Why }

// A Cause says who ended a stream before its time.
type Cause uint8

// The causes.
const (
	RemoteReset Cause = iota // the peer sent RST_STREAM
	Malformed                // the peer's message was against the rules; we have reset the stream
	GoneAway                 // the peer's GOAWAY left the stream out
	Broken                   // the connection ended: a protocol error, found by us
	Closed                   // the connection ended: the transport has gone
)

// A Reset is what a stream's handler hears of an untimely end.
type Reset struct {
	Cause   Cause
	Code    Code
	Details string // Envoy's response code details
	// Unseen says that the peer has not acted on the request, so that it can be sent again:
	// REFUSED_STREAM, or a GOAWAY that left it out.
	Unseen bool
}

const (
	detailsRemoteReset   = "http2.remote_reset"
	detailsRemoteRefused = "http2.remote_refuse"
	detailsHeader        = "http2.invalid.header.field"
	detailsMessaging     = "http2.violation.of.messaging.rule"
	detailsTooMany       = "http2.too_many_headers"
	detailsTooLarge      = "http2.header_list_size_too_large"
	detailsUnderscore    = "http2.unexpected_underscore"
	detailsEmptyFrames   = "http2.inbound_empty_frames_flood"
	detailsPriority      = "codec_error:Too_many_PRIORITY_frames"
	detailsWindowUpdate  = "codec_error:Too_many_WINDOW_UPDATE_frames"
	detailsOutbound      = "http2.outbound_frames_flood"
	detailsControl       = "codec_error:Too_many_control_frames_in_the_outbound_queue."
	detailsPremature     = "too_many_premature_resets"
	detailsResets        = "codec_error:The_user_callback_function_failed" // as nghttp2 says it
	detailsHeld          = "overload"                                      // as Envoy resets streams that hold much memory
)

// Errors of connections.
var (
	errPreface       = &Error{Code: ProtocolError, Why: "no connection preface"}
	errFirst         = &Error{Code: ProtocolError, Why: "the first frame is not SETTINGS"}
	errFrameSize     = &Error{Code: FrameSizeError, Why: "frame too large"}
	errLength        = &Error{Code: FrameSizeError, Why: "frame of a wrong length"}
	errStreamZero    = &Error{Code: ProtocolError, Why: "frame on stream 0 that belongs to a stream"}
	errStreamNotZero = &Error{Code: ProtocolError, Why: "frame on a stream that belongs to the connection"}
	errStreamID      = &Error{Code: ProtocolError, Why: "stream identifier that the peer may not use"}
	errIdle          = &Error{Code: ProtocolError, Why: "frame on an idle stream"}
	errClosed        = &Error{Code: StreamClosed, Why: "frame on a closed stream"}
	errPadding       = &Error{Code: ProtocolError, Why: "padding longer than the frame"}
	errContinuation  = &Error{Code: ProtocolError, Why: "header block interrupted, or continued without a beginning"}
	errPush          = &Error{Code: ProtocolError, Why: "PUSH_PROMISE"}
	errSelf          = &Error{Code: ProtocolError, Why: "stream that depends on itself"}
	errCompression   = &Error{Code: CompressionError, Why: "malformed header block"}
	errBlock         = &Error{Code: EnhanceYourCalm, Why: "header block too large", Details: "http2.headers_too_large"}
	errSetting       = &Error{Code: ProtocolError, Why: "setting out of range"}
	errAck           = &Error{Code: ProtocolError, Why: "acknowledgement of settings that were not sent"}
	errWindowSetting = &Error{Code: FlowControlError, Why: "initial window above 2^31-1"}
	errWindow        = &Error{Code: FlowControlError, Why: "window above 2^31-1"}
	errWindowZero    = &Error{Code: ProtocolError, Why: "window update of 0"}
	errFlow          = &Error{Code: FlowControlError, Why: "more data than the window allows"}
	errGoAway        = &Error{Code: ProtocolError, Why: "GOAWAY raises the last stream"}
	errHeader        = &Error{Code: ProtocolError, Details: detailsHeader, Why: "malformed field"}
	errMessaging     = &Error{Code: ProtocolError, Details: detailsMessaging, Why: "malformed message"}
	errHalfClosed    = &Error{Code: StreamClosed, Details: detailsMessaging, Why: "frame after the end of the message"}
	errPing          = &Error{Code: NoError, Details: "http2.ping_timeout", Why: "a PING was not answered in time"}

	errEmptyFrames  = &Error{Code: EnhanceYourCalm, Details: detailsEmptyFrames, Why: "too many frames with an empty payload", Flood: true}
	errPriority     = &Error{Code: EnhanceYourCalm, Details: detailsPriority, Why: "too many PRIORITY frames", Flood: true}
	errWindowUpdate = &Error{Code: EnhanceYourCalm, Details: detailsWindowUpdate, Why: "too many WINDOW_UPDATE frames", Flood: true}
	errOutbound     = &Error{Code: EnhanceYourCalm, Details: detailsOutbound, Why: "too many frames in the outbound queue", Flood: true, Stuck: true}
	errControl      = &Error{Code: EnhanceYourCalm, Details: detailsControl, Why: "too many control frames in the outbound queue", Flood: true, Stuck: true}
	errResets       = &Error{Code: InternalError, Details: detailsResets, Why: "too many streams reset"}
	errPremature    = &Error{Code: EnhanceYourCalm, Details: detailsPremature, Why: "too many streams reset before they had an answer"}
)
