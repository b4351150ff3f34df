package crlserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"

	"signet.example/signet/crl"
	"signet.example/signet/pki"
)

// Mirror is a place that lists are copied to, from where others serve them. All methods may be called again after an
// error, and by several instances at once.
type Mirror interface {
	// Put stores a list under its name ("crl/{issuer}.crl"), unless the place has one with the same or a larger number.
	Put(ctx context.Context, name string, document crl.Document, head Head) error

	// Names returns the names of what the place has below "crl/", whoever put it there.
	Names(ctx context.Context) ([]string, error)

	// Remove removes a list. It is no error if there is none.
	Remove(ctx context.Context, name string) error

	// String names the place, for the log.
	String() string
}

const (
	mirrorTimeout = time.Minute // of one copy
	mirrorRest    = time.Minute // longest pause after failures
	mirrorLook    = time.Hour   // so often what is there is looked through
	removals      = 32          // at most, before what has changed meanwhile is copied
)

// mirror copies lists to one place until ctx ends. What fails is tried again, less and less often; meanwhile newer lists
// take the place of those that waited.
func (p *Publisher) mirror(ctx context.Context, m Mirror, copied map[List]uint64) {
	done := make(map[List]uint64) // number of the copy
	var looked time.Time
	for failures := 0; ; {
		p.mu.RLock()
		changed := p.changed
		p.mu.RUnlock()
		if err := p.copyTo(ctx, m, done, copied); err != nil && ctx.Err() == nil {
			failures++
			pause := min(mirrorRest, tick<<min(failures, 6))
			p.config.Log.Error("cannot copy lists", "to", m.String(), "error", err, "again", p.config.Now().Add(pause))
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
			continue
		}
		failures = 0
		if now := p.config.Now(); now.Sub(looked).Abs() >= mirrorLook {
			if err := findCopies(ctx, m, done); err != nil && ctx.Err() == nil {
				p.config.Log.Warn("cannot look for copies of lists that are over", "in", m.String(), "error", err)
			}
			looked = now
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-time.After(tick):
		}
	}
}

// findCopies adds the lists that are in a mirror to those that were copied there by this process: whoever copied them may have ended
// before they were over.
func findCopies(ctx context.Context, m Mirror, done map[List]uint64) error {
	ctx, cancel := context.WithTimeout(ctx, mirrorTimeout)
	defer cancel()
	names, err := m.Names(ctx)
	for _, name := range names {
		list, err := ParseList(strings.TrimPrefix(name, "crl/"))
		if _, known := done[list]; err == nil && !known {
			done[list] = 0
		}
	}
	return err
}

// copyTo brings a mirror up to date. It goes on after a failure and returns all of them. copied, guarded by p.mu, is told how
// far each copy is.
func (p *Publisher) copyTo(ctx context.Context, m Mirror, done, copied map[List]uint64) error {
	var waiting, over []List // what they are is seen when their turn comes: during an outage that is long after
	p.mu.RLock()
	for _, b := range p.issuers {
		for list, l := range b.lists {
			if done[list] < l.head.Number {
				waiting = append(waiting, list)
			}
		}
	}
	for list := range done {
		if p.over(list) {
			over = append(over, list)
		}
	}
	p.mu.RUnlock()
	var failed []error
	attempt := func(do func(ctx context.Context) error) bool {
		ctx, cancel := context.WithTimeout(ctx, mirrorTimeout)
		defer cancel()
		err := do(ctx)
		if err != nil {
			failed = append(failed, err)
		}
		return err == nil
	}
	for _, list := range waiting {
		document, head, ok := p.Document(list)
		if ok && attempt(func(ctx context.Context) error { return m.Put(ctx, "crl/"+list.String(), document, head) }) {
			done[list] = head.Number
			p.mu.Lock()
			copied[list] = head.Seq
			p.mu.Unlock()
		}
	}
	for _, list := range over[:min(len(over), removals)] {
		ctx, cancel := context.WithTimeout(ctx, mirrorTimeout)
		if err := m.Remove(ctx, "crl/"+list.String()); err != nil && ctx.Err() == nil { // no copy waits for that; it is found again
			p.config.Log.Warn("cannot remove the copy of a list that is over", "list", list.String(), "in", m.String(), "error", err)
		}
		cancel()
		delete(done, list)
		p.mu.Lock()
		delete(copied, list)
		p.mu.Unlock()
	}
	return errors.Join(failed...)
}

// over reports whether nobody needs a list any more: the week of its shard has passed, its last list has ended, and it is forgotten. Of
// an issuer that is not configured here nothing is known. Complete lists are never over. p.mu is held.
func (p *Publisher) over(list List) bool {
	b, known := p.issuers[list.Issuer]
	earliest, _ := p.config.Span() // no clock that is ahead removes what clients fetch
	if !known || b.issuer.Key == (pki.KeyHash{}) || !list.Sharded || !b.passed(list.Shard.Epoch, earliest.Add(-p.config.Validity)) {
		return false
	}
	_, served := b.lists[list]
	_, waiting := b.waiting[list]
	return !served && !waiting && b.anew[list] == 0
}

// directory is a mirror in the file system.
type directory struct {
	path string

	mu    sync.Mutex             // one copy at a time: the lock below is the process's
	wrote map[string]writtenFile // guarded by mu
}

// writtenFile is a file as this instance left it: while it is still that, its number need not be read from it.
type writtenFile struct {
	info   fs.FileInfo
	number uint64
}

// Directory returns a mirror that writes files below a folder. Several instances may write to one folder, if its file
// system has locks: none replaces a list by an older one.
func Directory(path string) Mirror {
	return &directory{path: path, wrote: make(map[string]writtenFile)}
}

func (d *directory) String() string { return d.path }

// lockName is the file below the folder that instances lock against each other.
const lockName = ".signet.lock"

// Put replaces a file at once: a reader, or a crash at any point, finds the old one or the new one.
func (d *directory) Put(ctx context.Context, name string, document crl.Document, head Head) error {
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
	newer, err := d.hasNumber(path, head.Number)
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
	d.wrote[path] = writtenFile{info, head.Number}
	return nil
}

// hasNumber reports whether a file is a list with this number or a larger one. What is no list is replaced.
func (d *directory) hasNumber(path string, number uint64) (bool, error) {
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

// replace writes a file and gives it its name durably.
func replace(path string, document crl.Document) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".signet-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once it was renamed
	_, err = io.Copy(f, document.Reader())
	if err := errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	folder, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// Names lists files.
func (d *directory) Names(ctx context.Context) (names []string, err error) {
	err = fs.WalkDir(os.DirFS(d.path), "crl", func(name string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) { // nothing was copied yet, or this was removed just now
			return nil
		}
		if err == nil && entry.Type().IsRegular() {
			names = append(names, name)
		}
		return errors.Join(err, ctx.Err())
	})
	return names, err
}

// Remove removes a file.
func (d *directory) Remove(_ context.Context, name string) error {
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
