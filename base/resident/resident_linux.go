package resident

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"strconv"
	"syscall"
)

// forgetProgram unmaps, as far as the processor is concerned, what is mapped of the
// program's file. It is an improvement, so what fails is left as it is.
func forgetProgram() {
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return
	}
	defer f.Close()
	for _, r := range clean(f, program) {
		// The range is mapped, read-only and equal to the file: what is dropped is read again.
		_, _, _ = syscall.RawSyscall(syscall.SYS_MADVISE, r.from, r.to-r.from, syscall.MADV_DONTNEED)
	}
}

// A span is a range of addresses.
type span struct{ from, to uintptr }

// clean finds the mappings of a file in proc_pid_smaps(5) that cannot be written and have
// no page that differs from the file. A debugger's breakpoint or a relocation is
// such a page, and would be lost.
func clean(smaps io.Reader, file string) (list []span) {
	var at span
	candidate := false
	for s := bufio.NewScanner(smaps); s.Scan(); {
		line := s.Bytes()
		key, rest, _ := bytes.Cut(line, []byte(" "))
		if !bytes.HasSuffix(key, []byte(":")) {
			candidate = false
			// 00400000-01029000 r-xp 00000000 fe:00 1234   /path of the file
			from, to, ok := bytes.Cut(key, []byte("-"))
			f := bytes.Fields(rest)
			if !ok || len(f) < 5 || len(f[0]) < 4 || f[0][1] != '-' || f[0][3] != 'p' || !bytes.HasSuffix(rest, []byte(" "+file)) {
				continue
			}
			a, errA := strconv.ParseUint(string(from), 16, strconv.IntSize)
			b, errB := strconv.ParseUint(string(to), 16, strconv.IntSize)
			if errA == nil && errB == nil && a < b {
				at, candidate = span{uintptr(a), uintptr(b)}, true
			}
			continue
		}
		if candidate && string(key) == "Anonymous:" {
			if string(bytes.TrimSpace(rest)) == "0 kB" {
				list = append(list, at)
			}
			candidate = false
		}
	}
	return list
}
