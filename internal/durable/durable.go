// Package durable replaces files so that a reader, and a machine that loses power, sees the old one or the new one whole.
package durable

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// File is a file on its way: it has a temporary name beside its own until Commit. It is not safe for concurrent use.
type File struct {
	file *os.File
	buf  *bufio.Writer
	path string
	mode fs.FileMode
	over bool
}

// Create begins a file that will have exactly this mode, whatever the umask; it is the owner's alone until Commit. If path
// is a symbolic link, what it points to will be replaced and the link stays.
func Create(path string, mode fs.FileMode) (*File, error) {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	file, err := os.CreateTemp(filepath.Dir(path), ".new-*-"+filepath.Base(path))
	if err != nil {
		return nil, err
	}
	return &File{file: file, buf: bufio.NewWriterSize(file, 64<<10), path: path, mode: mode}, nil
}

// Write writes to the new file.
func (f *File) Write(data []byte) (int, error) { return f.buf.Write(data) }

// Commit makes what was written durable and gives it its name. A crash before it returns leaves the old file or the new
// one.
func (f *File) Commit() (err error) {
	defer func() {
		if err != nil {
			f.Abandon()
		}
	}()
	if err := f.buf.Flush(); err != nil {
		return err
	}
	if err := f.file.Chmod(f.mode); err != nil {
		return err
	}
	if err := f.file.Sync(); err != nil {
		return err
	}
	if err := f.file.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.file.Name(), f.path); err != nil {
		return err
	}
	f.over = true
	return syncDirectory(filepath.Dir(f.path))
}

// Abandon removes the new file unless it was committed. Calling it again does nothing.
func (f *File) Abandon() {
	if !f.over {
		f.over = true
		f.file.Close()
		os.Remove(f.file.Name())
	}
}

// Replace writes a whole file.
func Replace(path string, data []byte, mode fs.FileMode) error {
	f, err := Create(path, mode)
	if err != nil {
		return err
	}
	defer f.Abandon()
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Commit()
}

// Remove removes a file durably; one that is not there is no error.
func Remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return syncDirectory(filepath.Dir(path))
}

func syncDirectory(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
