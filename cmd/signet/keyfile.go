package main

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"

	"signet.example/signet/ca/keys"
	"signet.example/signet/internal/durable"
	"signet.example/signet/pki"
)

// keyFlags say which key a request is for.
type keyFlags struct {
	Key          string `placeholder:"FILE" help:"Use this private key (PEM) instead of making one."`
	KeyAlgorithm string `default:"ecdsa-p256" placeholder:"ALG" help:"Key to make: ecdsa-p256, ecdsa-p384, ecdsa-p521, rsa-2048, rsa-3072, rsa-4096, ed25519; built with Go 1.27 also ml-dsa-44, ml-dsa-65, ml-dsa-87."`
	CommonName   string `aliases:"cn" placeholder:"TEXT" help:"Common name to ask for (--cn for short); most profiles take names from subjectAltName only."`
}

// localKey is a private key on this machine. Only its public half and its signatures leave the machine.
type localKey struct {
	crypto.Signer
	path string
	made bool // by this command, so that it may remove the key again
}

// stem returns the path of the files without extension: the value given, the first name, or the common name. One of
// them has to exist.
func (f keyFlags) stem(op, out string, names []pki.Identifier) (string, error) {
	switch {
	case len(names) == 0 && f.CommonName == "":
		return "", pki.Errorf(pki.KindInvalid, op, "no name is given").
			WithHint("give names such as app.example, or --cn TEXT for a profile that takes a common name alone")
	case out != "":
		return out, nil
	case len(names) > 0:
		return fileStem(names[0]), nil
	}
	return fileStem(pki.Identifier{Value: f.CommonName}), nil
}

// open reads the key of the flags, or makes one and writes it to path, readable only by its owner.
func (f keyFlags) open(path string) (*localKey, error) {
	if f.Key != "" {
		signer, err := readKey(f.Key)
		if err != nil {
			return nil, err
		}
		return &localKey{signer, f.Key, false}, nil
	}
	algorithm, err := keys.ParseAlgorithm(f.KeyAlgorithm)
	if err != nil {
		return nil, (&pki.Error{Kind: pki.KindOf(err), Op: "make key", Err: err}).InField("--key-algorithm")
	}
	signer, err := keys.Generate(algorithm)
	if err != nil {
		return nil, pki.Errorf(pki.KindInternal, "make key", "%w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(signer)
	if err != nil {
		return nil, pki.Errorf(pki.KindInternal, "make key", "%w", err)
	}
	if err := durable.WriteNew(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		if e, ok := errors.AsType[*pki.Error](err); ok && e.Kind == pki.KindConflict {
			return nil, e.
				WithHint("to renew its certificate use `signet renew`; for another with the same key give --key %s; else choose other files with --out", path)
		}
		return nil, err
	}
	return &localKey{signer, path, true}, nil
}

// undo removes a key that this command made and that was not certified.
func (k *localKey) undo() error {
	if k == nil || !k.made {
		return nil
	}
	return os.Remove(k.path)
}

// request returns a PKCS #10 request for names, signed by the key.
func (k *localKey) request(commonName string, names []pki.Identifier) ([]byte, error) {
	const op = "make certificate request"
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: commonName}}
	for _, name := range names {
		switch name.Type {
		case pki.DNS:
			template.DNSNames = append(template.DNSNames, name.Value)
		case pki.IP:
			template.IPAddresses = append(template.IPAddresses, net.ParseIP(name.Value))
		case pki.Email:
			template.EmailAddresses = append(template.EmailAddresses, name.Value)
		case pki.URI:
			uri, err := url.Parse(name.Value)
			if err != nil {
				return nil, pki.Errorf(pki.KindInvalid, op, "%w", err)
			}
			template.URIs = append(template.URIs, uri)
		}
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, k.Signer)
	if err != nil {
		return nil, pki.Errorf(pki.KindInternal, op, "%w", err)
	}
	return der, nil
}

// parseNames parses the names on a command line. The error names the first mistake.
func parseNames(texts []string) ([]pki.Identifier, error) {
	var names []pki.Identifier
	for _, text := range texts {
		name, err := pki.ParseIdentifier(text)
		if err != nil {
			return nil, pki.Errorf(pki.KindInvalid, "read names", "%w", err).
				WithHint("write names as app.example, *.app.example, 192.0.2.7, jane@app.example or https://app.example/")
		}
		if slices.Contains(names, name) {
			return nil, pki.Errorf(pki.KindInvalid, "read names", "%.64q is %s, which is named already", text, name).
				WithHint("leave one of them out")
		}
		names = append(names, name)
	}
	return names, nil
}

// fileStem returns a file name for a name: "_wildcard.app.example" for "*.app.example".
func fileStem(name pki.Identifier) string {
	stem := strings.Replace(name.Value, "*", "_wildcard", 1)
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.ContainsRune("._-", r):
			return r
		}
		return '_'
	}, stem)
}

// readKey reads a private key in PEM: PKCS #8, or the older forms of RSA and EC.
func readKey(path string) (crypto.Signer, error) {
	const op = "read private key"
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fileError(op, err)
	}
	return keyIn(path, text, func(*pem.Block) (crypto.Signer, error) {
		return nil, pki.Errorf(pki.KindInvalid, op, "%s is encrypted", path).
			WithHint("decrypt it, or make the request with the tool that made the key and pass it with --csr")
	})
}

// keyIn finds the private key in the text of a file. decrypt is called for one encrypted as PKCS #8.
func keyIn(path string, text []byte, decrypt func(*pem.Block) (crypto.Signer, error)) (crypto.Signer, error) {
	const op = "read private key"
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Headers["DEK-Info"] != "" { // RFC 1421, Section 4.6.1.3
			return nil, pki.Errorf(pki.KindInvalid, op, "%s is encrypted in an obsolete way", path).
				WithHint("`openssl pkcs8 -topk8 -in FILE -out NEW` encrypts it as PKCS #8")
		}
		if block.Type == "ENCRYPTED PRIVATE KEY" {
			return decrypt(block)
		}
		if !keys.IsPrivate(block.Type) {
			continue
		}
		signer, err := keys.ParsePrivate(block.Bytes)
		if err != nil {
			// The cause may quote key material.
			return nil, pki.Errorf(pki.KindInvalid, op, "%s: the key does not parse", path)
		}
		return signer, nil
	}
	return nil, pki.Errorf(pki.KindInvalid, op, "%s holds no private key in PEM", path)
}
