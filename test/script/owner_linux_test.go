package script_test

import (
	"os"
	"syscall"
)

// owner is the uid of a file.
func owner(info os.FileInfo) int { return int(info.Sys().(*syscall.Stat_t).Uid) }
