package drive

import "iter"

// A Fiber is a coroutine of a loop: what has to wait in the middle of a call waits on a stack of its own, on the
// loop's thread, without locks and without a hand-over between threads. It runs one job after the other: to make a
// stack, and to have it grow, costs more than a short job does.
type Fiber struct {
	loop   *Loop
	job    Job // nil: none
	resume func() (struct{}, bool)
	stop   func()
	yield  func(struct{}) bool
}

// A Job is run by a fiber. It calls Wait where it has to.
type Job interface{ Run(*Fiber) }

// spareFibers is how many stacks a loop keeps. One in memory keeps none: nobody ends it, and
// a coroutine that waits would outlive its test.
const spareFibers = 4

// Fiber returns a fiber that is about to run a job.
func (l *Loop) Fiber(j Job) *Fiber {
	if last := len(l.fibers) - 1; last >= 0 {
		f := l.fibers[last]
		l.fibers = l.fibers[:last]
		f.job = j
		return f
	}
	f := &Fiber{loop: l, job: j}
	f.resume, f.stop = iter.Pull(func(yield func(struct{}) bool) {
		f.yield = yield
		for more := true; more; more = yield(struct{}{}) {
			f.job.Run(f)
			f.job = nil
		}
	})
	return f
}

// Resume has the job go on until it waits, and reports whether it is over. Then the fiber is the loop's again.
func (f *Fiber) Resume() (over bool) {
	f.resume()
	if f.job != nil {
		return false
	}
	if l := f.loop; len(l.fibers) < l.keepFibers {
		l.fibers = append(l.fibers, f)
	} else {
		f.stop()
	}
	return true
}

// Wait goes back to who has resumed the job, until it is resumed once more. It is for the job itself.
func (f *Fiber) Wait() { f.yield(struct{}{}) }
