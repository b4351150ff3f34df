//go:build !unix

package durable

import (
	"io/fs"
	"os"
)

// keepOwner does nothing: on this system, access does not depend on owner and mode.
func keepOwner(*os.File, fs.FileInfo) error { return nil }

// trusted returns true, for the same reason.
func trusted(fs.FileInfo) bool { return true }

// NoFollow is zero: there is no such flag.
const NoFollow = 0

// OpenOwn opens a file for reading.
func OpenOwn(path string) (*os.File, error) { return os.Open(path) }
