package installation

import (
	"errors"
	"io/fs"
	"os"
)

// undo removes what a failed command made, and nothing that was there before.
type undo struct {
	files   []string
	folders []string
}

// willMake remembers files that are not there yet.
func (u *undo) willMake(files ...string) {
	for _, file := range files {
		if _, err := os.Lstat(file); errors.Is(err, fs.ErrNotExist) {
			u.files = append(u.files, file)
		}
	}
}

// willFill remembers a directory that was made by this command, whole.
func (u *undo) willFill(folder string) { u.folders = append(u.folders, folder) }

func (u *undo) run() error {
	var failed error
	for _, file := range u.files {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			failed = errors.Join(failed, err)
		}
	}
	for _, folder := range u.folders {
		failed = errors.Join(failed, os.RemoveAll(folder))
	}
	return failed
}
