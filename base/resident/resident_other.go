//go:build !linux

package resident

// forgetProgram does nothing where the system offers no such thing.
func forgetProgram() {}
