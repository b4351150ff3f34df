package agent

import "crypto"

// Install puts a certificate and its key into their files.
func (f Files) Install(key crypto.Signer, keyPEM, chain []byte) error {
	return f.install(&pending{key: key, keyPEM: keyPEM}, chain)
}

// Begin leaves a renewal for a key unfinished, as a crash does.
func (f Files) Begin(key crypto.Signer) error {
	_, err := f.begin(key)
	return err
}

// Complete finishes what was left unfinished.
func (f Files) Complete() (bool, error) { return f.complete(func() error { return nil }) }
