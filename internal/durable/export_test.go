package durable

import "io/fs"

// Followed is the path with those links followed that may be.
func Followed(path string, mayFollow func(link fs.FileInfo) bool) (string, error) {
	return followed(path, mayFollow, new(int))
}

// Trusted reports whether a link may be followed.
func Trusted(link fs.FileInfo) bool { return trusted(link) }
