package crlserver

import (
	"errors"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"

	"signet.example/signet/crl"
)

// fileAll writes the lists that the directory has not yet. A failure is logged and tried again a second later.
func (p *Publisher) fileAll() {
	if p.config.Directory == "" {
		return
	}
	type file struct {
		head     Head
		document crl.Document
	}
	var files []file
	p.mu.RLock()
	for _, b := range p.issuers {
		for _, served := range b.lists {
			if served.filed < served.head.Number {
				files = append(files, file{served.head, served.document})
			}
		}
	}
	p.mu.RUnlock()
	for _, f := range files {
		if err := writeFile(p.path(f.head.List), f.document.Reader()); err != nil {
			p.config.Log.Error("cannot write a list to the directory", "list", f.head.List.String(), "error", err)
			continue
		}
		p.mu.Lock()
		if served, ok := p.books(f.head.List.Issuer).lists[f.head.List]; ok {
			served.filed = max(served.filed, f.head.Number)
		}
		p.mu.Unlock()
	}
}

// path is where a list is in the directory: as in its URL.
func (p *Publisher) path(list List) string {
	return filepath.Join(p.config.Directory, "crl", filepath.FromSlash(list.String()))
}

// writeFile replaces a file at once: a reader, or a crash at any point, finds the old one or the new one.
func writeFile(path string, content io.Reader) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".signet-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once it was renamed
	_, err = io.Copy(f, content)
	err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// removeFiles removes lists that are gone.
func (p *Publisher) removeFiles(gone iter.Seq[Head]) {
	if p.config.Directory == "" {
		return
	}
	for h := range gone {
		if err := os.Remove(p.path(h.List)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			p.config.Log.Error("cannot remove a list from the directory", "list", h.List.String(), "error", err)
		}
	}
}
