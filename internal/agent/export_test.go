package agent

import "crypto"

// Install puts a certificate and its key into their files.
func (f Files) Install(key crypto.Signer, keyPEM, chain []byte) error {
	return f.install(&pending{key: key, keyPEM: keyPEM}, chain)
}
