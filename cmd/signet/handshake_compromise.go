package main

import (
	"context"
	"crypto/tls"
	"errors"
	"os"
	"path/filepath"
	"time"

	"signet.example/signet/handshake"
	"signet.example/signet/handshake/wire/laboratory"
	"signet.example/signet/pki"
)

type handshakeCompromiseCmd struct {
	Name string `default:"bank.example" placeholder:"NAME" help:"Name of the server in the laboratory."`
}

func (handshakeCompromiseCmd) Help() string {
	return `Everything happens on this machine, with a certificate made for the occasion. A session of TLS 1.2 with RSA key transport is
recorded and decrypted with the leaked key; one of TLS 1.3 is recorded and is not. Then the key is used for what it is still good for, and
revoked. The exit status is 0 if everything came out as the books say, 1 if not.

Examples:
  signet handshake compromise
  signet handshake compromise --output json`
}

// Run performs the experiments.
func (c *handshakeCompromiseCmd) Run(a *app) error {
	report, err := c.experiment(a)
	if err != nil {
		return ownFault(pki.Errorf(pki.KindInternal, "compromise", "%w", err))
	}
	asTheBooksSay := *report == laboratory.Report{ClassicalFell: true, ModernHeld: true, Impersonated: true, RevocationHeld: true}
	if a.json {
		a.narrator("").object(struct {
			Result string `json:"result"`
			laboratory.Report
		}{map[bool]string{true: "as-expected", false: "unexpected"}[asTheBooksSay], *report})
	} else {
		a.printer().line("What to take home: prefer TLS 1.3, never offer TLS_RSA_* suites, revoke a leaked key at once, and check revocation.")
	}
	if !asTheBooksSay {
		return refusal("something did not come out as the books say")
	}
	return nil
}

func (c *handshakeCompromiseCmd) experiment(a *app) (*laboratory.Report, error) {
	authority, err := laboratory.NewAuthority(time.Now())
	if err != nil {
		return nil, err
	}
	server, err := authority.Server(c.Name)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "signet-laboratory-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	tell := a.narrator("")
	return laboratory.Run(a.ctx, laboratory.Config{
		Certificate: server, Roots: authority.Pool(),
		Tell: func(s laboratory.Step) {
			if tell.format == "json" {
				tell.object(s)
				return
			}
			tell.step(s.Step)
		},
		Refused: func(err error) bool {
			_, ok := errors.AsType[*handshake.RevokedError](err)
			return ok
		},
		// The client that checks is that of this library, with the CRL in a file.
		Revoke: func(_ context.Context, client *tls.Config) (*tls.Config, error) {
			list, err := authority.Revoke(server.Leaf)
			if err != nil {
				return nil, err
			}
			file := filepath.Join(dir, "authority.crl")
			if err := os.WriteFile(file, list, 0o600); err != nil {
				return nil, err
			}
			checker, err := handshake.New(handshake.Config{Policy: handshake.HardFail, Network: handshake.NetworkNever,
				Issuers: []handshake.Issuer{{Certificate: authority.Certificate, CRLs: []string{file}}}})
			if err != nil {
				return nil, err
			}
			return checker.WrapClient(client)
		},
	})
}
