//go:build unix

package hangup

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
)

const role = "MALLA_HANGUP_ROLE" // for this program, started by itself

func TestMain(m *testing.M) {
	hup := func() {
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			panic(err)
		}
	}
	switch os.Getenv(role) {
	case "":
		os.Exit(m.Run())
	case "default":
		hup()
		select {}
	case "ignore":
		Ignore()
		for range 3 {
			hup()
		}
		// What is started has the default, so that the signal ends it.
		err := exec.Command("sh", "-c", "kill -HUP $$; echo lives").Run()
		fmt.Println("went on; child:", err)
	case "context":
		ctx, stop := Context(context.Background())
		defer stop()
		hup()
		<-ctx.Done()
		fmt.Println("ended in order")
	case "nohup":
		ctx, stop := Context(context.Background())
		defer stop()
		hup()
		if ctx.Err() == nil && signal.Ignored(syscall.SIGHUP) {
			fmt.Println("ignored")
		}
	}
	os.Exit(0)
}

func TestHangup(t *testing.T) {
	Ignore() // so that what this starts has the default, should whoever runs the tests ignore the signal (nohup)
	for what, want := range map[string]string{
		"default": "signal: hangup",
		"ignore":  "went on; child: signal: hangup",
		"context": "ended in order",
	} {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), role+"="+what)
		out, err := cmd.Output()
		got := strings.TrimSpace(string(out))
		if err != nil {
			got += err.Error()
		}
		if got != want {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
}

func TestHangupOfNohup(t *testing.T) {
	cmd := exec.Command("sh", "-c", `trap "" HUP; exec "$0"`, os.Args[0])
	cmd.Env = append(os.Environ(), role+"=nohup")
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "ignored\n" {
		t.Errorf("%q, %v", out, err)
	}
}
