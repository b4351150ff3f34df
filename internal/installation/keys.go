package installation

import (
	"cmp"
	"errors"

	"signet.example/signet/ca/keys"
	"signet.example/signet/ca/keys/pkcs11"
	"signet.example/signet/ca/keys/softkey"
	"signet.example/signet/internal/settings"
	"signet.example/signet/pki"
)

// TokenOpener decides when and how often a token is opened, and may use the URI of a key in it before that.
type TokenOpener func(open func() (keys.Store, error), uri func(name string) string) (keys.Store, error)

// OpenKeys opens the stores of keys: files in a directory, and a token if one is configured. Relative paths are
// relative to the working directory. With a nil openToken the token is opened now, for callers that need it.
func OpenKeys(c settings.KeysConfig, dir string, passphrase []byte, openToken TokenOpener) (keys.Schemes, error) {
	soft, err := softkey.New(softkey.Config{Dir: dir, Passphrase: passphrase})
	if err != nil {
		return keys.Schemes{}, err
	}
	schemes := keys.Schemes{Default: c.Store, Stores: map[string]keys.Store{"softkey": soft}}
	if c.PKCS11.Module == "" {
		return schemes, nil
	}
	if _, err := c.PKCS11.PIN(); err != nil {
		return keys.Schemes{}, err
	}
	token := pkcs11.Config{
		Module: c.PKCS11.Module, Token: c.PKCS11.Token, PIN: pkcs11.NewPIN(c.PKCS11.PIN), SecretsDir: dir, Passphrase: passphrase,
		MaxSessions: 3 * cmp.Or(c.Places, 4), // a key that hangs keeps its places, and leaves sessions for the others
	}
	open := func() (keys.Store, error) { return pkcs11.New(token) }
	if openToken != nil {
		schemes.Stores["pkcs11"], err = openToken(open, token.URI)
		return schemes, err
	}
	schemes.Stores["pkcs11"], err = open()
	// A server reads the file again and continues; the user of a command has to correct it.
	if e, ok := errors.AsType[*pki.Error](err); ok && e.Field == "pin" {
		return schemes, pki.Errorf(pki.KindInvalid, e.Op, "%w", e.Err).InField("pin").
			WithHint("put the right PIN into the PIN file before you try again: a token locks itself after some wrong ones")
	}
	return schemes, err
}
