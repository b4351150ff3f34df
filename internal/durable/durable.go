// Package durable replaces files so that a reader, or a machine after a loss of power, sees either the whole old file
// or the whole new one. It also writes files that must not exist yet.
package durable

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// File is a file being written: until Commit it has a temporary name beside its own. It is not safe for concurrent use.
type File struct {
	file *os.File
	buf  *bufio.Writer
	path string
	mode fs.FileMode
	done bool // Prepare was called
	over bool
}

// Create begins a file that will have exactly this mode, whatever the umask. Until Commit only the owner can read it.
// If path is a symbolic link, or leads through one, the target will be replaced and the link stays. A link made by a
// user other than this one or root is an error: write access to a directory does not entitle anyone to choose the file
// that this process replaces. A target that is not a regular file, such as a device, is an error too.
func Create(path string, mode fs.FileMode) (*File, error) {
	path, err := followed(path, trusted, new(int))
	if err != nil {
		return nil, err
	}
	if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "replace", Path: path, Err: errors.New("not a regular file")}
	}
	return temporaryFile(path, mode)
}

func temporaryFile(path string, mode fs.FileMode) (*File, error) {
	file, err := os.CreateTemp(filepath.Dir(path), temporary+"*-"+filepath.Base(path))
	if err != nil {
		if e, ok := errors.AsType[*fs.PathError](err); ok {
			e.Path = path // the name that the reader of the error knows
		}
		return nil, err
	}
	return &File{file: file, buf: bufio.NewWriterSize(file, 64<<10), path: path, mode: mode}, nil
}

// mostLinks is the largest number of symbolic links that are followed, as in Linux.
const mostLinks = 40

// followed returns the path with its symbolic links replaced by their targets, and counts them. The path need not
// exist.
func followed(path string, mayFollow func(link fs.FileInfo) bool, links *int) (string, error) {
	dir, base := filepath.Dir(path), filepath.Base(path)
	if dir == path {
		return path, nil
	}
	dir, err := followed(dir, mayFollow, links)
	if err != nil {
		return "", err
	}
	path = filepath.Join(dir, base)
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return path, nil
	}
	if err != nil || info.Mode().Type() != fs.ModeSymlink {
		return path, err
	}
	if *links++; *links > mostLinks {
		return "", &fs.PathError{Op: "follow", Path: path, Err: errors.New("too many symbolic links")}
	}
	if !mayFollow(info) {
		return "", &fs.PathError{Op: "follow", Path: path,
			Err: errors.New("a symbolic link of another user: give the path that it points to, if that is meant")}
	}
	target, err := os.Readlink(path)
	if err != nil {
		return "", err
	}
	if !filepath.IsAbs(target) {
		target = filepath.Join(dir, target)
	}
	return followed(target, mayFollow, links)
}

// Update is Create for a file that stays in use and to which other users may have access: an existing file keeps its
// mode and owner; mode is for a new one. It is an error if the owner or group would lose access because this process
// may not set them. Update also removes what killed processes left of earlier updates.
func Update(path string, mode fs.FileMode) (*File, error) {
	f, err := Create(path, mode)
	if err != nil {
		return nil, err
	}
	err = f.Sweep()
	if info, statErr := os.Lstat(f.path); err == nil && statErr == nil {
		f.mode = info.Mode().Perm()
		err = keepOwner(f.file, info)
	}
	if err != nil {
		f.Abandon()
		return nil, err
	}
	return f, nil
}

// forgotten is the age of a temporary file, since the last write, at which its process is taken to be gone.
const forgotten = time.Hour

// Sweep removes forgotten temporary files of the same path: killed processes left them. Their age is by the clock of
// the file system.
func (f *File) Sweep() error {
	mine, err := f.file.Stat()
	if err != nil {
		return err
	}
	dir := filepath.Dir(f.path)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		random, ok := strings.CutSuffix(strings.TrimPrefix(entry.Name(), temporary), "-"+filepath.Base(f.path))
		if !ok || !strings.HasPrefix(entry.Name(), temporary) || strings.Trim(random, "0123456789") != "" {
			continue
		}
		if info, err := entry.Info(); err == nil && info.Mode().IsRegular() && mine.ModTime().Sub(info.ModTime()) > forgotten {
			if err := os.Remove(filepath.Join(dir, entry.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// temporary is the prefix of the names of temporary files.
const temporary = ".new-"

// Write writes to the new file.
func (f *File) Write(data []byte) (int, error) { return f.buf.Write(data) }

// Prepare makes the written data durable, under the temporary name. Then Commit only renames, which needs no room on
// the disk. Nothing can be written after Prepare.
func (f *File) Prepare() error {
	if f.done {
		return nil
	}
	if err := f.buf.Flush(); err != nil {
		return err
	}
	if err := f.file.Chmod(f.mode); err != nil {
		return err
	}
	if err := f.file.Sync(); err != nil {
		return err
	}
	f.done = true
	return f.file.Close()
}

// Commit makes the written data durable and gives the file its name. A crash before it returns leaves the old file or
// the new one.
func (f *File) Commit() (err error) {
	defer func() {
		if err != nil {
			f.Abandon()
		}
	}()
	if err := f.Prepare(); err != nil {
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

// Replace writes a whole file; see Create.
func Replace(path string, data []byte, mode fs.FileMode) error {
	return put(Create, path, data, mode)
}

// Rewrite writes a whole file that stays in use; see Update.
func Rewrite(path string, data []byte, mode fs.FileMode) error {
	return put(Update, path, data, mode)
}

func put(open func(string, fs.FileMode) (*File, error), path string, data []byte, mode fs.FileMode) error {
	f, err := open(path, mode)
	if err != nil {
		return err
	}
	defer f.Abandon()
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Commit()
}

// Remove removes a file durably. A missing file is not an error.
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
