package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"signet.example/signet/pki"
)

// WriteNew writes a file that must not exist yet and makes it durable. mode is exact, whatever the umask.
func WriteNew(path string, data []byte, mode fs.FileMode) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrExist) {
		return pki.Errorf(pki.KindConflict, "write file", "%s exists already and is not overwritten", path).
			WithHint("choose another name, or move the file away")
	}
	if err != nil {
		return pki.Errorf(pki.KindInvalid, "write file", "%w", err)
	}
	defer func() {
		if closeErr := f.Close(); err == nil {
			err = closeErr
		}
		if err != nil {
			err = errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(path))
		}
	}()
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Sync()
}
