package schedule

import (
	"fmt"
	"strings"
	"testing"
)

func TestIndexes(t *testing.T) {
	for text, want := range map[string]string{
		"0": "[0]", "0,2-4": "[0 2 3 4]", "1-2,4": "[1 2 4]",
		"": "want numbers", "a": "want numbers", "2-1": "want numbers", "1-1": "want numbers", "3,1": "rising", "-1": "want numbers", "5": "below",
	} {
		set, err := Indexes(text, 5)
		if got := fmt.Sprint(set, err); !strings.Contains(got, want) {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}
