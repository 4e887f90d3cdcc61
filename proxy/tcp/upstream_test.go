package tcp

import "testing"

// While it connects, a host is full: what comes all the same is kept, and counts.
func TestHostThatConnects(t *testing.T) {
	u := &upstream{}
	u.Write([]byte("abc"))
	u.CloseWrite()
	u.Resume()
	if !u.Full() || u.Held() != 3 || u.Paused() || !u.last || u.Ended() {
		t.Errorf("found full %v, held %d, paused %v, last %v", u.Full(), u.Held(), u.Paused(), u.last)
	}
}
