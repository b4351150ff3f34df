// Package pkcs11 keeps keys in a hardware security module, or in anything else that speaks PKCS #11. The key never
// leaves the token. The serial secret of the issuer is kept in a file, sealed under the passphrase, because no token
// could compute with it at the rate of issuing.
//
// The URI of a key is that of RFC 7512, such as "pkcs11:token=ca;object=root-1". The module and the PIN are
// configuration, because a PIN in a URI would end up in logs and in the database. A build without cgo has no PKCS #11:
// New fails.
package pkcs11

import (
	"bytes"
	"net/url"
	"strings"
	"sync"

	"signet.example/signet/pki"
)

// Config says which token to use.
type Config struct {
	Module      string // path of the vendor's library; required
	Token       string // label of the token; required
	PIN         *PIN   // of the user; required
	MaxSessions int    // concurrent signatures; zero: 8; at least 2
	SecretsDir  string // where serial secrets are kept; required, accessible to its owner only
	Passphrase  []byte // seals the serial secrets; at least 8 octets
}

func (c Config) check() error {
	const op = "open token"
	for _, required := range []struct {
		empty bool
		field string
	}{
		{c.Module == "", "module"}, {c.Token == "", "token"}, {c.PIN == nil, "pin"}, {c.SecretsDir == "", "secrets_dir"},
		{len(c.Passphrase) < 8, "passphrase"},
	} {
		if required.empty {
			return pki.Errorf(pki.KindInvalid, op, "is required").InField(required.field)
		}
	}
	if c.MaxSessions < 0 || c.MaxSessions == 1 {
		return pki.Errorf(pki.KindInvalid, op, "want at least 2").InField("max_sessions")
	}
	return nil
}

// PIN reads the PIN of a token at each login, so that a corrected PIN takes effect without a restart. A PIN that the
// token refused is not tried again, because the token would lock itself. It is safe for concurrent use, by stores of
// one token.
type PIN struct {
	read func() ([]byte, error)

	mu      sync.Mutex // guards the rest
	refused []byte     // the last PIN that was refused; nil: none
	why     error      // the error about it
}

// NewPIN makes a PIN. read returns the present PIN; it must be safe for concurrent use.
func NewPIN(read func() ([]byte, error)) *PIN { return &PIN{read: read} }

// get returns the PIN to log in with, or an error of KindUnavailable.
func (p *PIN) get() ([]byte, error) {
	pin, err := p.read()
	if err != nil {
		return nil, pki.Errorf(pki.KindUnavailable, "open token", "read its PIN: %w", err).InField("pin")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refused != nil && bytes.Equal(pin, p.refused) {
		return nil, p.why
	}
	return pin, nil
}

// refuse remembers a PIN that the token refused, and returns the error about it.
func (p *PIN) refuse(pin []byte, cause error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refused = pin
	p.why = pki.Errorf(pki.KindUnavailable, "open token", "it refuses the PIN, which is not tried again: %w", cause).InField("pin").
		WithHint("put the right PIN into the PIN file: it is read again automatically. If the file was right and you have set the token to its PIN, restart signet")
	return p.why
}

// URI returns the URI of an object of the token.
func (c Config) URI(name string) string { return uriOf(c.Token, name) }

// uriOf returns the URI of an object. It percent-encodes every character that is not unreserved (RFC 7512, Section
// 2.3).
func uriOf(token, object string) string {
	return "pkcs11:token=" + escape(token) + ";object=" + escape(object)
}

func escape(text string) string { return strings.ReplaceAll(url.QueryEscape(text), "+", "%20") }

// parseURI reads the attributes token and object of a URI, and allows type=private. It refuses the other attributes of
// RFC 7512, which would only narrow the search further, rather than ignore them.
func parseURI(uri string) (token, object string, err error) {
	const op = "open key"
	bad := func(format string, args ...any) (string, string, error) {
		return "", "", pki.Errorf(pki.KindInvalid, op, format, args...).InField("key")
	}
	rest, ok := strings.CutPrefix(uri, "pkcs11:")
	if !ok {
		return bad("not a PKCS #11 URI")
	}
	path, query, _ := strings.Cut(rest, "?")
	if strings.Contains(query, "pin-value") {
		return bad("a PIN does not belong in a URI")
	}
	if query != "" {
		return bad("module and PIN are configuration, not part of the URI")
	}
	for attribute := range strings.SplitSeq(path, ";") {
		name, value, _ := strings.Cut(attribute, "=")
		value, err := url.PathUnescape(value)
		if err != nil {
			return bad("attribute %.32q cannot be read", name)
		}
		switch {
		case name == "token" && token == "":
			token = value
		case name == "object" && object == "":
			object = value
		case name == "type" && value == "private":
		default:
			return bad("attribute %.32q is not understood: write pkcs11:token=...;object=...", name)
		}
	}
	if token == "" || object == "" {
		return bad("want the attributes token and object")
	}
	return token, object, nil
}
