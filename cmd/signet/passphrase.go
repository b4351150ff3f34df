package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"signet.example/signet/internal/settings"
	"signet.example/signet/pki"
)

// minPassphrase is the shortest passphrase for new keys, in octets.
const minPassphrase = 8

// passphrase returns the passphrase from the first source that has one, or asks at a terminal: twice for a new one.
func (a *app) passphrase(file string, isNew bool) ([]byte, error) {
	const op = "read passphrase"
	passphrase, ok, err := settings.PassphraseSource{File: file, Getenv: a.getenv}.Read()
	if err == nil && !ok {
		passphrase, err = a.askPassphrase(op, isNew)
	}
	if err != nil {
		return nil, err
	}
	if isNew {
		err = longEnough(passphrase)
	}
	return passphrase, err
}

// longEnough refuses a new passphrase that is easy to guess.
func longEnough(passphrase []byte) error {
	if len(passphrase) < minPassphrase {
		return pki.Errorf(pki.KindInvalid, "read passphrase", "the passphrase has fewer than %d octets", minPassphrase).
			WithHint("choose a longer one; `openssl rand -base64 24` makes one")
	}
	return nil
}

// askPassphrase asks for the passphrase of the keys.
func (a *app) askPassphrase(op string, isNew bool) ([]byte, error) {
	return a.askSecret(op, "passphrase", "Passphrase of the keys: ", isNew,
		"put it into a file and name it with --passphrase-file or SIGNET_PASSPHRASE_FILE, set SIGNET_PASSPHRASE, or give systemd's LoadCredential=signet-passphrase")
}

// askSecret asks at the terminal, without echo, and twice for a new secret. The hint says what to do without a
// terminal.
func (a *app) askSecret(op, what, prompt string, isNew bool, hint string) ([]byte, error) {
	terminal := a.terminal()
	if terminal == nil {
		return nil, pki.Errorf(pki.KindInvalid, op, "there is no %s, and no terminal to ask at", what).WithHint("%s", hint)
	}
	ask := func(prompt string) ([]byte, error) {
		fmt.Fprint(a.err, prompt)
		defer fmt.Fprintln(a.err)
		return a.readHidden(int(terminal.Fd()))
	}
	secret, err := ask(prompt)
	if err != nil {
		return nil, &pki.Error{Kind: pki.KindInvalid, Op: op, Err: err}
	}
	if isNew {
		again, err := ask("Once more: ")
		if err != nil {
			return nil, &pki.Error{Kind: pki.KindInvalid, Op: op, Err: err}
		}
		if !bytes.Equal(secret, again) {
			return nil, pki.Errorf(pki.KindInvalid, op, "the two differ").WithHint("type the same %s twice; nothing was made", what)
		}
	}
	if len(secret) == 0 {
		return nil, pki.Errorf(pki.KindInvalid, op, "the %s is empty", what)
	}
	return secret, nil
}

// readHidden reads a line without echo. An interrupt ends it and restores the echo; a second interrupt, which ends the
// process at once, would leave the terminal without.
func (a *app) readHidden(terminal int) ([]byte, error) {
	before, err := term.GetState(terminal)
	if err != nil {
		return nil, err
	}
	text, err := interruptible(a.ctx, func() ([]byte, error) { return term.ReadPassword(terminal) })
	if a.ctx.Err() != nil {
		return nil, errors.Join(a.ctx.Err(), term.Restore(terminal, before))
	}
	return text, err
}

// terminal returns the terminal for questions; nil if there is none.
func (a *app) terminal() *os.File { return terminalOf(a.in) }

// terminalOf returns the terminal of a stream; nil if it is none.
func terminalOf(stream any) *os.File {
	if file, ok := stream.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		return file
	}
	return nil
}

// ask asks a person. Without a terminal, or at the end of the input, the answer is empty.
func (a *app) ask(question string) (string, error) {
	terminal := a.terminal()
	if terminal == nil {
		return "", nil
	}
	fmt.Fprint(a.err, visible(question))
	answer, err := a.readLine(terminal)
	if err == io.EOF {
		return "", nil
	}
	return answer, err
}

// readLine reads a line from a terminal, without its end. An interrupt ends it: then the question is unanswered.
func (a *app) readLine(terminal *os.File) (string, error) {
	line, err := interruptible(a.ctx, func() (string, error) { return bufio.NewReader(terminal).ReadString('\n') })
	return strings.TrimSpace(line), err
}

// interruptible returns the result of read, or an error as soon as ctx ends. In that case read continues until the
// process ends.
func interruptible[T any](ctx context.Context, read func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := read()
		done <- result{value, err}
	}()
	select {
	case got := <-done:
		if ctx.Err() == nil {
			return got.value, got.err
		}
	case <-ctx.Done():
	}
	var none T
	return none, ctx.Err()
}
