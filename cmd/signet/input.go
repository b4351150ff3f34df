package main

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"signet.example/signet/internal/durable"
	"signet.example/signet/pki"
)

// maxInput is the largest file or standard input that a command reads, in octets.
const maxInput = 64 << 20

// readInput reads a file of at most maxInput octets, or standard input for "-".
func (a *app) readInput(path string) ([]byte, error) {
	const op = "read input"
	in := a.in
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return nil, fileError(op, err)
		}
		defer file.Close()
		in = file
	}
	data, err := io.ReadAll(io.LimitReader(in, maxInput+1))
	if err != nil {
		return nil, fileError(op, err)
	}
	if len(data) > maxInput {
		return nil, pki.Errorf(pki.KindInvalid, op, "%s is longer than %d octets", path, maxInput)
	}
	return data, nil
}

// writeFile writes a file that may exist: a product, not a secret. A reader sees the old or the new file; a pipe or a
// device is written to.
func writeFile(path string, data []byte) error {
	write := durable.Replace
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		write = os.WriteFile
	}
	if err := write(path, data, 0o644); err != nil {
		return fileError("write file", err)
	}
	return nil
}

// fileError returns a file error with its kind.
func fileError(op string, err error) error {
	at, named := errors.AsType[*fs.PathError](err)
	switch {
	case !errors.Is(err, fs.ErrNotExist):
		return &pki.Error{Kind: pki.KindInvalid, Op: op, Err: err}
	case !named:
		return &pki.Error{Kind: pki.KindNotFound, Op: op, Err: err}
	}
	what := "file " + at.Path
	if _, err := os.Stat(filepath.Dir(at.Path)); err != nil {
		what = "directory " + filepath.Dir(at.Path)
	}
	return pki.Errorf(pki.KindNotFound, op, "there is no %s", what)
}
