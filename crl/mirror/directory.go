// Package mirror copies published lists to places from which other servers serve them: a folder, or a bucket of an
// object store. A list is never replaced by one with a smaller number, however many instances write to the place.
package mirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	slashed "path"
	"path/filepath"
	"sync"
	"time"

	"github.com/gofrs/flock"

	"signet.example/signet/crl"
	"signet.example/signet/internal/durable"
)

// Directory is a folder in a file system. If the file system supports locks, several instances may write to the same
// folder, and none replaces a list by an older one. It is safe for concurrent use.
type Directory struct {
	path string

	mu    sync.Mutex             // held during a copy, because the file lock is one of the process
	wrote map[string]writtenFile // guarded by mu
}

// writtenFile is a file as this instance left it. While the file is unchanged, its number need not be read from it.
type writtenFile struct {
	info   fs.FileInfo
	number uint64
}

// NewDirectory returns the folder at path. The folder is created with its first list.
func NewDirectory(path string) *Directory {
	return &Directory{path: path, wrote: make(map[string]writtenFile)}
}

// String returns the path.
func (d *Directory) String() string { return d.path }

// lockName is the file in the folder by which instances lock each other out.
const lockName = ".signet.lock"

// Put replaces a file atomically: readers, and a crash at any point, find the old file or the new one.
func (d *Directory) Put(ctx context.Context, name string, document crl.Document, number uint64) error {
	return d.locked(ctx, name, func(path string) error {
		newer, err := d.hasNumber(path, number)
		if err != nil || newer {
			return err
		}
		if err := replace(path, document); err != nil {
			return err
		}
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		d.wrote[path] = writtenFile{info, number}
		return nil
	})
}

// PutIndex replaces a file by an index of the folder that it is in. No other instance writes lists meanwhile.
func (d *Directory) PutIndex(ctx context.Context, name string, of func(names []string) ([]byte, error)) error {
	return d.locked(ctx, name, func(path string) error {
		names, err := d.below(ctx, slashed.Dir(name))
		if err != nil {
			return err
		}
		body, err := of(names)
		if err != nil {
			return err
		}
		if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, body) {
			return nil
		}
		return replace(path, crl.Document{body})
	})
}

// locked creates the folder of a file if needed, and calls do with the path of the file while no other instance
// writes.
func (d *Directory) locked(ctx context.Context, name string, do func(path string) error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	path := filepath.Join(d.path, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	lock := flock.New(filepath.Join(d.path, lockName), flock.SetPermissions(0o664))
	if _, err := lock.TryLockContext(ctx, 20*time.Millisecond); err != nil {
		return fmt.Errorf("lock %s: %w", lock.Path(), err)
	}
	defer lock.Close()
	return do(path)
}

// hasNumber reports whether a file is a list with this number or a larger one. It is false for a file that is not a
// list, which is replaced.
func (d *Directory) hasNumber(path string, number uint64) (bool, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	if last, ok := d.wrote[path]; ok && os.SameFile(last.info, info) && last.info.ModTime().Equal(info.ModTime()) && last.info.Size() == info.Size() {
		return last.number >= number, nil
	}
	list, err := crl.Read(f, info.Size())
	if _, unreadable := errors.AsType[*fs.PathError](err); unreadable {
		return false, err
	}
	return err == nil && list.Number.Compare(crl.NumberOf(number)) >= 0, nil
}

// replace writes a file atomically and durably.
func replace(path string, document crl.Document) error {
	f, err := durable.Create(path, 0o644)
	if err != nil {
		return err
	}
	defer f.Abandon()
	if err := f.Sweep(); err != nil {
		return err
	}
	if _, err := io.Copy(f, document.Reader()); err != nil {
		return err
	}
	return f.Commit()
}

// Names returns the names of the files of all issuers.
func (d *Directory) Names(ctx context.Context) ([]string, error) { return d.below(ctx, "crl") }

// below returns the names of the files in a folder and its subfolders.
func (d *Directory) below(ctx context.Context, folder string) (names []string, err error) {
	err = fs.WalkDir(os.DirFS(d.path), folder, func(name string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) { // nothing was copied yet, or the file has just been removed
			return nil
		}
		if err == nil && entry.Type().IsRegular() {
			names = append(names, name)
		}
		return errors.Join(err, ctx.Err())
	})
	return names, err
}

// Remove removes a file. If there is none, it returns nil.
func (d *Directory) Remove(_ context.Context, name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	path := filepath.Join(d.path, filepath.FromSlash(name))
	delete(d.wrote, path)
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
