package crlserver

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"signet.example/signet/crl"
)

// Mirror is a place that lists are copied to, from where others serve them. Both methods may be called again after an
// error, and by several instances at once.
type Mirror interface {
	// Put stores a list under its name ("crl/{issuer}.crl"), unless the place has one with the same or a larger number.
	Put(ctx context.Context, name string, document crl.Document, head Head) error

	// Remove removes a list. It is no error if there is none.
	Remove(ctx context.Context, name string) error

	// String names the place, for the log.
	String() string
}

const (
	mirrorTimeout = time.Minute // of one copy
	mirrorRest    = time.Minute // longest pause after failures
)

// mirror copies lists to one place until ctx ends. What fails is tried again, less and less often; meanwhile newer lists
// take the place of those that waited.
func (p *Publisher) mirror(ctx context.Context, m Mirror) {
	done := make(map[List]uint64) // number of the copy
	for failures := 0; ; {
		p.mu.RLock()
		changed := p.changed
		p.mu.RUnlock()
		if err := p.copyTo(ctx, m, done); err != nil && ctx.Err() == nil {
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
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-time.After(tick):
		}
	}
}

// copyTo brings a mirror up to date. It goes on after a failure and returns all of them.
func (p *Publisher) copyTo(ctx context.Context, m Mirror, done map[List]uint64) error {
	type task struct {
		head     Head
		document crl.Document
	}
	var tasks []task
	served := make(map[List]bool)
	p.mu.RLock()
	for _, b := range p.issuers {
		for list, l := range b.lists {
			served[list] = true
			if done[list] < l.head.Number {
				tasks = append(tasks, task{l.head, l.document})
			}
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
	for _, t := range tasks {
		if attempt(func(ctx context.Context) error { return m.Put(ctx, "crl/"+t.head.List.String(), t.document, t.head) }) {
			done[t.head.List] = t.head.Number
		}
	}
	for list := range done {
		if !served[list] && attempt(func(ctx context.Context) error { return m.Remove(ctx, "crl/"+list.String()) }) {
			delete(done, list)
		}
	}
	return errors.Join(failed...)
}

// directory is a mirror in the file system.
type directory string

// Directory returns a mirror that writes files below a folder. It belongs to one instance.
func Directory(path string) Mirror { return directory(path) }

func (d directory) String() string { return string(d) }

// Put replaces a file at once: a reader, or a crash at any point, finds the old one or the new one.
func (d directory) Put(_ context.Context, name string, document crl.Document, _ Head) error {
	path := filepath.Join(string(d), filepath.FromSlash(name))
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
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

// Remove removes a file.
func (d directory) Remove(_ context.Context, name string) error {
	err := os.Remove(filepath.Join(string(d), filepath.FromSlash(name)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
