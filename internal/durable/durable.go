// Package durable replaces files so that a reader, and a machine that loses power, sees the old one or the new one whole, and writes files that
// must not be there yet.
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

// File is a file on its way: it has a temporary name beside its own until Commit. It is not safe for concurrent use.
type File struct {
	file *os.File
	buf  *bufio.Writer
	path string
	mode fs.FileMode
	done bool // Prepare was called
	over bool
}

// Create begins a file that will have exactly this mode, whatever the umask; it is the owner's alone until Commit. If path
// is a symbolic link, or leads through one, what it points to will be replaced and the link stays; a link of somebody else
// than this user and root is an error: who may write to a directory does not choose what this process replaces. What is no
// regular file, such as a device, is an error: a file of that name is not what is wanted.
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
			e.Path = path // the name that whoever reads the error knows
		}
		return nil, err
	}
	return &File{file: file, buf: bufio.NewWriterSize(file, 64<<10), path: path, mode: mode}, nil
}

// mostLinks is how many symbolic links are followed, as in Linux.
const mostLinks = 40

// followed is the path with its symbolic links replaced by what they point to, and counts them. It need not exist.
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
		return "", &fs.PathError{Op: "follow", Path: path, Err: errors.New("a symbolic link of another user: give the path that it points to, if that is meant")}
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

// Update is Create for a file that stays in use, and that others may have been given access to: if it is there, its mode
// and owner count, and mode only if it is not. An owner or group that would lose its access, because this process may not
// give it to them, is an error. What killed processes left of earlier updates is removed.
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

// forgotten is how long nobody has written to a temporary file whose process is gone.
const forgotten = time.Hour

// Sweep removes temporary files of the same path that were forgotten: killed processes left them. The file system has the clock.
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

// temporary begins the names of files on their way.
const temporary = ".new-"

// Write writes to the new file.
func (f *File) Write(data []byte) (int, error) { return f.buf.Write(data) }

// Prepare makes what was written durable, under the temporary name: of Commit then only the renaming is left, which needs no
// room on the disk. Nothing can be written after it.
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

// Commit makes what was written durable and gives it its name. A crash before it returns leaves the old file or the new
// one.
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

// Replace writes a whole file.
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
