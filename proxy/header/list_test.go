package header

import "testing"

func TestListHas(t *testing.T) {
	for list, want := range map[string]bool{"": false, "no-store": false, "No-Store , NO-TRANSFORM": true, "no-transform=1": false, ",no-transform": true} {
		if got := ListHas([]byte(list), []byte("no-transform")); got != want {
			t.Errorf("%q has it: %v, want %v", list, got, want)
		}
	}
}
