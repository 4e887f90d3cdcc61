package field

import "testing"

func TestPathText(t *testing.T) {
	for _, test := range []struct {
		path *Path
		want string
	}{
		{nil, ""},
		{At("spec", "http").Index(2).Child("route"), "spec.http[2].route"},
		{At("metadata", "labels", "app.kubernetes.io/name"), `metadata.labels["app.kubernetes.io/name"]`}, // a dot inside a name must not look like a step
		{At("a").Index(0).Index(1), "a[0][1]"},
	} {
		if got := test.path.String(); got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
}

func TestPathsShareTheirParent(t *testing.T) {
	parent := At("spec")
	a, b := parent.Child("a"), parent.Child("b")
	if a.String() != "spec.a" || b.String() != "spec.b" || parent.String() != "spec" {
		t.Errorf("children change their parent: %q %q %q", a, b, parent)
	}
}

func TestErrorLine(t *testing.T) {
	e := &Error{In: "VirtualService prod/reviews", At: At("spec", "http").Index(2).Child("route"), Code: "MAL0107",
		Msg: "all 3 weights are 0, want at least one above 0"}
	want := "VirtualService prod/reviews: spec.http[2].route: all 3 weights are 0, want at least one above 0 (MAL0107)"
	if got := e.Error(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestEmptyListIsNoError(t *testing.T) {
	var l List
	if l.Err() != nil {
		t.Error("an empty list is an error")
	}
	l.Addf(At("spec"), "found %d", 1)
	if l.In("Pod a/b").Err() == nil || l[0].Error() != "Pod a/b: spec: found 1" {
		t.Errorf("got %v", l)
	}
}

// The nearest word there is comes to mind, if one is near.
func TestSuggest(t *testing.T) {
	known := []string{"containers", "initContainers", "hostname", "imagePullPolicy"}
	for _, test := range []struct{ found, want string }{
		{"container", "; did you mean containers?"},
		{"image_pull_policy", "; did you mean imagePullPolicy?"},
		{"HostName", "; did you mean hostname?"},
		{"zebra", ""},
		{"", ""},
	} {
		if got := Suggest(test.found, known); got != test.want {
			t.Errorf("Suggest(%q) = %q, want %q", test.found, got, test.want)
		}
	}
}

// Who fetches a document from somewhere must not have its names command the terminal.
func TestErrorsDoNotCommandTerminals(t *testing.T) {
	e := &Error{Pos: "x.yaml:1", In: "x\x1b[2J a\x1b]0;b\a", At: (*Path)(nil).Child("c\u009bd"), Msg: "é\nfg"}
	if got, want := e.Error(), `x.yaml:1: x\x1b[2J a\x1b]0;b\x07: c\x9bd: é`+"\nfg"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
