package resident

import (
	"os"
	"slices"
	"strings"
	"testing"
)

const smaps = `00400000-01029000 r-xp 00000000 fe:00 1234                               /bin/malla proxy
Size:              12460 kB
Rss:               10792 kB
Private_Dirty:         0 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
01029000-02000000 r--p 00c29000 fe:00 1234                               /bin/malla proxy
Rss:               13412 kB
Anonymous:             4 kB
02000000-02090000 rw-p 01c00000 fe:00 1234                               /bin/malla proxy
Anonymous:             0 kB
02090000-020a0000 r--s 01c00000 fe:00 1234                               /bin/malla proxy
Anonymous:             0 kB
03000000-03001000 r--p 00000000 fe:00 1234                               /bin/malla proxy
Anonymous:             0 kB
7f0e5a4d5000-7f0e5a62b000 r-xp 00026000 fe:00 99                         /usr/lib/libc.so.6
Anonymous:             0 kB
7f0e5a62b000-7f0e5a67e000 rw-p 00000000 00:00 0
Anonymous:             0 kB
`

// What could be written, is shared, is another file's, or has been changed is left alone.
func TestCleanMappings(t *testing.T) {
	want := []span{{0x400000, 0x1029000}, {0x3000000, 0x3001000}}
	if got := clean(strings.NewReader(smaps), "/bin/malla proxy"); !slices.Equal(got, want) {
		t.Errorf("found %x, want %x", got, want)
	}
	for _, damaged := range []string{"", "x", "a-b r", "00400000-01029000 r-xp 0 0 1 /p\n", strings.ReplaceAll(smaps, "0 kB", "kB"), strings.ReplaceAll(smaps, "-", " ")} {
		if got := clean(strings.NewReader(damaged), "/bin/malla proxy"); got != nil {
			t.Errorf("in %q: found %x", damaged, got)
		}
	}
}

// ofProgram is how much of the program's own file is in RAM, in kilobytes.
func ofProgram(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip(err)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "RssFile:" {
			n := 0
			for _, c := range f[1] {
				n = n*10 + int(c-'0')
			}
			return n
		}
	}
	t.Skip("no RssFile")
	return 0
}

func TestTrim(t *testing.T) {
	before := ofProgram(t)
	Trim()
	if after := ofProgram(t); after >= before {
		t.Errorf("%d kB of files in RAM before, %d kB after", before, after)
	}
}
