package ocsp_test

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"

	xocsp "golang.org/x/crypto/ocsp"

	"signet.example/signet/ocsp"
	"signet.example/signet/pki"
)

// seeds adds the files of testdata whose names begin so. They were written by OpenSSL and by this package; README there
// says how.
func seeds(f *testing.F, pattern string) {
	f.Helper()
	paths, err := filepath.Glob(filepath.Join("testdata", pattern))
	if err != nil || len(paths) == 0 {
		f.Fatalf("no seeds %s: %v", pattern, err)
	}
	for _, path := range paths {
		der, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(der)
	}
}

// FuzzParseRequest: what parses is encoded again and reads the same; x/crypto/ocsp, where it reads a request, agrees on
// the serial number.
func FuzzParseRequest(f *testing.F) {
	seeds(f, "request-*.der")
	f.Fuzz(func(t *testing.T, der []byte) {
		request, err := ocsp.ParseRequest(der)
		if err != nil {
			return
		}
		again, err := request.Marshal()
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		second, err := ocsp.ParseRequest(again)
		if err != nil || len(second.Items) != len(request.Items) || string(second.Nonce) != string(request.Nonce) {
			t.Fatalf("written again it reads otherwise: %v", err)
		}
		theirs, err := xocsp.ParseRequest(der)
		if err != nil || request.Items[0].ID.Hash == 0 {
			return
		}
		if serial, ok := pki.SerialFromInteger(request.Items[0].ID.Serial); ok && theirs.SerialNumber.Cmp(serial.Big()) != 0 {
			t.Errorf("serial %s, x/crypto/ocsp reads %x", serial, theirs.SerialNumber)
		}
	})
}

// FuzzVerify: no octets but those that a responder signed say good.
func FuzzVerify(f *testing.F) {
	seeds(f, "response-*.der")
	w := newWorld(f)
	genuine := sign(f, w.responder, w.good(f))
	f.Add(genuine)
	q := w.query()
	q.Untrusted = []*x509.Certificate{w.sibling.cert, w.responder.cert}
	signed := func(der []byte) string {
		r, err := ocsp.ParseResponse(der)
		if err != nil {
			return ""
		}
		return string(r.Signed)
	}
	want := signed(genuine)
	f.Fuzz(func(t *testing.T, der []byte) {
		r, err := ocsp.ParseResponse(der)
		if err == nil {
			_, _ = r.VerifyResponder(q) // must not panic; what it says is tested elsewhere
		}
		result, err := ocsp.Verify(der, q)
		if err != nil && result.Status != pki.StatusUnknown {
			t.Fatalf("status %s beside %v", result.Status, err)
		}
		if err == nil && signed(der) != want {
			t.Fatalf("a forgery was accepted: %x", der)
		}
	})
}
