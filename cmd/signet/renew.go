package main

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"slices"
	"strings"

	"signet.example/signet/api/client"
	"signet.example/signet/ca/keys"
	"signet.example/signet/internal/agent"
	"signet.example/signet/pki"
)

type renewCmd struct {
	Certificate  string `arg:"" help:"The certificate file, in PEM."`
	Key          string `placeholder:"FILE" help:"Its private key (default: the same name with .key)."`
	KeyReuse     bool   `help:"Keep the key; otherwise a new one is made."`
	KeyAlgorithm string `placeholder:"ALG" help:"Key to make (default: one like the old)."`
	Server       string `placeholder:"HOST:PORT" help:"Address of the API (client.server)." group:"Server"`
	Root         string `placeholder:"FILE" help:"PEM bundle that the server's certificate must chain to (client.root)." group:"Server"`
}

func (renewCmd) Help() string {
	return `The same names, for a new key. The old certificate is the only proof that is needed, while it is valid and not revoked: it is
presented over TLS if it is for TLS clients, or else its key signs the request. Both files are replaced whole. An attempt
that was interrupted is gone on with, with the key that it began with: the same command gives the same certificate.

Examples:
  signet renew app.example.pem
  signet renew web.pem --key /etc/ssl/private/web.key
  signet renew app.example.pem --key-reuse`
}

// Run renews the certificate in its files.
func (c *renewCmd) Run(a *app) error {
	algorithm := keys.NoAlgorithm
	if c.KeyAlgorithm != "" {
		var err error
		if algorithm, err = keys.ParseAlgorithm(c.KeyAlgorithm); err != nil {
			return (&pki.Error{Kind: pki.KindOf(err), Op: "make key", Err: err}).InField("--key-algorithm")
		}
	}
	files := agent.Files{Certificate: c.Certificate, Key: c.Key}
	if files.Key == "" {
		files.Key = strings.TrimSuffix(c.Certificate, ".pem") + ".key"
	}
	api, overTLS, err := c.connect(a, files)
	if err != nil {
		return err
	}
	defer api.Close()
	before, _ := readKey(files.Key) // it may be gone, while an earlier attempt has the next one
	issued, err := files.Renew(a.ctx, api, overTLS, func(old crypto.Signer) (crypto.Signer, error) {
		if c.KeyReuse {
			return old, nil
		}
		return agent.Successor(old, algorithm)
	}, nil, func() error { return nil })
	if err != nil {
		return err
	}
	renewed, err := files.Read()
	if err != nil {
		return err
	}
	serial, err := pki.SerialFromBig(renewed.Leaf.SerialNumber)
	if err != nil {
		return err
	}
	// An earlier attempt is continued, whatever the flags say about the key.
	made := before == nil || pki.HashKeyMaterial(before.Public()) != pki.HashKeyMaterial(renewed.Leaf.PublicKey)
	result := renewResult{issued, serial.String(), files.Certificate, files.Key, made}
	return a.show(result, func(p *printer) {
		p.line("renewed %s", files.Certificate)
		key := files.Key + " (the same)"
		switch {
		case made:
			key = files.Key + " (new; readable by you only)"
		case !c.KeyReuse:
			key = files.Key + " (the same: an attempt that was begun with --key-reuse was completed)"
		}
		p.fields("serial", serial.String(), "valid", span(renewed.Leaf.NotBefore, renewed.Leaf.NotAfter), "key", key)
		p.next("reload whatever uses these files; `signet agent` does all of this by itself")
	})
}

// connect returns a client that presents the old certificate, if it is for TLS clients, and no other credential.
// Without a usable old pair there may be an interrupted renewal, which needs no credential.
func (c *renewCmd) connect(a *app, files agent.Files) (api *client.Client, overTLS bool, err error) {
	// With a client certificate no token is looked up.
	flags := serverFlags{Server: c.Server, Root: c.Root, Cert: files.Certificate}
	if err := flags.fill(a); err != nil {
		return nil, false, err
	}
	config := client.Config{Address: flags.Server}
	if config.Roots, err = flags.roots(); err != nil {
		return nil, false, (&pki.Error{Kind: pki.KindInvalid, Op: "reach the server", Err: err}).InField("root")
	}
	if old, err := files.Read(); err == nil && slices.Contains(old.Leaf.ExtKeyUsage, x509.ExtKeyUsageClientAuth) {
		config.Certificate, overTLS = &tls.Certificate{Certificate: old.DER, PrivateKey: old.Key, Leaf: old.Leaf}, true
	}
	api, err = client.New(config)
	return api, overTLS, err
}

// renewResult is what `signet renew --output json` prints.
type renewResult struct {
	// Issued is the response of POST /v1/certificates:renew; null: an earlier attempt was completed.
	Issued          *client.Issued `json:"issued"`
	Serial          string         `json:"serial"`
	CertificateFile string         `json:"certificate_file"`
	KeyFile         string         `json:"key_file"`
	KeyMade         bool           `json:"key_made"` // the key file has a new key
}
