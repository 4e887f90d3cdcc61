package main

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/mallamesh/malla/test/script/mesh"
)

// The compiler makes better code of what it knows to be hot (profile-guided optimization). What that is, malla-proxy
// itself has recorded while it did the works of this bench: with -profile there are no rivals, and its administration
// interface is asked for a profile of each work. All of them together are the file.

// beginProfile begins to record, and returns what ends it.
func (b *bench) beginProfile(admin int) (end func()) {
	ask := func(enable string) {
		url := fmt.Sprintf("http://127.0.0.1:%d/cpuprofiler?enable=%s", admin, enable)
		if _, err := mesh.Wait(10*time.Second, func() error { // it may listen a little later than the listeners
			resp, err := http.Post(url, "", nil)
			if err != nil {
				return err
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				return fmt.Errorf("%s", resp.Status)
			}
			return nil
		}); err != nil {
			b.Fatalf("POST %s: %v", url, err)
		}
	}
	ask("y")
	return func() { ask("n") }
}

// endProfiles has everybody write what they have recorded, and keeps it.
func (b *bench) endProfiles(c *contest) {
	for _, x := range c.list {
		if x.endProfile == nil {
			continue
		}
		x.endProfile()
		kept := filepath.Join(b.home, fmt.Sprintf("%d.pprof", len(b.profiles)))
		if err := os.Rename(x.profile, kept); err != nil {
			b.Fatalf("%v", err)
		}
		b.profiles = append(b.profiles, kept)
	}
}

// writeProfile joins what has been kept.
func (b *bench) writeProfile() int {
	if b.failed || len(b.profiles) == 0 {
		b.Errorf("%s stays as it is: there is nothing to write", b.profile)
		return 1
	}
	joined, err := exec.Command("go", append([]string{"tool", "pprof", "-proto"}, b.profiles...)...).Output()
	if err == nil {
		err = os.WriteFile(b.profile, joined, 0o644)
	}
	if err != nil {
		b.Errorf("join %d profiles: %v", len(b.profiles), err)
		return 1
	}
	b.Logf("%s is written; what it is worth shows make bench", b.profile)
	return 0
}
