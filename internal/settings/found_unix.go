//go:build unix

package settings

import (
	"io/fs"
	"os"
	"syscall"
)

// owned reports whether a file is this user's or root's.
func owned(info fs.FileInfo) bool {
	made, ok := info.Sys().(*syscall.Stat_t)
	return ok && (made.Uid == 0 || int(made.Uid) == os.Geteuid())
}
