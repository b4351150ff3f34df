package installation

import (
	"errors"
	"io/fs"
	"os"
)

// undo removes what a failed command created, and nothing that existed before.
type undo struct {
	files   []string
	folders []string
}

// willMake records those of the files that do not exist yet.
func (u *undo) willMake(files ...string) {
	for _, file := range files {
		if _, err := os.Lstat(file); errors.Is(err, fs.ErrNotExist) {
			u.files = append(u.files, file)
		}
	}
}

// willFill records a directory that this command created; undo removes all of it.
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
