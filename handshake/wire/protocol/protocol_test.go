package protocol_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"signet.example/signet/handshake/wire/protocol"
)

func TestSuiteSaysEverythingInItsName(t *testing.T) {
	for _, tt := range []struct {
		suite    protocol.Suite
		name     string
		exchange string
		bulk     string
		hash     string
		key, mac int
		strength protocol.Strength
		forward  bool
	}{
		{0x1301, "TLS_AES_128_GCM_SHA256", "TLS 1.3", "AES-128-GCM", "SHA-256", 16, 0, protocol.Strong, true},
		{0x1302, "TLS_AES_256_GCM_SHA384", "TLS 1.3", "AES-256-GCM", "SHA-384", 32, 0, protocol.Strong, true},
		{0x1303, "TLS_CHACHA20_POLY1305_SHA256", "TLS 1.3", "ChaCha20-Poly1305", "SHA-256", 32, 0, protocol.Strong, true},
		{0x1304, "TLS_AES_128_CCM_SHA256", "TLS 1.3", "AES-128-CCM-SHA256", "SHA-256", 0, 0, protocol.Strong, true},
		{0xc02b, "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "ECDHE", "AES-128-GCM", "SHA-256", 16, 0, protocol.Strong, true},
		{0xcca8, "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE", "ChaCha20-Poly1305", "SHA-256", 32, 0, protocol.Strong, true},
		{0xc014, "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA", "ECDHE", "AES-256-CBC with HMAC", "SHA-256", 32, 20, protocol.Aging, true},
		{0xc028, "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA384", "ECDHE", "AES-256-CBC with HMAC", "SHA-384", 32, 48, protocol.Aging, true},
		{0x009f, "TLS_DHE_RSA_WITH_AES_256_GCM_SHA384", "DHE", "AES-256-GCM", "SHA-384", 32, 0, protocol.Strong, true},
		{0x009c, "TLS_RSA_WITH_AES_128_GCM_SHA256", "RSA", "AES-128-GCM", "SHA-256", 16, 0, protocol.Legacy, false},
		{0x003c, "TLS_RSA_WITH_AES_128_CBC_SHA256", "RSA", "AES-128-CBC with HMAC", "SHA-256", 16, 32, protocol.Legacy, false},
		{0x0005, "TLS_RSA_WITH_RC4_128_SHA", "RSA", "RC4-128-SHA", "SHA-256", 0, 0, protocol.Broken, false},
		{0xc012, "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA", "ECDHE", "3DES-EDE-CBC-SHA", "SHA-256", 0, 20, protocol.Broken, true},
		{0x4711, "0x4711", "", "0x4711", "SHA-256", 0, 0, protocol.StrengthUnknown, false},
		{0xdada, "GREASE (0xdada)", "", "GREASE (0xdada)", "SHA-256", 0, 0, protocol.StrengthUnknown, false},
	} {
		key, err := tt.suite.KeyLength()
		if (err == nil) != (tt.key > 0) || key != tt.key {
			t.Errorf("%s: key of %d octets, %v", tt.suite, key, err)
		}
		if tt.suite.String() != tt.name || tt.suite.KeyExchange() != tt.exchange || tt.suite.Bulk() != tt.bulk || tt.suite.HashName() != tt.hash ||
			tt.suite.MACLength() != tt.mac || tt.suite.Strength() != tt.strength || tt.suite.ForwardSecret() != tt.forward {
			t.Errorf("%04x: %s, %s, %s, %s, %d, %s, %v", uint16(tt.suite), tt.suite, tt.suite.KeyExchange(), tt.suite.Bulk(), tt.suite.HashName(), tt.suite.MACLength(), tt.suite.Strength(), tt.suite.ForwardSecret())
		}
	}
}

// TestEverySuiteOfCryptoTLSHasAName keeps the tables in step with the toolchain.
func TestEverySuiteOfCryptoTLSHasAName(t *testing.T) {
	for _, s := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		if got := protocol.Suite(s.ID).String(); got != s.Name {
			t.Errorf("%04x is %s, crypto/tls says %s", s.ID, got, s.Name)
		}
		if protocol.Suite(s.ID).Strength() == protocol.StrengthUnknown {
			t.Errorf("%s has no class", s.Name)
		}
	}
}

func TestNames(t *testing.T) {
	for _, tt := range []struct{ got, want string }{
		{protocol.Version(0x0304).String(), "TLS 1.3"}, {protocol.Version(0x0300).String(), "SSL 3.0"}, {protocol.Version(0x7f1c).String(), "0x7f1c"},
		{protocol.Group(0x11ec).String(), "X25519MLKEM768"}, {protocol.Group(29).String(), "X25519"}, {protocol.Group(0x2a2a).String(), "GREASE (0x2a2a)"},
		{protocol.Scheme(0x0804).String(), "rsa_pss_rsae_sha256"}, {protocol.Scheme(0x0905).String(), "mldsa65"},
		{protocol.Extension(5).String(), "status_request"}, {protocol.Alert(116).String(), "certificate_required"}, {protocol.Alert(199).String(), "alert 199"},
		{protocol.Server.String(), "server"}, {protocol.Client.Peer().String(), "server"}, {protocol.Strength(77).String(), "strong"},
		{protocol.MessageName([]byte{11}), "Certificate"}, {protocol.MessageName([]byte{99}), "handshake message 99"}, {protocol.MessageName(nil), "nothing"},
	} {
		if tt.got != tt.want {
			t.Errorf("%q, want %q", tt.got, tt.want)
		}
	}
	text, err := json.Marshal(protocol.ServerHello{Version: 0x0303, Suite: 0xc02f, Group: 23})
	if want := `{"version":"TLS 1.2","cipher_suite":"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256","group":"P-256","extensions":null}`; err != nil || string(text) != want {
		t.Errorf("%s, %v, want %s", text, err, want)
	}
}

// TestHandshakeSecrets plays the client by hand: it sends a hello with a key of its own to crypto/tls, runs the key
// schedule, and opens what the server protected with it.
func TestHandshakeSecrets(t *testing.T) {
	for _, suite := range []protocol.Suite{0x1301, 0x1302, 0x1303} {
		t.Run(suite.String(), func(t *testing.T) {
			key, err := ecdh.X25519().GenerateKey(rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			hello := clientHello(suite, key.PublicKey().Bytes())
			serverHello, sealed := serverFlight(t, hello)
			sh, err := protocol.ParseServerHello(serverHello[4:])
			if err != nil {
				t.Fatal(err)
			}
			if sh.Suite != suite || sh.Group != 29 || sh.Version != 0x0304 {
				t.Fatalf("the server answered %+v", sh)
			}
			peer, err := ecdh.X25519().NewPublicKey(serverHello[len(serverHello)-32:])
			if err != nil {
				t.Fatal(err)
			}
			shared, err := key.ECDH(peer)
			if err != nil {
				t.Fatal(err)
			}
			_, secret, err := protocol.HandshakeSecrets(suite, shared, append(hello, serverHello...))
			if err != nil {
				t.Fatal(err)
			}
			opener, err := protocol.NewTrafficOpener(suite, secret)
			if err != nil {
				t.Fatal(err)
			}
			kind, content, err := opener.Open(sealed[:protocol.HeaderSize], sealed[protocol.HeaderSize:])
			if err != nil || kind != protocol.RecordHandshake || protocol.MessageName(content) != "EncryptedExtensions" {
				t.Errorf("opened %d %q: %v", kind, content, err)
			}
		})
	}
}

// clientHello is a ClientHello message for TLS 1.3 over X25519.
func clientHello(suite protocol.Suite, share []byte) []byte {
	var b cryptobyte.Builder
	extension := func(b *cryptobyte.Builder, id uint16, f cryptobyte.BuilderContinuation) {
		b.AddUint16(id)
		b.AddUint16LengthPrefixed(f)
	}
	b.AddUint8(protocol.MsgClientHello)
	b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) {
		b.AddUint16(0x0303)
		b.AddBytes(bytes.Repeat([]byte{7}, 32))
		b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(bytes.Repeat([]byte{8}, 32)) })
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddUint16(uint16(suite)) })
		b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddUint8(0) })
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
			extension(b, 10, func(b *cryptobyte.Builder) {
				b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddUint16(29) })
			})
			extension(b, 13, func(b *cryptobyte.Builder) {
				b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddUint16(0x0403) })
			})
			extension(b, 43, func(b *cryptobyte.Builder) {
				b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddUint16(0x0304) })
			})
			extension(b, 51, func(b *cryptobyte.Builder) {
				b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
					b.AddUint16(29)
					b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(share) })
				})
			})
		})
	})
	return b.BytesOrPanic()
}

// serverFlight gives a hello to a server and returns its ServerHello message and its first protected record.
func serverFlight(t *testing.T, hello []byte) (serverHello, sealed []byte) {
	t.Helper()
	client, server := net.Pipe()
	defer client.Close()
	go func() {
		defer server.Close()
		_ = tls.Server(server, &tls.Config{Certificates: []tls.Certificate{certificate(t)}}).Handshake() // it fails: nobody finishes it
	}()
	header := binary.BigEndian.AppendUint16([]byte{protocol.RecordHandshake, 3, 1}, uint16(len(hello)))
	if _, err := client.Write(append(header, hello...)); err != nil {
		t.Fatal(err)
	}
	var got []byte
	buffer := make([]byte, 4096)
	for {
		n, err := client.Read(buffer)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, buffer[:n]...)
		rest := got
		for {
			var record []byte
			if record, rest, err = protocol.CutRecord(rest); err != nil {
				t.Fatal(err)
			}
			switch {
			case record == nil:
			case record[0] == protocol.RecordHandshake:
				serverHello = record[protocol.HeaderSize:]
				continue
			case record[0] == protocol.RecordApplication:
				return serverHello, record
			default:
				continue
			}
			break
		}
	}
}

func certificate(t testing.TB) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Error(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "server.example"}, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Error(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// TestTruncatedMessages cuts real messages at every octet: each piece is an error, none a panic, none a success.
func TestTruncatedMessages(t *testing.T) {
	hello := clientHello(0x1301, make([]byte, 32))[4:]
	for n := range hello {
		_, err := protocol.ParseClientHello(hello[:n])
		// A hello without extensions is whole in TLS 1.2: it ends behind the compression methods.
		if whole := n == 2+32+33+4+2; (err == nil) != whole {
			t.Errorf("the first %d octets of a hello: %v", n, err)
		}
	}
	cert := certificate(t).Certificate[0]
	var b cryptobyte.Builder
	b.AddUint8(0)
	b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) {
		b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(cert) })
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
			b.AddUint16(5)
			b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte("staple")) })
		})
	})
	body := b.BytesOrPanic()
	for n := range body {
		if _, err := protocol.ParseCertificate(tls.VersionTLS13, body[:n]); err == nil {
			t.Errorf("the first %d octets of a Certificate message pass", n)
		}
	}
	m, err := protocol.ParseCertificate(tls.VersionTLS13, body)
	if err != nil || len(m.Certs) != 1 || !m.Staples[0] {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestCutRecord(t *testing.T) {
	for _, tt := range []struct {
		name         string
		in           string
		record, rest int // octets
		bad          bool
	}{
		{"nothing", "", 0, 0, false},
		{"half a header", "\x16\x03\x01", 0, 3, false},
		{"half a record", "\x16\x03\x01\x00\x05abc", 0, 8, false},
		{"a record and more", "\x16\x03\x01\x00\x03abcdef", 8, 3, false},
		{"empty", "\x17\x03\x03\x00\x00", 5, 0, false},
		{"too long", "\x17\x03\x03\x48\x01", 0, 5, true},
		{"longest", "\x17\x03\x03\x48\x00" + strings.Repeat("x", protocol.MaxRecord), protocol.HeaderSize + protocol.MaxRecord, 0, false},
		{"HTTP", "HTTP/1.1 400 Bad Request", 0, 24, true},
		{"SSL 2", "\x80\x2e\x01\x00\x02", 0, 5, true},
		{"unknown type", "\x19\x03\x03\x00\x00", 0, 5, true},
	} {
		record, rest, err := protocol.CutRecord([]byte(tt.in))
		if len(record) != tt.record || len(rest) != tt.rest || (err != nil) != tt.bad || tt.bad && !errors.Is(err, protocol.ErrNotTLS) {
			t.Errorf("%s: %d, %d, %v", tt.name, len(record), len(rest), err)
		}
	}
	if _, _, err := protocol.CutMessage([]byte{1, 0xff, 0, 0}); err == nil {
		t.Error("a message of 16 MiB passes")
	}
}
