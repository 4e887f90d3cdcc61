//go:build linux

package sandbox

import (
	"os"
	"slices"
	"strings"
	"testing"
)

func TestFixesNameTheSetting(t *testing.T) {
	for _, test := range []struct {
		settings  map[string]string
		container bool
		want      string
	}{
		{map[string]string{"kernel/apparmor_restrict_unprivileged_userns": "1"}, false, "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"},
		{map[string]string{"kernel/unprivileged_userns_clone": "0"}, false, "sudo sysctl -w kernel.unprivileged_userns_clone=1"},
		{map[string]string{"user/max_user_namespaces": "0"}, false, "sudo sysctl -w user.max_user_namespaces=15000"},
		{nil, true, "docker run --privileged"},
		{nil, false, "Linux 5.12"},
	} {
		got := fixesFrom(func(p string) string { return test.settings[p] }, test.container)
		if !strings.Contains(got, test.want) || strings.Contains(got, "; ") && len(test.settings) > 0 {
			t.Errorf("%v, container %v: %q, want %q", test.settings, test.container, got, test.want)
		}
	}
	if got := fixesFrom(func(string) string { return "" }, false); strings.Contains(got, "sysctl") {
		t.Errorf("settings that are not there were named: %s", got)
	}
}

// What PATH names is there, but not the user's own directories.
func TestSystemDirs(t *testing.T) {
	t.Setenv("HOME", "/home/jane")
	dirs := systemDirs("/usr/bin:/home/jane/go/bin:/home/jane/.nvm/versions/node/v20/bin:/home/jane/.local/bin:/data/tool/bin:/home/jane:relative:/:/etc/x:/home/jane/../jane/bin")
	for _, want := range []string{"/usr", "/bin", "/opt", "/home/jane/go/bin", "/home/jane/.nvm/versions/node/v20", "/home/jane/.local/bin", "/data/tool", "/home/jane/bin"} {
		if !slices.Contains(dirs, want) {
			t.Errorf("%s is missing in %v", want, dirs)
		}
	}
	for _, bad := range []string{"/home/jane", "/", "/etc/x", "relative", "/home/jane/.local", "/home/jane/go", "/usr/bin", "/data"} {
		if slices.Contains(dirs, bad) {
			t.Errorf("%s is shown to containers", bad)
		}
	}
}

func TestRole(t *testing.T) {
	for argv, want := range map[string]bool{
		"malla local pod-init": true, "malla local probe": true,
		"malla local supervise": false, "malla up": false, "malla": false, "malla proxy pod-init": false,
	} {
		if _, ok := Role(strings.Fields(argv)); ok != want {
			t.Errorf("%q is one of our stages: %v, want %v", argv, ok, want)
		}
	}
	if run, _ := Role([]string{"malla", "local", "pod-init"}); run == nil || os.Getpid() == 1 {
		t.Error("no function")
	}
	if n := testing.AllocsPerRun(10, func() { Role([]string{"malla", "get", "pods"}) }); n > 0 {
		t.Errorf("asking allocates %v times", n)
	}
}

func TestEnterSupervisorElsewhere(t *testing.T) {
	if os.Getpid() == 1 {
		t.Skip("process 1")
	}
	if err := EnterSupervisor(); err == nil {
		t.Error("an ordinary process became a supervisor")
	}
}
