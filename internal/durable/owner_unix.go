//go:build unix

package durable

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// keepOwner gives a new file to the owner and group of the old one. Where that is not allowed, it is an error if whoever had
// access as owner or group has none to the new file: an owner other than root, or a group, unless everybody may read.
func keepOwner(file *os.File, old fs.FileInfo) error {
	was, ok := old.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	refused := file.Chown(int(was.Uid), int(was.Gid))
	if refused == nil {
		return nil
	}
	_ = file.Chown(-1, int(was.Gid)) // a group that this process belongs to; what became of it is seen below
	info, err := file.Stat()
	if err != nil {
		return err
	}
	is, ok := info.Sys().(*syscall.Stat_t)
	if !ok || old.Mode()&0o004 != 0 {
		return nil
	}
	if is.Uid != was.Uid && was.Uid != 0 && old.Mode()&0o400 != 0 || is.Gid != was.Gid && old.Mode()&0o040 != 0 {
		return fmt.Errorf("keep the owner and group of %s: %w", old.Name(), refused)
	}
	return nil
}
