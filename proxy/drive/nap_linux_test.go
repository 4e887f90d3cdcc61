package drive

import (
	"runtime"
	"slices"
	"testing"
	"time"
)

// Who has waited for long tells the scheduler so, and who has had something to do all the time naps: once, if that is over.
func TestNaps(t *testing.T) {
	l, err := New()
	if err != nil {
		t.Fatal(err)
	}
	defer l.finish()
	for i := range napAfter {
		if got := l.rest(time.Duration(l.clock)); got != -1 {
			t.Errorf("after %d short waits the next is of %v, want one without end", i, got)
		}
		l.rested(nap - 1)
	}
	if got := l.rest(time.Duration(l.clock)); got != nap {
		t.Errorf("after %d short waits the next is of %v, want a nap", napAfter, got)
	}
	var soon Timer
	l.Schedule(&soon, nap/2)
	if got := l.rest(time.Duration(l.clock)); got >= nap {
		t.Errorf("a timer that runs out in the middle of a nap is waited for for %v", got)
	}
	l.Cancel(&soon)
	l.rested(nap)
	if got := l.rest(time.Duration(l.clock)); got != -1 {
		t.Errorf("after a nap that nothing has ended the next wait is of %v, want one without end", got)
	}
}

// Nobody tells the scheduler of a nap, and still it does not wait for the end of one when it has to stop all threads.
func TestNapsEndForTheCollector(t *testing.T) {
	l, err := New()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		l.Run()
		close(done)
	}()
	defer func() {
		l.Stop()
		<-done
	}()
	var stops []time.Duration
	for range 21 {
		for range 2 * napAfter { // so that the loop naps afterwards
			ran := make(chan struct{})
			l.Post(func() { close(ran) })
			<-ran
		}
		var m runtime.MemStats
		began := time.Now()
		runtime.ReadMemStats(&m) // stops all
		stops = append(stops, time.Since(began))
	}
	slices.Sort(stops)
	if median := stops[len(stops)/2]; median > nap/2 {
		t.Errorf("to stop all takes %v, want less than a nap (%v)", median, nap)
	}
}
