package agent

import (
	"crypto"
	"errors"

	"signet.example/signet/api/client"
	"signet.example/signet/ca/keys"
)

// Install puts a certificate and its key into their files.
func (f Files) Install(key crypto.Signer, keyPEM, chain []byte) error {
	return f.install(&pending{key: key, keyPEM: keyPEM}, chain)
}

// Begin leaves a renewal for a key unfinished, as a crash does.
func (f Files) Begin(key crypto.Signer) error {
	_, err := f.begin(key, false)
	return err
}

// Complete finishes the unfinished renewal.
func (f Files) Complete() (bool, error) { return f.complete(func() error { return nil }) }

// FirstKey returns the key for a request that is not a renewal.
func (f Files) FirstKey(algorithm keys.Algorithm, reuse bool) (crypto.Signer, error) {
	return f.firstKey(algorithm, reuse)
}

// Settle installs an answer to the unfinished renewal.
func (f Files) Settle(chain []byte) error {
	p, err := f.unfinished()
	if err != nil {
		return err
	}
	_, err = f.settle(p, &client.Issued{PEM: chain}, nil, nil, func() error { return nil })
	return err
}

// Refuse settles the unfinished renewal with a refusal by the server, and begins one with another key if a key is lost.
func (f Files) Refuse(refusal error) error {
	p, err := f.unfinished()
	if err != nil {
		return err
	}
	if _, err = f.settle(p, nil, refusal, nil, nil); errors.Is(err, errLost) {
		return f.BeginAnew()
	}
	return nil
}

// BeginAnew replaces the unfinished renewal by one for another key.
func (f Files) BeginAnew() error { return f.beginAnew(keys.NoAlgorithm) }

// RequestID returns the id of the unfinished request.
func (f Files) RequestID(wish ...string) (string, error) {
	p, err := f.unfinished()
	if err != nil {
		return "", err
	}
	return p.requestID(wish...), nil
}

// Next returns the key of the unfinished renewal, or nil.
func (f Files) Next() (crypto.Signer, error) {
	p, err := f.unfinished()
	if p == nil || err != nil {
		return nil, err
	}
	return p.key, nil
}
