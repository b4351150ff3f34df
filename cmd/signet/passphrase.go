package main

import (
	"bytes"
	"fmt"
	"os"

	"golang.org/x/term"

	"signet.example/signet/internal/server"
	"signet.example/signet/pki"
)

// minPassphrase is the shortest passphrase that keys are made under, in octets.
const minPassphrase = 8

// passphrase reads the passphrase from the first source that has one, or asks at a terminal: twice for a new one.
func (a *app) passphrase(file string, isNew bool) ([]byte, error) {
	const op = "read passphrase"
	passphrase, ok, err := server.PassphraseSource{File: file, Getenv: a.getenv}.Read()
	if err == nil && !ok {
		passphrase, err = a.askPassphrase(op, isNew)
	}
	if err != nil {
		return nil, err
	}
	if isNew && len(passphrase) < minPassphrase {
		return nil, pki.Errorf(pki.KindInvalid, op, "the passphrase has fewer than %d octets", minPassphrase).WithHint("choose a longer one; `openssl rand -base64 24` makes one")
	}
	return passphrase, nil
}

// askPassphrase asks at the terminal, without echo.
func (a *app) askPassphrase(op string, isNew bool) ([]byte, error) {
	terminal, ok := a.in.(*os.File)
	if !ok || !term.IsTerminal(int(terminal.Fd())) {
		return nil, pki.Errorf(pki.KindInvalid, op, "there is no passphrase, and no terminal to ask at").
			WithHint("put it into a file and name it with --passphrase-file or SIGNET_PASSPHRASE_FILE, set SIGNET_PASSPHRASE, or give systemd's LoadCredential=signet-passphrase")
	}
	ask := func(prompt string) ([]byte, error) {
		fmt.Fprint(a.err, prompt)
		defer fmt.Fprintln(a.err)
		return term.ReadPassword(int(terminal.Fd()))
	}
	passphrase, err := ask("Passphrase of the keys: ")
	if err != nil {
		return nil, pki.Errorf(pki.KindInvalid, op, "%w", err)
	}
	if isNew {
		again, err := ask("Once more: ")
		if err != nil {
			return nil, pki.Errorf(pki.KindInvalid, op, "%w", err)
		}
		if !bytes.Equal(passphrase, again) {
			return nil, pki.Errorf(pki.KindInvalid, op, "the two passphrases differ").WithHint("type the same one twice; nothing was made")
		}
	}
	if len(passphrase) == 0 {
		return nil, pki.Errorf(pki.KindInvalid, op, "the passphrase is empty")
	}
	return passphrase, nil
}
