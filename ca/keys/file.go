package keys

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// WriteNew makes a file, readable by its owner only, that is durable and whole, or none. A link, unlike a rename, never
// replaces what is there: a name that is taken is an error of fs.ErrExist.
func WriteNew(path string, text []byte) error {
	dir := filepath.Dir(path)
	temporary, err := os.CreateTemp(dir, ".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(temporary.Name())
	if _, err = temporary.Write(text); err == nil {
		err = temporary.Sync()
	}
	if closeErr := temporary.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Link(temporary.Name(), path)
	}
	if err != nil {
		return err
	}
	return syncDir(dir)
}

// Rename gives a file another name in its directory, durably, and never replaces another file. A rename that was cut short between its two
// steps leaves both names; it can be made again.
func Rename(path, other string) error {
	err := os.Link(path, other)
	if errors.Is(err, fs.ErrExist) {
		err = checkSameFile(path, other)
	}
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func checkSameFile(path, other string) error {
	a, err := os.Lstat(path)
	if err != nil {
		return err
	}
	b, err := os.Lstat(other)
	if err != nil {
		return err
	}
	if !os.SameFile(a, b) {
		return fmt.Errorf("%s: %w", other, fs.ErrExist)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
