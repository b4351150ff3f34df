package settings_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"signet.example/signet/internal/settings"
	"signet.example/signet/pki"
)

// A configuration that lies about in a shared directory sends no credential anywhere, unless it is named.
func TestFound(t *testing.T) {
	for what, test := range map[string]struct {
		directory, file fs.FileMode
		owner           int // of the file; 0: this user
		ok              bool
	}{
		"own":                              {0o755, 0o644, 0, true},
		"for a group":                      {0o775, 0o664, 0, true},
		"in a directory like /tmp":         {0o777 | fs.ModeSticky, 0o600, 0, true},
		"in a directory of all":            {0o777, 0o600, 0, false},
		"all may write to it":              {0o755, 0o666, 0, false},
		"all may write to a sticky one":    {0o755, 0o666 | fs.ModeSticky, 0, false},
		"another's":                        {0o755, 0o644, 4711, false},
		"another's, in one that is sticky": {0o777 | fs.ModeSticky, 0o644, 4711, false},
	} {
		t.Run(what, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "here")
			path := filepath.Join(dir, "signet.yaml")
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			if _, err := settings.Found(path, env()); pki.KindOf(err) != pki.KindNotFound {
				t.Errorf("nothing is there: %v", err)
			}
			if err := os.WriteFile(path, []byte("public_url: http://pki.example\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			for name, mode := range map[string]fs.FileMode{path: test.file, dir: test.directory} {
				if err := os.Chmod(name, mode); err != nil {
					t.Fatal(err)
				}
			}
			if test.owner != 0 {
				if os.Getuid() != 0 {
					return // only root gives files away
				}
				if err := os.Chown(path, test.owner, -1); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := settings.Found(path, env()); (err == nil) != test.ok {
				t.Errorf("found: %v", err)
			}
			if _, err := settings.Load(path, env()); err != nil {
				t.Errorf("named: %v", err)
			}
		})
	}
}

// A link is as good as whoever made it and what it points to.
func TestFoundLinks(t *testing.T) {
	if os.Getuid() != 0 {
		return // only root gives files away
	}
	for what, test := range map[string]struct {
		link, file int // owners
		ok         bool
	}{"own": {0, 0, true}, "another's": {4711, 0, false}, "to another's": {0, 4711, false}} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			path, file := filepath.Join(dir, "signet.yaml"), filepath.Join(dir, "elsewhere.yaml")
			if err := errors.Join(os.WriteFile(file, []byte("public_url: http://pki.example\n"), 0o600), os.Symlink(file, path), os.Lchown(path, test.link, -1), os.Chown(file, test.file, -1)); err != nil {
				t.Fatal(err)
			}
			if _, err := settings.Found(path, env()); (err == nil) != test.ok {
				t.Errorf("found: %v", err)
			}
		})
	}
}
