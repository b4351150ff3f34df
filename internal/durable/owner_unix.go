//go:build unix

package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// keepOwner gives a new file to the owner and group of the old one. If that is not allowed, it is an error if an owner
// or group with access to the old file has none to the new one. This does not apply to root, nor if everyone may read
// the file.
func keepOwner(file *os.File, old fs.FileInfo) error {
	was, ok := old.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	refused := file.Chown(int(was.Uid), int(was.Gid))
	if refused == nil {
		return nil
	}
	_ = file.Chown(-1, int(was.Gid)) // succeeds for a group that this process belongs to; the result is checked below
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

// trusted reports whether this user or root created a link.
func trusted(link fs.FileInfo) bool {
	made, ok := link.Sys().(*syscall.Stat_t)
	return ok && (made.Uid == 0 || int(made.Uid) == os.Geteuid())
}

// NoFollow is the flag of open(2) that refuses a symbolic link.
const NoFollow = syscall.O_NOFOLLOW

// OpenOwn opens for reading a file that no other user can have written or may read: a regular file of this user with
// mode 0600, not a link.
func OpenOwn(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|NoFollow|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		file.Close()
		return nil, err
	}
	if made, ok := info.Sys().(*syscall.Stat_t); !ok || info.Mode() != 0o600 || int(made.Uid) != os.Geteuid() {
		file.Close()
		return nil, &fs.PathError{Op: "open", Path: path, Err: errors.New("not a regular file of this user with mode 0600")}
	}
	return file, nil
}
