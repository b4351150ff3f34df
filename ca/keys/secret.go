package keys

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"

	"signet.example/signet/pki"
)

// workFactor is log2 of scrypt's N: 16,384, as for the key files of softkey.
const workFactor = 14

// NewSecret draws a serial secret and seals it under a passphrase, for a store to keep beside the key it belongs to.
func NewSecret(passphrase []byte) (pki.SerialSecret, []byte, error) {
	var secret pki.SerialSecret
	if _, err := rand.Read(secret[:]); err != nil {
		return secret, nil, fmt.Errorf("draw serial secret: %w", err)
	}
	sealed, err := SealSecret(secret, passphrase)
	return secret, sealed, err
}

// SealSecret seals a serial secret under a passphrase.
func SealSecret(secret pki.SerialSecret, passphrase []byte) ([]byte, error) {
	recipient, err := age.NewScryptRecipient(string(passphrase))
	if err != nil {
		return nil, fmt.Errorf("seal serial secret: %w", err)
	}
	recipient.SetWorkFactor(workFactor)
	var sealed bytes.Buffer
	w, err := age.Encrypt(&sealed, recipient)
	if err != nil {
		return nil, fmt.Errorf("seal serial secret: %w", err)
	}
	if _, err := w.Write(secret[:]); err != nil {
		return nil, fmt.Errorf("seal serial secret: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("seal serial secret: %w", err)
	}
	return sealed.Bytes(), nil
}

// ErrPassphrase is the error of OpenSecret if another passphrase sealed the secret.
var ErrPassphrase = errors.New("the passphrase does not open it")

// OpenSecret opens a secret that SealSecret sealed. If the passphrase is another, the error is ErrPassphrase.
func OpenSecret(sealed, passphrase []byte) (pki.SerialSecret, error) {
	var secret pki.SerialSecret
	identity, err := age.NewScryptIdentity(string(passphrase))
	if err != nil {
		return secret, fmt.Errorf("open serial secret: %w", err)
	}
	identity.SetMaxWorkFactor(workFactor + 4)
	r, err := age.Decrypt(bytes.NewReader(sealed), identity)
	if errors.Is(err, age.ErrIncorrectIdentity) {
		return secret, ErrPassphrase
	}
	if err != nil {
		return secret, fmt.Errorf("open serial secret: %w", err)
	}
	plain, err := io.ReadAll(io.LimitReader(r, int64(len(secret))+1))
	if err != nil {
		return secret, fmt.Errorf("open serial secret: %w", err)
	}
	if len(plain) != len(secret) {
		return secret, fmt.Errorf("open serial secret: %d octets, want %d", len(plain), len(secret))
	}
	copy(secret[:], plain)
	return secret, nil
}
