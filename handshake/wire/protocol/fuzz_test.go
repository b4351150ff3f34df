package protocol_test

import (
	"bytes"
	"crypto/tls"
	"testing"

	"signet.example/signet/handshake/wire/protocol"
)

// FuzzClientHello demands of any octets: an error, or lists no longer than the octets could hold.
func FuzzClientHello(f *testing.F) {
	f.Add(clientHello(0x1301, make([]byte, 32))[4:])
	f.Fuzz(func(t *testing.T, body []byte) {
		h, err := protocol.ParseClientHello(body)
		if (h == nil) != (err != nil) {
			t.Fatalf("%v and %v", h, err)
		}
		if h != nil && 2*(len(h.Suites)+len(h.Groups)+len(h.KeyShares)+len(h.Schemes)+len(h.Extensions))+len(h.ALPN)+h.Resumption > len(body)+2 {
			t.Errorf("%d octets hold %+v", len(body), h)
		}
	})
}

func FuzzServerHello(f *testing.F) {
	f.Add([]byte("\x03\x03" + string(bytes.Repeat([]byte{9}, 32)) + "\x00\x13\x01\x00\x00\x06\x00\x2b\x00\x02\x03\x04"))
	f.Fuzz(func(t *testing.T, body []byte) {
		if h, err := protocol.ParseServerHello(body); (h == nil) != (err != nil) {
			t.Errorf("%v and %v", h, err)
		}
	})
}

// FuzzMessage gives any octets to every parser of a message.
func FuzzMessage(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x00"), true, uint16(tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256))
	f.Add([]byte("\x03\x00\x1d\x01x\x08\x04\x00\x01s"), false, uint16(tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256))
	f.Add([]byte("\x00\x01p\x00\x01g\x00\x01y\x08\x04\x00\x01s"), false, uint16(0x009e))
	f.Add([]byte("\x01\x01\x00\x02\x08\x04\x00\x04\x00\x020\x00"), false, uint16(0))
	f.Fuzz(func(t *testing.T, body []byte, modern bool, suite uint16) {
		version := protocol.Version(tls.VersionTLS12)
		if modern {
			version = tls.VersionTLS13
		}
		if m, err := protocol.ParseCertificate(version, body); err == nil && (m.Count < len(m.Certs) || m.Count != len(m.Staples) || 3*m.Count > len(body)) {
			t.Errorf("a Certificate message of %d octets: %+v", len(body), m)
		}
		if r, err := protocol.ParseCertificateRequest(version, body); err == nil && 2*(len(r.Authorities)+len(r.Schemes)) > len(body) {
			t.Errorf("a CertificateRequest of %d octets: %+v", len(body), r)
		}
		if k, err := protocol.ParseServerKeyExchange(protocol.Suite(suite), body); (k == nil) != (err != nil) {
			t.Errorf("%v and %v", k, err)
		}
		if _, err := protocol.ParseCertificateVerify(body); err == nil && len(body) < 4 {
			t.Errorf("a CertificateVerify of %d octets", len(body))
		}
		if _, exts, err := protocol.ParseEncryptedExtensions(body); err == nil && 4*len(exts) > len(body) {
			t.Errorf("%d octets hold %d extensions", len(body), len(exts))
		}
		_ = protocol.MessageName(body)
	})
}

// FuzzOpen gives any octets to every kind of opener, as a record. None may open, with keys that nobody used, and none panic.
func FuzzOpen(f *testing.F) {
	f.Add([]byte("\x17\x03\x03\x00\x20"), bytes.Repeat([]byte{1}, 64))
	f.Fuzz(func(t *testing.T, header, payload []byte) {
		header = append(header, 0, 0, 0, 0, 0)[:protocol.HeaderSize]
		for _, suite := range []protocol.Suite{0x1301, 0x1302, 0x1303} {
			opener, err := protocol.NewTrafficOpener(suite, []byte("a secret that nobody used, thirty-two octets and more"))
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := opener.Open(header, payload); err == nil {
				t.Errorf("%s opened %x", suite, payload)
			}
		}
		for _, suite := range []protocol.Suite{0xc02f, 0xc030, 0xcca8, 0xc013, 0xc014, 0x003c, 0x009c, 0xc028} {
			opener, err := protocol.Keys12{Suite: suite, Master: []byte("a master secret that nobody used")}.Opener(protocol.Client, []byte("client"), []byte("server"))
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := opener.Open(header, payload); err == nil {
				t.Errorf("%s opened %x", suite, payload)
			}
		}
	})
}
