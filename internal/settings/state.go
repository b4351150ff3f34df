package settings

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"signet.example/signet/pki"
)

// State is the directory that holds what is not in the database. Everything secret in it is a file of mode 0600, and
// every private key is encrypted.
//
//	signet.yaml       configuration; the directory of this file is the state directory
//	root.pem          the roots that clients trust
//	admin.token       the first credential
//	issuing.csr       below an off-line root: what its ceremony has to sign
//	keys/             one encrypted file per key, with the issuer's K
//	signet.db         the database, if it is SQLite
//	api.pem           while the roots that clients trust do not verify the API's certificate: that certificate
//	highwater.json    how far the database had come, so that one that went back is noticed
type State struct{ Dir string }

// State returns the state directory of the configuration.
func (c *Config) State() State { return State{c.Dir} }

// Config is the path of the configuration file that init writes.
func (s State) Config() string { return filepath.Join(s.Dir, "signet.yaml") }

// Root is the path of the bundle of roots.
func (s State) Root() string { return filepath.Join(s.Dir, "root.pem") }

// AdminToken is the path of the first credential.
func (s State) AdminToken() string { return filepath.Join(s.Dir, "admin.token") }

// Request is the path of what a ceremony has to sign first.
func (s State) Request() string { return filepath.Join(s.Dir, "issuing.csr") }

// Keys is the directory of key files.
func (s State) Keys() string { return filepath.Join(s.Dir, "keys") }

// Key is the path of the key file with this name.
func (s State) Key(name string) string { return filepath.Join(s.Keys(), name+".key") }

// API is the path of a certificate of the API that only commands on this machine believe, because the API signed it itself or the roots
// that clients trust lack the one above it; the file is there while that is in use.
func (s State) API() string { return filepath.Join(s.Dir, "api.pem") }

// HighWater is the path of the memory of sequences.
func (s State) HighWater() string { return filepath.Join(s.Dir, "highwater.json") }

// Vacant refuses a directory in which something of a Signet is already.
func (s State) Vacant() error {
	const op = "create state directory"
	for _, path := range []string{s.Config(), s.Root(), s.AdminToken(), s.Keys(), filepath.Join(s.Dir, "signet.db")} {
		if _, err := os.Lstat(path); err == nil {
			return pki.Errorf(pki.KindConflict, op, "%s exists already", path).
				WithHint("choose another directory with --dir, or move this one away; nothing was changed")
		} else if !errors.Is(err, fs.ErrNotExist) {
			return pki.Errorf(pki.KindInvalid, op, "%w", err)
		}
	}
	return nil
}

// Create makes the directories, for the owner only, if the place is vacant.
func (s State) Create() error {
	const op = "create state directory"
	if err := s.Vacant(); err != nil {
		return err
	}
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return pki.Errorf(pki.KindInvalid, op, "%w", err)
	}
	// Of two at the same time one makes the directory of keys, and the other, when it fails later, removes nothing of it.
	err := os.Mkdir(s.Keys(), 0o700)
	if errors.Is(err, fs.ErrExist) {
		return pki.Errorf(pki.KindConflict, op, "%s is being made by somebody else", s.Keys()).WithHint("wait for it, or choose another directory with --dir; nothing was changed")
	}
	if err != nil {
		return pki.Errorf(pki.KindInvalid, op, "%w", err)
	}
	return nil
}
