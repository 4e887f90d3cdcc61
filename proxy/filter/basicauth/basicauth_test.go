package basicauth

import (
	"crypto/sha1"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	users, err := Parse("# of the house\n\nann:{SHA}qvTGHdzF6KLavt4PO0gs2a6pQ00=\r\nbob:{SHA}qvTGHdzF6KLavt4PO0gs2a6pQ00=")
	if err != nil || len(users) != 2 || users["bob"] != sha1.Sum([]byte("hello")) {
		t.Errorf("found %v, %v", users, err)
	}
	for text, want := range map[string]string{
		"ann": "line 1: want NAME:{SHA}HASH", ":{SHA}x": "line 1: want", "\nann:$apr1$x": "line 2: user ann has no hash",
		"a:{SHA}qvTGHdzF6KLavt4PO0gs2a6pQ00=\na:{SHA}qvTGHdzF6KLavt4PO0gs2a6pQ00=": "line 2: user a stands there twice", "a:{SHA}abcd": "line 1: user a has no hash",
	} {
		if _, err := Parse(text); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("Parse(%q): %v, want %s", text, err, want)
		}
	}
}
