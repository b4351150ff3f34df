package wire_test

import (
	"crypto/tls"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"signet.example/signet/handshake/wire"
	"signet.example/signet/handshake/wire/protocol"
)

var (
	allSteps    = []string{"client-hello", "server-choice", "certificate", "trust", "revocation", "key-exchange", "key-derivation", "finished", "application-data", "close"}
	mutualSteps = []string{"client-hello", "server-choice", "certificate", "client-certificate", "trust", "revocation", "key-exchange", "key-derivation", "finished", "application-data", "close"}
)

func without(list []string, drop ...string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return slices.Contains(drop, s) })
}

// TestTrace takes the Tap through the kinds of handshake that crypto/tls knows, at both ends.
func TestTrace(t *testing.T) {
	ca := newCA(t)
	ecdsaCert, rsaCert, clientCert := ca.leaf(t, "server.example", nil), ca.leaf(t, "server.example", rsaKey(t)), ca.person(t, "alice@client.example", &url.URL{Scheme: "spiffe", Host: "client.example"})
	tls12 := func(suites ...uint16) func(s, c *tls.Config) {
		return func(s, c *tls.Config) {
			c.MaxVersion, s.CipherSuites, c.CipherSuites = tls.VersionTLS12, suites, suites
		}
	}
	curve := func(id tls.CurveID) func(s, c *tls.Config) {
		return func(s, c *tls.Config) { s.CurvePreferences = []tls.CurveID{id} }
	}
	mutual := func(s, c *tls.Config) {
		s.ClientAuth, s.ClientCAs = tls.RequireAndVerifyClientCert, ca.pool()
		c.Certificates = []tls.Certificate{clientCert}
	}
	for _, tt := range []struct {
		name   string
		rsa    bool
		change []func(s, c *tls.Config)
		method string
		group  string
		suite  string
		retry  bool
		mutual bool
	}{
		{name: "TLS 1.3, hybrid", method: "hybrid ML-KEM", group: "X25519MLKEM768"},
		{name: "TLS 1.3, X25519", change: []func(s, c *tls.Config){curve(tls.X25519)}, method: "ECDHE", group: "X25519"},
		{name: "TLS 1.3, P-256 after a HelloRetryRequest", change: []func(s, c *tls.Config){curve(tls.CurveP256)}, method: "ECDHE", group: "P-256", retry: true},
		{name: "TLS 1.3, SecP384r1MLKEM1024 after a HelloRetryRequest", change: []func(s, c *tls.Config){curve(tls.SecP384r1MLKEM1024)}, method: "hybrid ML-KEM", group: "SecP384r1MLKEM1024", retry: true},
		{name: "TLS 1.3, mutual", change: []func(s, c *tls.Config){mutual}, method: "hybrid ML-KEM", group: "X25519MLKEM768", mutual: true},
		{name: "TLS 1.3, mutual after a HelloRetryRequest", change: []func(s, c *tls.Config){mutual, curve(tls.CurveP521)}, method: "ECDHE", group: "P-521", retry: true, mutual: true},
		{name: "TLS 1.2, AES-128-GCM", change: []func(s, c *tls.Config){tls12(tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256)}, method: "ECDHE", group: "X25519"},
		{name: "TLS 1.2, AES-256-GCM", change: []func(s, c *tls.Config){tls12(tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384), curve(tls.CurveP384)}, method: "ECDHE", group: "P-384"},
		{name: "TLS 1.2, ChaCha20", change: []func(s, c *tls.Config){tls12(tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256)}, method: "ECDHE", group: "X25519"},
		{name: "TLS 1.2, CBC", change: []func(s, c *tls.Config){tls12(tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA)}, method: "ECDHE", group: "X25519"},
		{name: "TLS 1.2, mutual", change: []func(s, c *tls.Config){tls12(tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256), mutual}, method: "ECDHE", group: "X25519", mutual: true},
		{name: "classical, AES-128-GCM", rsa: true, change: []func(s, c *tls.Config){tls12(tls.TLS_RSA_WITH_AES_128_GCM_SHA256)}, method: "RSA"},
		{name: "classical, AES-256-GCM", rsa: true, change: []func(s, c *tls.Config){tls12(tls.TLS_RSA_WITH_AES_256_GCM_SHA384)}, method: "RSA"},
		{name: "classical, CBC and SHA-256", rsa: true, change: []func(s, c *tls.Config){tls12(tls.TLS_RSA_WITH_AES_128_CBC_SHA256)}, method: "RSA"},
		{name: "classical, CBC and SHA-1, mutual", rsa: true, change: []func(s, c *tls.Config){tls12(tls.TLS_RSA_WITH_AES_256_CBC_SHA), mutual}, method: "RSA", mutual: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server, client := &tls.Config{Certificates: []tls.Certificate{ecdsaCert}, NextProtos: []string{"echo"}}, &tls.Config{RootCAs: ca.pool(), ServerName: "server.example", NextProtos: []string{"other", "echo"}}
			if tt.rsa {
				server.Certificates = []tls.Certificate{rsaCert}
			}
			for _, change := range tt.change {
				change(server, client)
			}
			s := run(t, server, client)
			if s.clientErr != nil || s.serverErr != nil {
				t.Fatalf("client: %v, server: %v", s.clientErr, s.serverErr)
			}
			wantServer := without(allSteps, "trust", "revocation")
			if tt.mutual {
				wantServer = mutualSteps
			}
			if got := names(s.client); !slices.Equal(got, allSteps) {
				t.Errorf("the client's steps are %v", got)
			}
			if got := names(s.server); !slices.Equal(got, wantServer) {
				t.Errorf("the server's steps are %v", got)
			}
			for end, steps := range map[string][]wire.Step{"client": s.client, "server": s.server} {
				choice, exchange, finished := step(t, steps, "server-choice").ServerChoice, step(t, steps, "key-exchange").KeyExchange, step(t, steps, "finished").Finished
				if uint16(choice.Version) != s.clientState.Version || uint16(choice.Suite) != s.clientState.CipherSuite || choice.ALPN != "echo" {
					t.Errorf("%s: chose %v %v %q", end, choice.Version, choice.Suite, choice.ALPN)
				}
				if (choice.Retried != 0) != tt.retry || exchange.Method != tt.method || tt.group != "" && exchange.Group.String() != tt.group {
					t.Errorf("%s: retried %v, method %s, group %v", end, choice.Retried, exchange.Method, exchange.Group)
				}
				if s.clientState.CurveID != tls.CurveID(exchange.Group) {
					t.Errorf("%s: group %v, crypto/tls says %v", end, exchange.Group, s.clientState.CurveID)
				}
				if exchange.ForwardSecrecy != (tt.method != "RSA") || exchange.ClientSent != tt.mutual || exchange.PostQuantum != strings.Contains(tt.group, "MLKEM") {
					t.Errorf("%s: key exchange %+v", end, exchange)
				}
				if !finished.Client || !finished.Server {
					t.Errorf("%s: Finished not recomputed: %+v", end, finished)
				}
				checkTraffic(t, end, steps)
			}
			if cert := step(t, s.client, "certificate").Certificate; cert.Subject != "CN=server.example" || cert.Issuer != "CN=Test Root" || len(cert.Sent) != 2 || (cert.Asked != nil) != tt.mutual {
				t.Errorf("certificate %+v", cert)
			}
			if tt.mutual {
				if told := fmt.Sprint(step(t, s.client, "key-exchange").Facts); !strings.Contains(told, "alice@client.example") {
					t.Errorf("we are not named: %s", told)
				}
				if told := fmt.Sprint(step(t, s.server, "client-certificate").Facts); !strings.Contains(told, "{name [alice@client.example]}") || !strings.Contains(told, "spiffe://client.example") {
					t.Errorf("the client is not named: %s", told)
				}
			}
			for name, extension := range map[string]string{"client-hello": "supported_groups", "server-choice": "_"} {
				if told := fmt.Sprint(step(t, s.client, name).Facts); !strings.Contains(told, "{extensions [") || !strings.Contains(told, extension) {
					t.Errorf("%s does not tell the extensions: %s", name, told)
				}
			}
			if hello := step(t, s.client, "client-hello").ClientHello; hello.ServerName != "server.example" || !hello.Status || len(hello.Suites) == 0 {
				t.Errorf("hello %+v", hello)
			}
		})
	}
}

func checkTraffic(t *testing.T, end string, steps []wire.Step) {
	t.Helper()
	want := wire.Volume{Records: 1, Octets: len(message)}
	if data := step(t, steps, "application-data").ApplicationData; data.Sent != want || data.Received != want {
		t.Errorf("%s: application data %+v", end, data)
	}
	if c := step(t, steps, "close").Close; !c.Clean || c.NotFollows != "" {
		t.Errorf("%s: close %+v", end, c)
	}
}

func TestTraceResumption(t *testing.T) {
	ca := newCA(t)
	cert := ca.leaf(t, "server.example", nil)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			server := &tls.Config{Certificates: []tls.Certificate{cert}, MaxVersion: version}
			server.SetSessionTicketKeys([][32]byte{{1}}) // Tap.Watch clones; the keys must not be made anew for each clone
			client := &tls.Config{RootCAs: ca.pool(), ServerName: "server.example", ClientSessionCache: tls.NewLRUClientSessionCache(1)}
			shared := [2]*wire.Sessions{new(wire.Sessions), new(wire.Sessions)} // one for each end, as two processes have
			run := func(t *testing.T, server, client *tls.Config) *session {
				clientConn, serverConn := loopback(t)
				return runSharing(t, clientConn, serverConn, server, client, shared)
			}
			if first := run(t, server, client); first.clientErr != nil || step(t, first.client, "server-choice").ServerChoice.Resumed {
				t.Fatalf("first connection: %v", first.clientErr)
			}
			s := run(t, server, client)
			if s.clientErr != nil || !s.clientState.DidResume {
				t.Fatalf("second connection: %v, resumed %v", s.clientErr, s.clientState.DidResume)
			}
			for end, steps := range map[string][]wire.Step{"client": s.client, "server": s.server} {
				exchange := step(t, steps, "key-exchange").KeyExchange
				if !exchange.Resumed || exchange.ForwardSecrecy != (version == tls.VersionTLS13) {
					t.Errorf("%s: %+v", end, exchange)
				}
				if f := step(t, steps, "finished").Finished; !f.Opened || !f.Client || !f.Server {
					t.Errorf("%s: %+v", end, f)
				}
				if data := step(t, steps, "application-data").ApplicationData; data.Sent.Octets == 0 || data.Sent.Octets > 64 {
					t.Errorf("%s: the data was not opened: %+v", end, data.Sent)
				}
				if c := step(t, steps, "close").Close; !c.Clean {
					t.Errorf("%s: %+v", end, c)
				}
				if slices.Contains(names(steps), "certificate") {
					t.Errorf("%s: a resumed session told of a certificate", end)
				}
			}
			if third := run(t, server, client); third.clientErr != nil || !step(t, third.client, "finished").Finished.Opened {
				t.Errorf("a session that was resumed before is not opened: %v", third.clientErr)
			}
			if hello := step(t, s.client, "client-hello").ClientHello; hello.Resumption != 1 {
				t.Errorf("offered %d sessions", hello.Resumption)
			}
			for offered, told := range map[*session]bool{s: false, run(t, &tls.Config{Certificates: []tls.Certificate{cert}, MaxVersion: version}, client): version == tls.VersionTLS13} {
				if offered.clientErr != nil || strings.Contains(fmt.Sprint(step(t, offered.client, "server-choice").Facts), "was not accepted") != told {
					t.Errorf("%v: %+v, want it told that the ticket was not taken: %v", offered.clientErr, step(t, offered.client, "server-choice").Facts, told)
				}
			}
		})
	}
}

func TestTraceStaples(t *testing.T) {
	ca := newCA(t)
	cert := ca.leaf(t, "server.example", nil)
	cert.OCSPStaple = []byte("what it says is package ocsp's matter")
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		s := run(t, &tls.Config{Certificates: []tls.Certificate{cert}, MaxVersion: version}, &tls.Config{RootCAs: ca.pool(), ServerName: "server.example"})
		if s.clientErr != nil {
			t.Fatal(s.clientErr)
		}
		for end, steps := range map[string][]wire.Step{"client": s.client, "server": s.server} {
			if sent := step(t, steps, "certificate").Certificate.Sent; !sent[0].Stapled || sent[1].Stapled {
				t.Errorf("%s, %s: %+v", tls.VersionName(version), end, sent)
			}
		}
	}
}

// TestTraceHonest has servers that do not pick the best that was offered.
func TestTraceHonest(t *testing.T) {
	ca := newCA(t)
	cert := ca.leaf(t, "server.example", rsaKey(t))
	client := &tls.Config{RootCAs: ca.pool(), ServerName: "server.example", CipherSuites: append(wire.ClassicalSuites(), tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA)}
	for _, tt := range []struct {
		suite    uint16
		strength protocol.Strength
		stronger int
	}{
		{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, protocol.Strong, 0},
		{tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, protocol.Aging, 1},
		{tls.TLS_RSA_WITH_AES_256_GCM_SHA384, protocol.Legacy, 2},
	} {
		s := run(t, &tls.Config{Certificates: []tls.Certificate{cert}, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tt.suite}}, client)
		if s.clientErr != nil {
			t.Fatal(s.clientErr)
		}
		st := step(t, s.client, "server-choice")
		c := st.ServerChoice
		if c.Strength != tt.strength || len(c.Stronger) != tt.stronger || c.Strong || !slices.Equal(c.Newer, []protocol.Version{tls.VersionTLS13}) || st.Outcome != wire.Warning {
			t.Errorf("%s: %+v", tls.CipherSuiteName(tt.suite), c)
		}
	}
}

func TestTraceFailures(t *testing.T) {
	ca, other := newCA(t), newCA(t)
	cert := ca.leaf(t, "server.example", nil)
	good := func() (*tls.Config, *tls.Config) {
		return &tls.Config{Certificates: []tls.Certificate{cert}}, &tls.Config{RootCAs: ca.pool(), ServerName: "server.example"}
	}
	for _, tt := range []struct {
		name           string
		change         func(s, c *tls.Config)
		client, server wire.Class
	}{
		{"untrusted", func(s, c *tls.Config) { c.RootCAs = other.pool() }, wire.ClassCertificate, wire.ClassCertificate},
		{"wrong name", func(s, c *tls.Config) { c.ServerName = "other.example" }, wire.ClassCertificate, wire.ClassCertificate},
		{"untrusted, TLS 1.2", func(s, c *tls.Config) { c.RootCAs, c.MaxVersion = other.pool(), tls.VersionTLS12 }, wire.ClassCertificate, wire.ClassCertificate},
		{"no version in common", func(s, c *tls.Config) { s.MinVersion, c.MaxVersion = tls.VersionTLS13, tls.VersionTLS12 }, wire.ClassMismatch, wire.ClassMismatch},
		{"no suite in common", func(s, c *tls.Config) { c.MaxVersion, c.CipherSuites = tls.VersionTLS12, wire.ClassicalSuites() }, wire.ClassMismatch, wire.ClassMismatch},
		{"no protocol in common", func(s, c *tls.Config) { s.NextProtos, c.NextProtos = []string{"a"}, []string{"b"} }, wire.ClassMismatch, wire.ClassMismatch},
		{"client certificate missing", func(s, c *tls.Config) { s.ClientAuth, s.ClientCAs = tls.RequireAndVerifyClientCert, ca.pool() }, wire.ClassCertificate, wire.ClassCertificate},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server, client := good()
			tt.change(server, client)
			s := run(t, server, client)
			if s.clientErr == nil || s.serverErr == nil {
				t.Fatalf("client: %v, server: %v", s.clientErr, s.serverErr)
			}
			if f := s.clientTap.Explain(s.clientErr); f.Class != tt.client || f.Reason == "" {
				t.Errorf("client: %+v of %v", f, s.clientErr)
			}
			if f := s.serverTap.Explain(s.serverErr); f.Class != tt.server || f.Reason == "" {
				t.Errorf("server: %+v of %v", f, s.serverErr)
			}
			if last := s.server[len(s.server)-1]; last.Name != "close" || last.Outcome != wire.Failed {
				t.Errorf("the server's last step is %+v", last)
			}
		})
	}
}
