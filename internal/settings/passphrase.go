package settings

import (
	"bytes"
	"errors"
	"io/fs"
	"path/filepath"

	"signet.example/signet/pki"
)

// passphraseCredential is the name of the systemd credential: LoadCredential=signet-passphrase:...
const passphraseCredential = "signet-passphrase"

// PassphraseSource says where a passphrase may come from, besides a terminal.
type PassphraseSource struct {
	File   string              // from a flag or the configuration; empty: not given
	Getenv func(string) string // os.Getenv
}

// Read returns the passphrase of the first source that is there: the file, the file named by SIGNET_PASSPHRASE_FILE,
// SIGNET_PASSPHRASE, and the systemd credential signet-passphrase. ok is false if there is none, and then a person
// may be asked. One trailing line break is dropped. It never comes from the command line, which other users can see.
func (s PassphraseSource) Read() (passphrase []byte, ok bool, err error) {
	for _, path := range []string{s.File, s.Getenv("SIGNET_PASSPHRASE_FILE")} {
		if path != "" {
			passphrase, err := readSecret("passphrase", path)
			return passphrase, err == nil, err
		}
	}
	if text := s.Getenv("SIGNET_PASSPHRASE"); text != "" {
		return []byte(text), true, nil
	}
	if dir := s.Getenv("CREDENTIALS_DIRECTORY"); dir != "" {
		passphrase, err := readSecret("passphrase", filepath.Join(dir, passphraseCredential))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, false, nil
		}
		return passphrase, err == nil, err
	}
	return nil, false, nil
}

// PIN reads the user's PIN of the token. A relative path is relative to the working directory: see Config.KeyStores.
func (c PKCS11Config) PIN() ([]byte, error) { return readSecret("PIN", c.PINFile) }

// readSecret reads a file that has the passphrase or the PIN, whichever what says, on its only line.
func readSecret(what, path string) ([]byte, error) {
	op := "read " + what
	text, err := readBounded(path, 4096)
	if err != nil {
		return nil, pki.Errorf(pki.KindInvalid, op, "%w", err).WithHint("name a readable file with the %s on its only line", what)
	}
	text = bytes.TrimSuffix(bytes.TrimSuffix(text, []byte("\n")), []byte("\r"))
	if len(text) == 0 || bytes.ContainsAny(text, "\r\n\x00") {
		return nil, pki.Errorf(pki.KindInvalid, op, "%s: want one line that is not empty", path)
	}
	return text, nil
}
