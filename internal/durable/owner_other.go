//go:build !unix

package durable

import (
	"io/fs"
	"os"
)

// keepOwner does nothing: who has access is not a matter of owner and mode here.
func keepOwner(*os.File, fs.FileInfo) error { return nil }
