package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"signet.example/signet/pki"
)

// WriteNew writes a file that must not exist yet, durably and whole, or not at all. mode is exact, whatever the umask.
// If the name is in use, the error is of pki.KindConflict. On a file system without hard links a crash may leave an
// empty file.
func WriteNew(path string, data []byte, mode fs.FileMode) error {
	return writeNew(path, data, mode, os.Link)
}

func writeNew(path string, data []byte, mode fs.FileMode, link func(from, to string) error) error {
	f, err := temporaryFile(path, mode)
	if err != nil {
		failed := pki.Errorf(pki.KindInvalid, "write file", "%w", err)
		if errors.Is(err, fs.ErrNotExist) {
			return failed.WithHint("make the directory %s", filepath.Dir(path))
		}
		return failed
	}
	defer f.Abandon()
	if _, err := f.Write(data); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := f.Prepare(); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	err = link(f.file.Name(), path) // unlike a rename it never replaces a file
	if err != nil && !errors.Is(err, fs.ErrExist) {
		err = takeName(f.file.Name(), path)
	}
	if errors.Is(err, fs.ErrExist) {
		return pki.Errorf(pki.KindConflict, "write file", "%s exists already and is not overwritten", path).
			WithHint("choose another name, or move the file away")
	}
	if err != nil {
		return pki.Errorf(pki.KindInvalid, "write file", "%w", err)
	}
	return syncDirectory(filepath.Dir(path))
}

// takeName creates an empty file and replaces it, on file systems without hard links, such as that of a memory stick.
func takeName(from, to string) error {
	reserved, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	reserved.Close()
	if err := os.Rename(from, to); err != nil {
		return errors.Join(err, os.Remove(to))
	}
	return nil
}

// Rename renames a file within its directory, durably. It never replaces another file: the error is then fs.ErrExist.
// If it is interrupted between its two steps, both names remain, and it can be repeated. On a file system without hard
// links, an interruption leaves an empty file with the other name.
func Rename(path, other string) error { return rename(path, other, os.Link) }

func rename(path, other string, link func(from, to string) error) error {
	err := link(path, other)
	switch {
	case err == nil:
		err = os.Remove(path)
	case errors.Is(err, fs.ErrExist):
		if err = checkSameFile(path, other); err == nil {
			err = os.Remove(path)
		}
	default:
		err = takeName(path, other)
	}
	if err != nil {
		return err
	}
	return syncDirectory(filepath.Dir(path))
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
