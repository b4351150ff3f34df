package main

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"software.sslmate.com/src/go-pkcs12"

	"signet.example/signet/ca"
	"signet.example/signet/internal/durable"
	"signet.example/signet/pki"
)

type exportCmd struct {
	certificateRef
	Format       string `default:"" enum:",pem,der,pkcs7,pkcs12" placeholder:"FORMAT" help:"pem, der (the certificate alone), pkcs7 (in DER) or pkcs12 (default: by the extension of FILE, or pem)."`
	PKCS12       bool   `name:"pkcs12" help:"The same as --format pkcs12."`
	Legacy       bool   `help:"With pkcs12: 3DES and SHA-1, for programs that support nothing better."`
	Key          string `placeholder:"FILE" help:"The private key (PEM): pkcs12 needs it, pem puts it first, the others do not hold keys."`
	PasswordFile string `placeholder:"FILE" help:"With pkcs12: the password is the first line of this file (default: ask)."`
	Out          string `short:"o" required:"" placeholder:"FILE" help:"The file to write (- for standard output)."`
	Force        bool   `help:"Replace FILE if it is there already."`
	serverFlags
}

func (exportCmd) Help() string {
	return `The certificate comes first, then each authority's certificate after the one that it issued, without the root. A file is
exported with the chain that it contains, without asking the server; for a serial number the server gives the chain.

Examples:
  signet export app.example.pem --key app.example.key --out app.p12
  signet export 41aa... --out app.p7b
  signet export app.example.pem --legacy --key app.example.key --password-file pass --out old.p12`
}

// Run writes one certificate with its chain, and with its key if the format can hold one.
func (c *exportCmd) Run(a *app) error {
	if c.PKCS12 {
		c.Format = "pkcs12"
	}
	endings := map[string]string{".p12": "pkcs12", ".pfx": "pkcs12", ".p7b": "pkcs7", ".p7c": "pkcs7", ".der": "der"}
	c.Format = cmp.Or(c.Format, endings[strings.ToLower(filepath.Ext(c.Out))], "pem")
	if err := c.check(); err != nil {
		return err
	}
	chain, err := c.chain(a)
	if err != nil {
		return err
	}
	key, err := c.privateKey(chain[0])
	if err != nil {
		return err
	}
	data, err := c.encode(a, chain, key)
	if err != nil {
		return err
	}
	if c.Out == "-" {
		_, err := a.out.Write(data)
		return err
	}
	mode := fs.FileMode(0o644)
	if key != nil {
		mode = 0o600
	}
	if err := durable.Replace(c.Out, data, mode); err != nil {
		return fileError("export certificate", err)
	}
	if c.Format == "der" { // the format holds one certificate
		chain = chain[:1]
	}
	result := exportedFile{c.Out, c.Format, len(chain), key != nil}
	return a.show(result, func(p *printer) {
		with := "without a private key"
		if key != nil {
			with = "with its private key, readable by you only"
		}
		p.line("wrote %s: %s, %s, %s", c.Out, c.Format, counted(len(chain), "certificate"), with)
	})
}

// exportedFile is what `signet export --output json` prints.
type exportedFile struct {
	File         string `json:"file"`
	Format       string `json:"format"`
	Certificates int    `json:"certificates"`
	Key          bool   `json:"key"` // whether the file holds the private key
}

func (c *exportCmd) check() error {
	const op = "export certificate"
	holdsKey := c.Format == "pkcs12" || c.Format == "pem"
	switch {
	case c.Format == "pkcs12" && c.Key == "":
		return pki.Errorf(pki.KindInvalid, op, "pkcs12 holds a private key").InField("--key").
			WithHint("name the key with --key, or use --format pkcs7 for certificates alone")
	case c.Key != "" && !holdsKey:
		return pki.Errorf(pki.KindInvalid, op, "%s holds no private key", c.Format).InField("--key")
	case (c.Legacy || c.PasswordFile != "") && c.Format != "pkcs12":
		return pki.Errorf(pki.KindInvalid, op, "--legacy and --password-file belong to pkcs12")
	case c.Out == "-" || c.Force:
		return nil
	}
	if _, err := os.Lstat(c.Out); !errors.Is(err, fs.ErrNotExist) {
		return pki.Errorf(pki.KindConflict, op, "%s exists already and is not overwritten", c.Out).WithHint("add --force to replace it")
	}
	return nil
}

// chain returns the certificate and the CA certificates above it, nearest first, without the root.
func (c *exportCmd) chain(a *app) ([]*x509.Certificate, error) {
	if c.Certificate == "-" || !missing(c.Certificate) {
		found, err := a.readCertificates(c.Certificate)
		if err != nil {
			return nil, err
		}
		return chainOf(found), nil
	}
	api, err := a.connect(c.serverFlags)
	if err != nil {
		return nil, err
	}
	defer api.Close()
	found, err := c.find(a, api)
	if err != nil {
		return nil, err
	}
	got, err := api.Certificate(a.ctx, found.Issuer, found.Serial)
	if err != nil {
		return nil, err
	}
	chain, err := certificatesIn(c.Certificate, got.PEM)
	if err != nil {
		return nil, err
	}
	return chainOf(chain), nil
}

func missing(path string) bool {
	_, err := os.Stat(path)
	return errors.Is(err, fs.ErrNotExist)
}

// chainOf returns the first of some certificates and the certificates above it, in the order of issuance, whatever
// their order. It omits certificates outside that chain, and the root, which verifiers have.
func chainOf(all []*x509.Certificate) []*x509.Certificate {
	chain, left := all[:1:1], all[1:]
	for {
		above, rest := issuerAmong(left, chain[len(chain)-1])
		if above == nil || bytes.Equal(above.RawIssuer, above.RawSubject) {
			return chain
		}
		chain, left = append(chain, above), rest
	}
}

// issuerAmong removes the certificate that issued another from a list and returns it with the rest.
func issuerAmong(list []*x509.Certificate, issued *x509.Certificate) (above *x509.Certificate, rest []*x509.Certificate) {
	for i, candidate := range list {
		if bytes.Equal(candidate.RawSubject, issued.RawIssuer) && issued.CheckSignatureFrom(candidate) == nil {
			return candidate, append(list[:i:i], list[i+1:]...)
		}
	}
	return nil, list
}

// privateKey reads the key and refuses it if it belongs to another certificate.
func (c *exportCmd) privateKey(leaf *x509.Certificate) (crypto.Signer, error) {
	if c.Key == "" {
		return nil, nil
	}
	key, err := readKey(c.Key)
	if err != nil {
		return nil, err
	}
	if public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(leaf.PublicKey) {
		return nil, pki.Errorf(pki.KindInvalid, "export certificate", "%s is not the key of this certificate", c.Key).InField("--key")
	}
	return key, nil
}

func (c *exportCmd) encode(a *app, chain []*x509.Certificate, key crypto.Signer) ([]byte, error) {
	switch c.Format {
	case "der":
		return chain[0].Raw, nil
	case "pkcs7":
		var all []byte
		for _, certificate := range chain {
			all = append(all, certificate.Raw...)
		}
		return ca.CertsOnly(all), nil
	case "pkcs12":
		return c.encodePKCS12(a, chain, key)
	}
	var text []byte
	if key != nil {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return nil, pki.Errorf(pki.KindInternal, "export certificate", "encode key: %w", err)
		}
		text = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	}
	for _, certificate := range chain {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw})...)
	}
	return text, nil
}

// iterations is the work factor that makes guessing the password of a modern file expensive; Windows accepts at most
// 600,000.
const iterations = 100_000

func (c *exportCmd) encodePKCS12(a *app, chain []*x509.Certificate, key crypto.Signer) ([]byte, error) {
	const op = "export certificate"
	password, err := c.password(a)
	if err != nil {
		return nil, err
	}
	encoder := pkcs12.Modern2023.WithIterations(iterations)
	if c.Legacy {
		encoder = pkcs12.LegacyDES
	}
	data, err := encoder.Encode(key, chain[0], chain[1:], password)
	if err != nil {
		return nil, pki.Errorf(pki.KindInvalid, op, "%w", err)
	}
	return data, nil
}

// password reads the password. It is text: the format encodes it as UTF-16 (RFC 7292, Appendix B.1).
func (c *exportCmd) password(a *app) (string, error) {
	const op = "read password"
	var secret []byte
	if c.PasswordFile == "" {
		asked, err := a.askSecret(op, "password", "Password of the file: ", true, "name a file with the password: --password-file FILE")
		if err != nil {
			return "", err
		}
		secret = asked
	} else {
		data, err := a.readInput(c.PasswordFile)
		if err != nil {
			return "", err
		}
		line, _, _ := strings.Cut(string(data), "\n")
		secret = []byte(strings.TrimSuffix(line, "\r"))
	}
	if len(secret) == 0 || !utf8.Valid(secret) {
		return "", pki.Errorf(pki.KindInvalid, op, "the password is empty, or no text")
	}
	return string(secret), nil
}
