// Package resident keeps what a process has in RAM down to what it uses.
//
// Starting touches nearly all of a large program once: every package is initialized,
// every message type registered, every field of the configuration looked at. The
// system counts that as the process's memory for as long as it runs, and so it
// does with the heap of the busiest moment. [Trim] gives both back.
package resident

import "runtime/debug"

// Trim gives memory that is not used back to the system: free heap, and the pages of
// the program's own file, which come back one by one as they are needed, from the page
// cache. It takes as long as a garbage collection.
func Trim() {
	debug.FreeOSMemory()
	forgetProgram()
}
