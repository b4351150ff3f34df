//go:build !unix

package durable

import (
	"io/fs"
	"os"
)

// keepOwner does nothing: who has access is not a matter of owner and mode here.
func keepOwner(*os.File, fs.FileInfo) error { return nil }

// trusted is true, for the same reason.
func trusted(fs.FileInfo) bool { return true }

// NoFollow is no flag: there is none.
const NoFollow = 0

// OpenOwn opens a file for reading.
func OpenOwn(path string) (*os.File, error) { return os.Open(path) }
