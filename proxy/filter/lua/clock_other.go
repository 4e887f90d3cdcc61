//go:build !linux

package lua

import "time"

var started = time.Now()

// processor is the time that has gone by, where nothing better is known.
func processor() time.Duration { return time.Since(started) }
