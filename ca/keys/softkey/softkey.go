// Package softkey keeps keys in files. A file holds one key in PKCS #8, encrypted with AES-256 under a passphrase
// stretched by scrypt, which openssl reads. It is followed by the serial secret of the issuer, sealed under the same
// passphrase. So a copy of the file is a backup of both.
//
// The URI of a key is "softkey:" and its name. The directory is configuration, so a restored directory works wherever
// it is put.
package softkey

import (
	"context"
	"crypto"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/youmark/pkcs8"

	"signet.example/signet/ca/keys"
	"signet.example/signet/internal/durable"
	"signet.example/signet/pki"
)

const (
	scheme     = "softkey:"
	extension  = ".key"
	keyType    = "ENCRYPTED PRIVATE KEY"
	secretType = "SIGNET SERIAL SECRET"
	maxFile    = 64 << 10
)

// protection is scrypt with N = 16,384 (OpenSSL 3.0 refuses more memory than that takes) and AES-256-CBC.
var protection = pkcs8.Opts{
	Cipher:  pkcs8.AES256CBC,
	KDFOpts: pkcs8.ScryptOpts{SaltSize: 16, CostParameter: 16384, BlockSize: 8, ParallelizationParameter: 1},
}

// Config says where keys are and what opens them.
type Config struct {
	Dir        string // must exist; accessible to its owner only
	Passphrase []byte // required; at least 8 octets
}

// Store keeps keys in one directory.
type Store struct{ config Config }

// New opens a directory of keys.
func New(config Config) (*Store, error) {
	const op = "open key directory"
	if len(config.Passphrase) < 8 {
		return nil, pki.Errorf(pki.KindInvalid, op, "want a passphrase of at least 8 octets").InField("passphrase").
			WithHint("existing keys cannot have this passphrase; for new ones choose a longer one")
	}
	info, err := os.Stat(config.Dir)
	if err != nil {
		return nil, (&pki.Error{Kind: pki.KindFailedPrecondition, Op: op, Field: "keys.dir", Err: err}).
			WithHint("restore the keys from a backup, or correct the configuration")
	}
	if !info.IsDir() || info.Mode().Perm()&0o077 != 0 {
		return nil, pki.Errorf(pki.KindFailedPrecondition, op, "%s must be a directory that only its owner can enter", config.Dir).
			InField("keys.dir").WithHint("chmod 700 %s", config.Dir)
	}
	return &Store{config}, nil
}

// Create makes a key file. The file appears whole or not at all, and never replaces another.
func (s *Store) Create(ctx context.Context, name string, algorithm keys.Algorithm) (*keys.Key, error) {
	const op = "create key"
	if err := keys.CheckName(op, name); err != nil {
		return nil, err
	}
	signer, err := keys.Generate(algorithm)
	if err != nil {
		if e, ok := errors.AsType[*pki.Error](err); ok {
			return nil, e.InField("algorithm")
		}
		return nil, &pki.Error{Kind: pki.KindInvalid, Op: op, Field: "algorithm", Err: err}
	}
	return s.keep(op, name, signer)
}

// Import keeps a key that was made elsewhere, such as the key of a CA to be adopted, with a new serial secret.
func (s *Store) Import(ctx context.Context, name string, signer crypto.Signer) (*keys.Key, error) {
	const op = "import key"
	if err := keys.CheckName(op, name); err != nil {
		return nil, err
	}
	if keys.AlgorithmOf(signer.Public()) == keys.NoAlgorithm {
		return nil, pki.Errorf(pki.KindInvalid, op,
			"a CA's key is ECDSA on P-256, P-384 or P-521, RSA of 2048, 3072 or 4096 bits, Ed25519, or ML-DSA where signet is built with Go 1.27").
			InField("key")
	}
	return s.keep(op, name, signer)
}

// keep writes a key and a new secret.
func (s *Store) keep(op, name string, signer crypto.Signer) (*keys.Key, error) {
	sealedKey, err := pkcs8.MarshalPrivateKey(signer, s.config.Passphrase, &protection)
	if err != nil {
		return nil, pki.Errorf(pki.KindInternal, op, "encrypt: %w", err)
	}
	secret, sealedSecret, err := keys.NewSecret(s.config.Passphrase)
	if err != nil {
		return nil, &pki.Error{Kind: pki.KindInternal, Op: op, Err: err}
	}
	text := append(pem.EncodeToMemory(&pem.Block{Type: keyType, Bytes: sealedKey}),
		pem.EncodeToMemory(&pem.Block{Type: secretType, Bytes: sealedSecret})...)
	switch err := durable.WriteNew(s.path(name), text, 0o600); {
	case pki.KindOf(err) == pki.KindConflict:
		return nil, pki.Errorf(pki.KindConflict, op, "a key named %s exists already", name).InField("name").
			WithHint("choose another name: keys are never overwritten")
	case err != nil:
		return nil, pki.Errorf(pki.KindInternal, op, "write: %w", err)
	}
	return &keys.Key{Signer: signer, URI: scheme + name, Secret: secret}, nil
}

// Rename gives a key another name, durably. It never replaces another key. A rename that was interrupted may leave
// both names; it can be repeated.
func (s *Store) Rename(name, other string) error {
	const op = "rename key"
	if err := errors.Join(keys.CheckName(op, name), keys.CheckName(op, other)); err != nil {
		return err
	}
	if err := durable.Rename(s.path(name), s.path(other)); err != nil {
		return pki.Errorf(pki.KindInternal, op, "%w", err)
	}
	return nil
}

// URI returns "softkey:" and the name.
func (s *Store) URI(name string) string { return scheme + name }

// Open decrypts a key file. Errors are of KindNotFound if there is none, of KindInvalid for the URI, and of
// KindFailedPrecondition if the file cannot be used.
func (s *Store) Open(ctx context.Context, uri string) (*keys.Key, error) {
	const op = "open key"
	name, ok := strings.CutPrefix(uri, scheme)
	if !ok {
		return nil, pki.Errorf(pki.KindInvalid, op, "%.100q is not a softkey URI", uri).InField("key")
	}
	if err := keys.CheckName(op, name); err != nil {
		return nil, err
	}
	key, err := s.read(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, pki.Errorf(pki.KindNotFound, op, "there is no key named %s in %s", name, s.config.Dir).InField("key")
	case errors.Is(err, errUnknownKind):
		e := pki.Errorf(pki.KindFailedPrecondition, op, "%s: %w", s.path(name), err).InField("key")
		if missing := pki.MLDSA44.Supported(); missing != nil {
			return nil, e.WithHint("if it is a key of ML-DSA, open it with a signet that is built with Go 1.27")
		}
		return nil, e.WithHint("was the file made by a newer signet, or damaged? restore it from a backup")
	case err != nil:
		e := pki.Errorf(pki.KindFailedPrecondition, op, "%s: %w", s.path(name), err).InField("key")
		switch {
		case errors.Is(err, keys.ErrPassphrase):
			return nil, e.WithHint("is this the passphrase that the key was made with?")
		case errors.Is(err, errReadable):
			return nil, e.WithHint("chmod 600 %s, and consider whether somebody has read it", s.path(name))
		case errors.Is(err, fs.ErrPermission):
			return nil, e.WithHint("check the owner of the file")
		}
		return nil, e.WithHint("restore it from a backup")
	}
	key.URI = uri
	return key, nil
}

// Decrypt reads an encrypted PKCS #8 key in DER, with any cipher and key derivation, such as one to be given to
// Import.
func Decrypt(der, passphrase []byte) (crypto.Signer, error) {
	private, _, err := pkcs8.ParsePrivateKey(der, passphrase)
	if err != nil {
		return nil, fmt.Errorf("it does not open: %w", err)
	}
	signer, ok := private.(crypto.Signer)
	if !ok {
		return nil, errors.New("it is not a signing key")
	}
	return signer, nil
}

// errUnknownKind is the error about a key that the passphrase opens but this build cannot read.
var errUnknownKind = errors.New("the passphrase is right, but the key is of no kind that this build of signet reads")

// errReadable is the error about a key file whose mode lets others read it.
var errReadable = errors.New("others can read it")

func (s *Store) path(name string) string { return filepath.Join(s.config.Dir, name+extension) }

func (s *Store) read(name string) (*keys.Key, error) {
	info, err := os.Stat(s.path(name))
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, errReadable
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("%d octets are too many for a key", info.Size())
	}
	text, err := os.ReadFile(s.path(name))
	if err != nil {
		return nil, err
	}
	keyBlock, rest := pem.Decode(text)
	if keyBlock == nil || keyBlock.Type != keyType {
		return nil, fmt.Errorf("it does not begin with a PEM block %q", keyType)
	}
	secretBlock, _ := pem.Decode(rest)
	if secretBlock == nil || secretBlock.Type != secretType {
		return nil, fmt.Errorf("it has no PEM block %q", secretType)
	}
	secret, err := keys.OpenSecret(secretBlock.Bytes, s.config.Passphrase)
	if err != nil {
		return nil, err
	}
	private, _, err := pkcs8.ParsePrivateKey(keyBlock.Bytes, s.config.Passphrase)
	if err != nil { // the passphrase is right: it opened the secret
		return nil, errUnknownKind
	}
	signer, ok := private.(crypto.Signer)
	if !ok {
		return nil, errUnknownKind
	}
	return &keys.Key{Signer: signer, Secret: secret}, nil
}
