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

// What is added later keeps to that; a message that no codec has read has as many fields as it is given.
func TestAddToList(t *testing.T) {
	var m, free Map
	m.AddParsed(Via, []byte("via"), []byte("a"))
	m.AddParsed(Accept, []byte("accept"), nil)
	m.Join(JoinedInRequests)
	var copied Map
	copied.CopyFrom(&m)
	for _, to := range []*Map{&m, &copied} {
		to.AddName([]byte("via"), []byte("b"))
		to.AddNameCopy([]byte("accept"), []byte("x"))
		to.Add(Via, nil)
		to.Add(SetCookie, []byte("1"))
		to.Add(SetCookie, []byte("2"))
		if via, accept := string(to.Get(Via)), string(to.Get(Accept)); via != "a,b" || accept != "x" || to.Len() != 4 {
			t.Errorf("via is %q and accept %q of %d fields, want a,b and x of 4", via, accept, to.Len())
		}
	}
	free.Add(Via, []byte("a"))
	free.Add(Via, []byte("b"))
	if free.Len() != 2 {
		t.Errorf("a message of nobody's has %d fields, want 2", free.Len())
	}
}
