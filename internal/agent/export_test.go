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

// Complete finishes what was left unfinished.
func (f Files) Complete() (bool, error) { return f.complete(func() error { return nil }) }

// FirstKey is the key that a first certificate is asked for with.
func (f Files) FirstKey(algorithm keys.Algorithm, reuse bool) (crypto.Signer, error) {
	return f.firstKey(algorithm, reuse)
}

// Settle installs an answer to what was left unfinished.
func (f Files) Settle(chain []byte) error {
	p, err := f.unfinished()
	if err != nil {
		return err
	}
	_, err = f.settle(p, &client.Issued{PEM: chain}, nil, nil, func() error { return nil })
	return err
}

// Refuse is told that the server refuses what was left unfinished, and begins anew if a key is lost.
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

// BeginAnew puts a request for another key in the place of the one that was left unfinished.
func (f Files) BeginAnew() error { return f.beginAnew(keys.NoAlgorithm) }

// RequestID names the request of what was left unfinished.
func (f Files) RequestID(wish ...string) (string, error) {
	p, err := f.unfinished()
	if err != nil {
		return "", err
	}
	return p.requestID(wish...), nil
}

// Next is the key of what was left unfinished, or nil.
func (f Files) Next() (crypto.Signer, error) {
	p, err := f.unfinished()
	if p == nil || err != nil {
		return nil, err
	}
	return p.key, nil
}
