package durable

import (
	"io/fs"
	"syscall"
)

// Followed is the path with those links followed that may be.
func Followed(path string, mayFollow func(link fs.FileInfo) bool) (string, error) {
	return followed(path, mayFollow, new(int))
}

// Trusted reports whether a link may be followed.
func Trusted(link fs.FileInfo) bool { return trusted(link) }

// WriteNewWithoutLinks is WriteNew on a file system that has no hard links.
func WriteNewWithoutLinks(path string, data []byte, mode fs.FileMode) error {
	return writeNew(path, data, mode, noLinks)
}

// RenameWithoutLinks is Rename on a file system that has no hard links.
func RenameWithoutLinks(path, other string) error { return rename(path, other, noLinks) }

func noLinks(_, _ string) error { return syscall.EPERM }
