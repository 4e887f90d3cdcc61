//go:build linux

package app

import (
	"bufio"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What is below a process counts as alive after the process has gone.
func TestTreeHoldsWhatIsBelow(t *testing.T) {
	cmd := exec.Command("sh", "-c", "sleep 300 & echo $!; wait")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	all := openTree(cmd.Process.Pid)
	defer all.close()
	if len(all) != 2 {
		t.Errorf("the tree of a shell and its child (%s) has %d processes, want 2", strings.TrimSpace(line), len(all))
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	left := all.alive()
	if len(left) != 1 || left[0] == cmd.Process.Pid {
		t.Fatalf("after its parent has gone, alive are %v, want the child", left)
	}
	_ = syscall.Kill(left[0], syscall.SIGKILL)
	if !poll(5*time.Second, func() bool { return len(all.alive()) == 0 }) {
		t.Errorf("%v counts as alive after it was killed", all.alive())
	}
}

func TestParentOf(t *testing.T) {
	for _, test := range []struct {
		stat string
		want int
		ok   bool
	}{
		{"12 (malla) S 7 12 12", 7, true},
		{"12 (a) S 1 (b) R 9 12", 9, true}, // a name may hold anything
		{"12 (malla", 0, false},
		{"", 0, false},
	} {
		if got, ok := parentOf(test.stat); got != test.want || ok != test.ok {
			t.Errorf("parentOf(%q) = %d, %v, want %d, %v", test.stat, got, ok, test.want, test.ok)
		}
	}
}
