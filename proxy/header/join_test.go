package header

import "testing"

// Several fields of a name that is a list become one, in the place of the first; others stay as they are, and what is empty adds nothing.
func TestJoin(t *testing.T) {
	var m Map
	for _, f := range [][2]string{{"x-a", "1"}, {"via", ""}, {"x-forwarded-for", "1.1.1.1"}, {"cookie", "a"}, {"x-a", "2"}, {"x-forwarded-for", "2.2.2.2"}, {"via", "p"}, {"cookie", "b"}, {"x-forwarded-for", "3.3.3.3"}} {
		m.AddParsed(TokenOfString(f[0]), []byte(f[0]), []byte(f[1]))
	}
	m.Join(JoinedInRequests)
	got := ""
	for _, f := range m.Fields() {
		got += string(f.Name) + "=" + string(f.Value) + " "
	}
	if want := "x-a=1 via=p x-forwarded-for=1.1.1.1,2.2.2.2,3.3.3.3 cookie=a x-a=2 cookie=b "; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := string(m.Get(XForwardedFor)); got != "1.1.1.1,2.2.2.2,3.3.3.3" {
		t.Errorf("x-forwarded-for is %q", got)
	}
}
