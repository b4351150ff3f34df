package handshake_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"signet.example/signet/handshake"
	"signet.example/signet/handshake/handshaketest"
	"signet.example/signet/pki"
)

// TestNearMiss: a chain that is not trusted says how nearly it was, whether crypto/tls verified it or the Checker did.
func TestNearMiss(t *testing.T) {
	for _, tc := range []struct {
		name, drawing, trust string
		alone                bool // the server sends only its own certificate
		want                 handshake.NearMiss
	}{
		{"wrong name", "root -> int -> leaf wrongname", "leaf", false, handshake.MissWrongName},
		{"expired", "root -> leaf expired", "leaf", false, handshake.MissExpired},
		{"not yet valid", "root -> leaf future", "leaf", false, handshake.MissNotYetValid},
		{"expired root", "root expired -> leaf", "leaf", false, handshake.MissExpired},
		{"missing intermediate", "root -> int -> leaf", "leaf", true, handshake.MissMissingIntermediate},
		{"self-signed", "leaf; root -> other", "other", false, handshake.MissSelfSigned},
		{"unknown issuer", "root -> int -> leaf; elsewhere -> other", "other", false, handshake.MissUnknownIssuer},
	} {
		for _, asking := range []bool{false, true} {
			t.Run(tc.name, func(t *testing.T) {
				p := handshaketest.New(t, tc.drawing)
				leaf := p.Cert("leaf")
				asked := 0
				checker := p.Checker(func(c *handshake.Config) {
					if asking {
						c.Override = func(r *handshake.Result) handshake.Answer { asked++; return handshake.OverrideRefuse }
					}
				})
				server := p.ServerConfig(leaf, nil)
				if tc.alone {
					server.Certificates[0].Certificate = server.Certificates[0].Certificate[:1]
				}
				config := p.ClientConfig(p.Cert(tc.trust))
				_, _, err := (&handshake.Dialer{Checker: checker, TLS: config}).DialResult(context.Background(), "tcp", p.Listen(server))
				untrusted, ok := errors.AsType[*handshake.UntrustedError](err)
				if !ok || untrusted.Miss != tc.want || untrusted.Explanation == "" || untrusted.Err == nil {
					t.Errorf("%+v: %v", untrusted, err)
				}
				if asking != (asked == 1) {
					t.Errorf("asked %d times", asked)
				}
			})
		}
	}
}

// TestExplanationsAreVisible: control characters in names, which a terminal would obey, are shown as text: crypto/x509
// lets them pass, and these explanations end up in logs.
func TestExplanationsAreVisible(t *testing.T) {
	const name = "\x1b]0;owned\a"
	leaf := &x509.Certificate{Raw: []byte{1}, RawSubject: []byte{1}, RawIssuer: []byte{2}, SerialNumber: big.NewInt(1), DNSNames: []string{name}, Issuer: pkix.Name{CommonName: name}}
	above := &x509.Certificate{Raw: []byte{2}, RawSubject: []byte{2}, RawIssuer: []byte{3}, Issuer: pkix.Name{CommonName: name}}
	sameName := x509.NewCertPool()
	sameName.AddCert(&x509.Certificate{Raw: []byte{3}, RawSubject: []byte{2}})
	for what, test := range map[string]struct {
		err       error
		presented []*x509.Certificate
		roots     *x509.CertPool
	}{
		"another name":            {x509.HostnameError{Certificate: leaf, Host: "good.test"}, []*x509.Certificate{leaf}, nil},
		"the leaf alone":          {x509.UnknownAuthorityError{Cert: leaf}, []*x509.Certificate{leaf}, nil},
		"without its issuer":      {x509.UnknownAuthorityError{Cert: leaf}, []*x509.Certificate{leaf, leaf}, nil},
		"an issuer without trust": {x509.UnknownAuthorityError{Cert: leaf}, []*x509.Certificate{leaf, above}, nil},
		"another key":             {x509.UnknownAuthorityError{Cert: leaf}, []*x509.Certificate{leaf}, sameName},
	} {
		untrusted, ok := handshake.ExplainUntrusted(test.err, test.presented, test.roots, time.Now())
		if !ok {
			t.Errorf("%s: no explanation", what)
			continue
		}
		if text := untrusted.Error(); strings.ContainsAny(text, "\x1b\a") || !strings.Contains(untrusted.Explanation, "owned") {
			t.Errorf("%s: %q", what, text)
		}
	}
	if untrusted, ok := handshake.ExplainUntrusted(errors.New("no certificate came"), nil, nil, time.Now()); ok {
		t.Errorf("of nobody: %v", untrusted)
	}
}

// TestSameNameOtherKey: a root with the right name and another key is a miss of its own.
func TestSameNameOtherKey(t *testing.T) {
	p, other := handshaketest.New(t, "root -> leaf"), handshaketest.New(t, "root -> leaf")
	_, err := dial(t, p.Checker(nil), p.ClientConfig(other.Cert("leaf")), p.Listen(p.ServerConfig(p.Cert("leaf"), nil)))
	untrusted, ok := errors.AsType[*handshake.UntrustedError](err)
	if !ok || untrusted.Miss != handshake.MissSameNameOtherKey {
		t.Errorf("%v", err)
	}
}

// TestPins: trusted is not enough when an issuer is pinned.
func TestPins(t *testing.T) {
	p := handshaketest.New(t, "root -> int -> leaf; root -> other")
	address := p.Listen(p.ServerConfig(p.Cert("leaf"), nil))
	for pin, accepted := range map[string]bool{"int": true, "root": true, "other": false, "leaf": false} {
		checker := p.Checker(func(c *handshake.Config) { c.Pins = []*x509.Certificate{p.Cert(pin).Certificate} })
		_, err := dial(t, checker, p.ClientConfig(p.Cert("leaf")), address)
		untrusted, _ := errors.AsType[*handshake.UntrustedError](err)
		if (err == nil) != accepted || !accepted && (untrusted == nil || untrusted.Miss != handshake.MissNotPinned) {
			t.Errorf("pin %s: %v", pin, err)
		}
	}
}

// TestOverride: a clear yes is needed, revocation needs its own words, and the answer is on record.
func TestOverride(t *testing.T) {
	const nonsense = handshake.Answer(99)
	for _, tc := range []struct {
		name, drawing string
		answer        handshake.Answer
		accepted      bool
	}{
		{"untrusted, yes", "leaf; root -> other", handshake.OverrideAccept, true},
		{"untrusted, no", "leaf; root -> other", handshake.OverrideRefuse, false},
		{"untrusted, nonsense", "leaf; root -> other", nonsense, false},
		{"unavailable, yes", "root -> leaf nocdp noaia; root -> other", handshake.OverrideAccept, true},
		{"revoked, yes", "root -> leaf revoked; root -> other", handshake.OverrideAccept, false},
		{"revoked, yes although revoked", "root -> leaf revoked; root -> other", handshake.OverrideAcceptRevoked, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := handshaketest.New(t, tc.drawing)
			checker := p.Checker(func(c *handshake.Config) {
				c.Override = func(r *handshake.Result) handshake.Answer {
					if r.Err() == nil || len(r.Chain) == 0 {
						t.Errorf("asked about an acceptance, or about nothing: %+v", r)
					}
					return tc.answer
				}
			})
			result, err := dial(t, checker, p.ClientConfig(p.Cert("other")), p.Listen(p.ServerConfig(p.Cert("leaf"), nil)))
			if (err == nil) != tc.accepted {
				t.Fatalf("%v", err)
			}
			if tc.accepted && (result.Decision() != handshake.AcceptedOverridden || result.Objection() == nil) {
				t.Errorf("decision %s, objection %v", result.Decision(), result.Objection())
			}
		})
	}
}

// TestOverrideNearly: an Override that excuses a wrong name, a wrong time or another usage sees the local evidence
// about the certificates, and does not accept a revocation with it. Nothing is fetched for such a chain, and nothing
// learnt over it.
func TestOverrideNearly(t *testing.T) {
	for _, tc := range []struct {
		name, drawing string
		answer        handshake.Answer
		accepted      bool
		miss          handshake.NearMiss
	}{
		{"wrong name, yes", "root -> leaf wrongname", handshake.OverrideAccept, true, handshake.MissWrongName},
		{"wrong name under an issuer of which nothing is at hand, yes", "root -> int -> leaf wrongname", handshake.OverrideAccept, true, handshake.MissWrongName},
		{"expired, yes", "root -> leaf expired", handshake.OverrideAccept, true, handshake.MissExpired},
		{"revoked and wrong name, yes", "root -> leaf revoked wrongname", handshake.OverrideAccept, false, handshake.MissWrongName},
		{"revoked and expired, yes", "root -> leaf revoked expired", handshake.OverrideAccept, false, handshake.MissExpired},
		{"revoked and of the future, yes", "root -> leaf revoked future", handshake.OverrideAccept, false, handshake.MissNotYetValid},
		{"other usage, yes", "root -> leaf delegate", handshake.OverrideAccept, true, handshake.MissUsage},
		{"revoked and other usage, yes", "root -> leaf revoked delegate", handshake.OverrideAccept, false, handshake.MissUsage},
		{"revoked, other usage, wrong name and expired, yes", "root -> leaf revoked delegate wrongname expired", handshake.OverrideAccept, false, handshake.MissExpired},
		{"revoked, wrong name and expired, yes", "root -> leaf revoked wrongname expired", handshake.OverrideAccept, false, handshake.MissExpired},
		{"revoked under an expired issuer, yes", "root -> int expired -> leaf revoked", handshake.OverrideAccept, false, handshake.MissExpired},
		{"revoked, wrong name under an expired issuer, yes", "root -> int expired -> leaf revoked wrongname", handshake.OverrideAccept, false, handshake.MissWrongName},
		{"revoked and wrong name, yes although revoked", "root -> leaf revoked wrongname", handshake.OverrideAcceptRevoked, true, handshake.MissWrongName},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := handshaketest.New(t, tc.drawing)
			leaf := p.Cert("leaf")
			// No answer of a responder made outside of a leaf's validity is believed; a list is.
			now, staple, list := p.Now(), leaf.OCSP(handshaketest.OCSP{}), ""
			if leaf.NotAfter.Before(now) || leaf.NotBefore.After(now) {
				staple, list = nil, filepath.Join(t.TempDir(), "root.crl")
				if err := os.WriteFile(list, p.Cert("root").CRL(handshaketest.CRL{}), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			checker := p.Checker(func(c *handshake.Config) {
				c.Override = func(*handshake.Result) handshake.Answer { return tc.answer }
				if list != "" {
					c.Issuers = []handshake.Issuer{{Certificate: p.Cert("root").Certificate, CRLs: []string{list}}}
				}
			})
			dialer := &handshake.Dialer{Checker: checker, TLS: p.ClientConfig(leaf), Track: true}
			conn, result, err := dialer.DialResult(t.Context(), "tcp", p.Listen(p.ServerConfig(leaf, staple)))
			if (err == nil) != tc.accepted {
				t.Errorf("%v", err)
			}
			if conn != nil {
				defer conn.Close()
				if _, err := checker.Track(conn); !errors.Is(err, handshake.ErrNoVerifiedChain) {
					t.Errorf("tracked: %v", err)
				}
			}
			want := pki.StatusGood
			if strings.Contains(tc.drawing, "revoked") {
				want = pki.StatusRevoked
			}
			untrusted, ok := errors.AsType[*handshake.UntrustedError](result.Trust)
			if !ok || untrusted.Miss != tc.miss || len(result.Certificates) == 0 || result.Certificates[0].Status != want {
				t.Errorf("trust %v, certificates %+v", result.Trust, result.Certificates)
			}
			for _, path := range []string{"/root.crl", "/root.ocsp", "/int.crl", "/int.ocsp"} {
				if hits := p.Hits(path); hits != 0 {
					t.Errorf("%s was asked for %d times", path, hits)
				}
			}
			if list != "" {
				return
			}
			p.Off()
			later, _ := checker.Check(t.Context(), leaf.Chain(), nil)
			if status := later.Certificates[0].Status; status == pki.StatusRevoked {
				t.Error("a revocation was learnt")
			}
		})
	}
}

// TestOverrideServer: a server may also ask about a client with an untrusted certificate; about one without a
// certificate it does not ask.
func TestOverrideServer(t *testing.T) {
	p := handshaketest.New(t, "root -> server; elsewhere -> stranger; root -> bad revoked")
	asked := 0
	checker := p.Checker(func(c *handshake.Config) {
		c.Override = func(*handshake.Result) handshake.Answer { asked++; return handshake.OverrideAccept }
	})
	config := p.ServerConfig(p.Cert("server"), nil)
	config.ClientCAs, config.ClientAuth = p.Cert("server").Pool(), tls.VerifyClientCertIfGiven
	wrapped, err := checker.WrapServer(config)
	if err != nil {
		t.Fatal(err)
	}
	address := p.Listen(wrapped)
	for _, tc := range []struct {
		name     string
		accepted bool
		asked    int
	}{{"", true, 0}, {"stranger", true, 1}, {"bad", false, 1}} {
		clientConfig := p.ClientConfig(p.Cert("server"))
		if tc.name != "" {
			certificate := p.Cert(tc.name).TLS(nil)
			clientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &certificate, nil }
		}
		asked = 0
		conn, err := tls.Dial("tcp", address, clientConfig)
		if err == nil {
			err = handshaketest.Echo(conn)
			conn.Close()
		}
		if (err == nil) != tc.accepted || asked != tc.asked {
			t.Errorf("%q: asked %d times, %v", tc.name, asked, err)
		}
	}
}

// TestObserve: every handshake is seen, accepted or not.
func TestObserve(t *testing.T) {
	p := handshaketest.New(t, "root -> good; root -> bad revoked")
	var decisions []handshake.Decision
	checker := p.Checker(func(c *handshake.Config) {
		c.Observe = func(r *handshake.Result) { decisions = append(decisions, r.Decision()) }
	})
	for _, name := range []string{"good", "bad"} {
		_, _ = dial(t, checker, p.ClientConfig(p.Cert(name)), p.Listen(p.ServerConfig(p.Cert(name), nil)))
	}
	if counts := checker.Counts(); counts[handshake.Accepted] != 1 || counts[handshake.Refused] != 1 || counts[handshake.AcceptedUnproved] != 0 {
		t.Errorf("counted %v", counts)
	}
	if len(decisions) != 2 || decisions[0] != handshake.Accepted || decisions[1] != handshake.Refused {
		t.Errorf("%v", decisions)
	}
}

// TestInnerHook: a VerifyConnection of the user's is kept, runs first, and sees the verified chain.
func TestInnerHook(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf")
	address := p.Listen(p.ServerConfig(p.Cert("leaf"), nil))
	for _, asking := range []bool{false, true} {
		checker := p.Checker(func(c *handshake.Config) {
			if asking {
				c.Override = func(*handshake.Result) handshake.Answer { return handshake.OverrideAccept }
			}
		})
		mine := errors.New("mine")
		config := p.ClientConfig(p.Cert("leaf"))
		config.VerifyConnection = func(state tls.ConnectionState) error {
			if len(state.VerifiedChains) == 0 {
				t.Error("the hook saw no verified chain")
			}
			return mine
		}
		if _, err := dial(t, checker, config, address); !errors.Is(err, mine) {
			t.Errorf("%v", err)
		}
	}
}

// TestInnerHookUntrusted: a VerifyConnection of the user's runs for a peer that does not verify only after the Override
// has accepted it, and may still refuse it. Then nothing reports the handshake as accepted.
func TestInnerHookUntrusted(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf; root -> server; elsewhere -> stranger")
	mine := errors.New("mine")
	for _, answer := range []handshake.Answer{handshake.OverrideRefuse, handshake.OverrideAccept} {
		asked, called := 0, 0
		checker := p.Checker(func(c *handshake.Config) {
			c.Observe = func(r *handshake.Result) {
				if r.Decision() != handshake.Refused || r.Err() == nil {
					t.Errorf("answer %d: it is observed as %s, %v", answer, r.Decision(), r.Err())
				}
			}
			c.Override = func(*handshake.Result) handshake.Answer {
				if called > 0 {
					t.Error("the hook ran before anybody was asked")
				}
				asked++
				return answer
			}
		})
		inner := func(tls.ConnectionState) error { called++; return mine }
		config := p.ClientConfig(p.Cert("leaf"))
		config.VerifyConnection = inner
		_, err := dial(t, checker, config, p.Listen(p.ServerConfig(p.Cert("stranger"), nil)))
		if accepted := answer == handshake.OverrideAccept; err == nil || asked != 1 || (called == 1) != accepted || errors.Is(err, mine) != accepted {
			t.Errorf("a server, answer %d: asked %d times, called %d times, %v", answer, asked, called, err)
		}
		asked, called = 0, 0
		server := p.ServerConfig(p.Cert("server"), nil)
		server.ClientCAs, server.ClientAuth, server.VerifyConnection = p.Cert("server").Pool(), tls.RequireAndVerifyClientCert, inner
		wrapped, err := checker.WrapServer(server)
		if err != nil {
			t.Fatal(err)
		}
		clientConfig, stranger := p.ClientConfig(p.Cert("server")), p.Cert("stranger").TLS(nil)
		clientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &stranger, nil }
		conn, err := tls.Dial("tcp", p.Listen(wrapped), clientConfig)
		if err == nil {
			err = handshaketest.Echo(conn)
			conn.Close()
		}
		if accepted := answer == handshake.OverrideAccept; err == nil || asked != 1 || (called == 1) != accepted {
			t.Errorf("a client, answer %d: asked %d times, called %d times, %v", answer, asked, called, err)
		}
		if counts := checker.Counts(); counts[handshake.Refused] != 2 || counts[handshake.AcceptedOverridden] != 0 {
			t.Errorf("answer %d: counted %v", answer, counts)
		}
	}
}

// TestConfigRefused: a configuration that makes no sense is refused at once.
func TestConfigRefused(t *testing.T) {
	p := handshaketest.New(t, "root")
	for name, config := range map[string]handshake.Config{
		"no such policy":            {Policy: 99},
		"no such policy, an issuer": {Issuers: []handshake.Issuer{{Certificate: p.Cert("root").Certificate, Policy: 99}}},
		"an issuer twice": {Issuers: []handshake.Issuer{
			{Certificate: p.Cert("root").Certificate, Policy: handshake.HardFail}, {Certificate: p.Cert("root").Certificate, CRLs: []string{"/root.crl"}},
		}},
		"an issuer without name":  {Issuers: []handshake.Issuer{{}}},
		"a negative budget":       {Budget: -1},
		"a list without a scheme": {Issuers: []handshake.Issuer{{Certificate: p.Cert("root").Certificate, CRLs: []string{"crl.example/root.crl"}}}},
		"a list of ldap":          {Issuers: []handshake.Issuer{{Certificate: p.Cert("root").Certificate, CRLs: []string{"ldap://crl.example/root"}}}},
		"a responder in a file":   {Issuers: []handshake.Issuer{{Certificate: p.Cert("root").Certificate, OCSP: []string{"/root.ocsp"}}}},
	} {
		if _, err := handshake.New(config); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	for _, text := range []string{"", "unset", "HardFail", "hard"} {
		if _, err := handshake.ParsePolicy(text); err == nil {
			t.Errorf("policy %q: no error", text)
		}
	}
	for _, policy := range []handshake.Policy{handshake.HardFail, handshake.HardFailIfCovered, handshake.SoftFail, handshake.ReportOnly} {
		if got, err := handshake.ParsePolicy(policy.String()); err != nil || got != policy {
			t.Errorf("%s: %v %v", policy, got, err)
		}
	}
}

// TestAddressNames: an IP address that is dialled is the name that is checked, with and without an Override.
func TestAddressNames(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf")
	_, port, err := net.SplitHostPort(p.Listen(p.ServerConfig(p.Cert("leaf"), nil)))
	if err != nil {
		t.Fatal(err)
	}
	for _, asking := range []bool{false, true} {
		var name string
		checker := p.Checker(func(c *handshake.Config) {
			c.Observe = func(r *handshake.Result) { name = r.ServerName }
			if asking {
				c.Override = func(*handshake.Result) handshake.Answer { return handshake.OverrideRefuse }
			}
		})
		config := &tls.Config{RootCAs: p.Cert("leaf").Pool(), Time: p.Now}
		for host, ok := range map[string]bool{"127.0.0.1": true, "localhost": true, "127.0.0.2": false} {
			if _, err := dial(t, checker, config, net.JoinHostPort(host, port)); (err == nil) != ok {
				t.Errorf("%s: %v", host, err)
			}
			if ok && name != host {
				t.Errorf("%s: the Result says that %q was checked", host, name)
			}
		}
	}
}

// TestLoadRoots: trust comes from files, bundles and directories, and never silently from nothing.
func TestLoadRoots(t *testing.T) {
	p := handshaketest.New(t, "root -> leaf; other -> leaf2")
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	encode := func(name string) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Cert(name).Raw})
	}
	bundle := write("bundle.pem", append(encode("root"), encode("other")...))
	der := write("root.der", p.Cert("root").Raw)
	empty := write("empty/readme.txt", []byte("nothing"))
	write("store/root.pem", encode("root"))
	write("store/readme.txt", encode("other"))
	write("store/below/other.pem", encode("other"))
	write("store/below.pem/other.pem", encode("other"))
	key := write("store/key.pem", []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"))
	for _, name := range []string{"5ed36f99", "5ed36f9.0", "5ed36f9999.0", "5ed36f99.r0", "5ed36f9g.0", "5ed36f99zz.0", "root.pem~", "pem"} {
		write("store/"+name, encode("other"))
	}
	for _, name := range []string{"root.crt", "root.cer", "root.der", "5ed36f99.0", "00000000.12"} {
		write(name+".d/"+name, p.Cert("root").Raw)
	}
	write("ca/root.pem", encode("root"))
	if err := os.Symlink("root.pem", filepath.Join(dir, "ca", "5ed36f99.0")); err != nil {
		t.Fatal(err)
	}
	write("spoilt/root.pem", encode("root"))
	write("spoilt/other.crt", []byte("garbage"))
	broken := write("broken.pem", append(encode("root"), []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")...))
	in := func(name string) []string { return []string{filepath.Join(dir, name)} }
	for name, tc := range map[string]struct {
		paths []string
		trust map[string]bool // nil: an error
	}{
		"bundle":           {[]string{bundle}, map[string]bool{"leaf": true, "leaf2": true}},
		"DER":              {[]string{der}, map[string]bool{"leaf": true, "leaf2": false}},
		"directory":        {in("store"), map[string]bool{"leaf": true, "leaf2": false}},
		".crt":             {in("root.crt.d"), map[string]bool{"leaf": true}},
		".cer":             {in("root.cer.d"), map[string]bool{"leaf": true}},
		".der":             {in("root.der.d"), map[string]bool{"leaf": true}},
		"hash":             {in("5ed36f99.0.d"), map[string]bool{"leaf": true}},
		"hash of many":     {in("00000000.12.d"), map[string]bool{"leaf": true}},
		"hash as a link":   {in("ca"), map[string]bool{"leaf": true}},
		"another name":     {in("store/readme.txt"), map[string]bool{"leaf": false, "leaf2": true}},
		"two at once":      {append(in("ca"), bundle), map[string]bool{"leaf": true, "leaf2": true}},
		"system":           {nil, map[string]bool{"leaf": false, "leaf2": false}},
		"system and more":  {[]string{der, "system"}, map[string]bool{"leaf": true, "leaf2": false}},
		"nothing there":    {in("nowhere"), nil},
		"a key":            {[]string{key}, nil},
		"spoilt directory": {in("spoilt"), nil},
		"no certificate":   {[]string{empty}, nil},
		"empty directory":  {[]string{filepath.Dir(empty)}, nil},
		"half of a bundle": {[]string{broken}, nil},
	} {
		pool, roots, err := handshake.LoadRoots(tc.paths...)
		if (err == nil) != (tc.trust != nil) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		trusted := 0
		for _, is := range tc.trust {
			if is {
				trusted++
			}
		}
		if len(roots) != trusted { // each once, and none of the system
			t.Errorf("%s: %d certificates", name, len(roots))
		}
		for leaf, trusted := range tc.trust {
			if _, err := p.Cert(leaf).Verify(x509.VerifyOptions{Roots: pool}); (err == nil) != trusted {
				t.Errorf("%s: %s: %v", name, leaf, err)
			}
		}
	}
	_, _, err := handshake.LoadRoots(in("nowhere")...)
	if failed, ok := errors.AsType[*pki.Error](err); !ok || failed.Kind != pki.KindNotFound || failed.Hint == "" {
		t.Errorf("nothing there: %v", err)
	}
}
