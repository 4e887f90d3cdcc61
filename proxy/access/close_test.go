package access

import (
	"testing"
	"time"
)

// A line says who has ended which side, at which byte of the stream, and how old the connection was; and nothing of a side that has ended
// as it should.
func TestClosings(t *testing.T) {
	r := teapot()
	r.CodeDetails, r.Down.WireIn, r.Down.WireOut, r.Opened = "a cause", 7, 9, r.Ended-Mark(3*time.Second)
	host := Closing{How: EndRemoteStream, Code: "CANCEL", In: 1, Out: 2, Age: 1500 * time.Microsecond, Requests: 3}
	for _, test := range []struct {
		client, host Closing
		format, want string
	}{
		{Closing{}, Closing{}, "%MALLA_DOWNSTREAM_CLOSE% %MALLA_UPSTREAM_CLOSE% %RESPONSE_CODE_DETAILS(CLOSE)%", "- - a_cause"},
		{Closing{How: EndRemoteReset, Requests: 2}, host, "%MALLA_DOWNSTREAM_CLOSE%", "remote_reset{received=7,sent=9,age=3000ms,requests=2}"},
		{Closing{}, host, "%MALLA_UPSTREAM_CLOSE%", "remote_reset_stream{received=1,sent=2,age=1ms,requests=3,code=CANCEL}"},
		{Closing{}, host, "%RESPONSE_CODE_DETAILS(ALLOW_WHITESPACES,CLOSE)%", "a cause;upstream_remote_reset_stream{received=1,sent=2,age=1ms,requests=3,code=CANCEL}"},
		{Closing{}, host, "%RESPONSE_CODE_DETAILS(ALLOW_WHITESPACES)%", "a cause"},
	} {
		r.ClientEnd, r.HostEnd = test.client, test.host
		f, err := Compile(test.format)
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 0, 1024)
		if got := string(f.Append(buf, r)); got != test.want {
			t.Errorf("%s = %q, want %q", test.format, got, test.want)
		}
		if n := testing.AllocsPerRun(100, func() { f.Append(buf, r) }); n != 0 {
			t.Errorf("%s allocates %v times, want 0", test.format, n)
		}
	}
}
