package machine

import "testing"

func TestRoundTrip(t *testing.T) {
	const probe = `{"httpGet":{"httpHeaders":[{"name":"x","value":"y"}],"port":80},"periodSeconds":5}`
	r, err := Pack([]byte(probe))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Unpack(r.GetValue()); err != nil || string(got) != probe || r.GetTypeUrl() != Type {
		t.Errorf("got %s, %v", got, err)
	}
	if _, err := Pack([]byte("[")); err == nil {
		t.Error("what is no object is packed")
	}
}

// Nothing that comes over the wire is more than an error.
func FuzzUnpack(f *testing.F) {
	r, err := Pack([]byte(`{"grpc":{"port":1}}`))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(r.GetValue())
	f.Fuzz(func(t *testing.T, body []byte) {
		text, err := Unpack(body)
		if err != nil {
			return
		}
		if _, err := Pack(text); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	})
}
