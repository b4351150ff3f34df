package laboratory_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"signet.example/signet/handshake/wire"
	"signet.example/signet/handshake/wire/laboratory"
)

// TestRun is the laboratory as `signet handshake compromise` performs it, with a stand-in for the authority: what a
// client is that looks at revocation is package handshake's matter.
func TestRun(t *testing.T) {
	cert, pool := newServer(t)
	var out bytes.Buffer
	var names []string
	show := wire.Printer{W: &out}
	errRevoked := errors.New("revoked since a moment ago")
	report, err := laboratory.Run(t.Context(), laboratory.Config{
		Certificate: cert, Roots: pool,
		Tell: func(s laboratory.Step) {
			names = append(names, s.Name)
			if err := show.Step(s.Step); err != nil {
				t.Error(err)
			}
		},
		Revoke: func(_ context.Context, client *tls.Config) (*tls.Config, error) {
			client.VerifyConnection = func(tls.ConnectionState) error { return errRevoked }
			return client, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := (laboratory.Report{ClassicalFell: true, ModernHeld: true, Impersonated: true, RevocationHeld: true}); *report != want {
		t.Errorf("report %+v, want %+v", *report, want)
	}
	want := []string{"set-up", "record-rsa", "leak", "decrypt-rsa", "record-tls13", "attack-tls13", "impersonation", "revocation"}
	if !slices.Equal(names, want) {
		t.Errorf("steps %v, want %v", names, want)
	}
	for _, text := range []string{"only-the-bank-may-see-this", "1,234,567.89", "both Finished come out right", "X25519MLKEM768", errRevoked.Error()} {
		if !strings.Contains(out.String(), text) {
			t.Errorf("the account does not mention %q:\n%s", text, out.String())
		}
	}
}

func TestDecryptEverySuiteOfKeyTransport(t *testing.T) {
	cert, pool := newServer(t)
	for _, suite := range wire.ClassicalSuites() {
		t.Run(tls.CipherSuiteName(suite), func(t *testing.T) {
			r := record(t, cert, pool, func(cfg *tls.Config) { *cfg = *wire.Classical(cfg); cfg.CipherSuites = []uint16{suite} })
			p, err := laboratory.Decrypt(r, cert.PrivateKey.(*rsa.PrivateKey))
			if err != nil {
				t.Fatal(err)
			}
			if !p.Verified || p.Said[wire.Client].Text != "question" || p.Said[wire.Server].Text != "answer" {
				t.Errorf("decrypted %+v", p)
			}
		})
	}
}

func TestDecryptRefuses(t *testing.T) {
	cert, pool := newServer(t)
	key := cert.PrivateKey.(*rsa.PrivateKey)
	stranger, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	classical := record(t, cert, pool, func(cfg *tls.Config) { *cfg = *wire.Classical(cfg) })
	if _, err := laboratory.Decrypt(classical, stranger); !errors.Is(err, laboratory.ErrWrongKey) {
		t.Errorf("with another key: %v, want ErrWrongKey", err)
	}
	for name, change := range map[string]func(*tls.Config){
		"TLS 1.3":           func(cfg *tls.Config) { cfg.MinVersion = tls.VersionTLS13 },
		"TLS 1.2 and ECDHE": func(cfg *tls.Config) { cfg.MaxVersion = tls.VersionTLS12 },
	} {
		_, err := laboratory.Decrypt(record(t, cert, pool, change), key)
		if _, ok := errors.AsType[*laboratory.ForwardSecretError](err); !ok {
			t.Errorf("%s: %v, want a ForwardSecretError", name, err)
		}
	}
	for name, octets := range map[string][]byte{"nothing": nil, "no TLS": []byte("HTTP/1.1 400 Bad Request\r\n"), "half a record": {22, 3, 1, 0}} {
		r := &laboratory.Recording{Octets: [2][]byte{octets, octets}}
		if _, err := laboratory.Decrypt(r, key); err == nil {
			t.Errorf("%s was decrypted", name)
		}
	}
	altered := &laboratory.Recording{Octets: [2][]byte{bytes.Clone(classical.Octets[0]), classical.Octets[1]}}
	altered.Octets[0][len(altered.Octets[0])-40] ^= 1
	if _, err := laboratory.Decrypt(altered, key); err == nil {
		t.Error("a recording with an altered record was decrypted")
	}
}

func record(t *testing.T, cert tls.Certificate, pool *x509.CertPool, change func(*tls.Config)) *laboratory.Recording {
	t.Helper()
	server, client := &tls.Config{Certificates: []tls.Certificate{cert}}, &tls.Config{RootCAs: pool, ServerName: "bank.example"}
	change(server)
	change(client)
	r, err := laboratory.Record(t.Context(), server, client, "question", "answer")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func FuzzDecrypt(f *testing.F) {
	cert, pool := newServer(f)
	r, err := laboratory.Record(f.Context(), wire.Classical(&tls.Config{Certificates: []tls.Certificate{cert}}),
		wire.Classical(&tls.Config{RootCAs: pool, ServerName: "bank.example"}), "question", "answer")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(r.Octets[0], r.Octets[1])
	f.Add([]byte{}, []byte{})
	key := cert.PrivateKey.(*rsa.PrivateKey)
	f.Fuzz(func(t *testing.T, client, server []byte) {
		// Whatever was recorded, the answer is a text or an error.
		if p, err := laboratory.Decrypt(&laboratory.Recording{Octets: [2][]byte{client, server}}, key); (p == nil) == (err == nil) {
			t.Errorf("answered %v and %v", p, err)
		}
	})
}

func newServer(t testing.TB) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	authority, err := laboratory.NewAuthority(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	cert, err := authority.Server("bank.example")
	if err != nil {
		t.Fatal(err)
	}
	return cert, authority.Pool()
}

func TestAuthorityRevokes(t *testing.T) {
	authority, err := laboratory.NewAuthority(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	cert, err := authority.Server("bank.example")
	if err != nil {
		t.Fatal(err)
	}
	der, err := authority.Revoke(cert.Leaf)
	if err != nil {
		t.Fatal(err)
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		t.Fatal(err)
	}
	if err := list.CheckSignatureFrom(authority.Certificate); err != nil {
		t.Error(err)
	}
	if e := list.RevokedCertificateEntries; len(e) != 1 || e[0].SerialNumber.Cmp(cert.Leaf.SerialNumber) != 0 || e[0].ReasonCode != 1 {
		t.Errorf("the list says %+v", e)
	}
}
