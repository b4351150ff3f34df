package ca_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"testing"

	"signet.example/signet/ca"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
)

// FuzzRequest sends whatever it finds through the whole pipeline: it ends in a certificate that a strict parser reads, or
// in an error that is not our fault.
func FuzzRequest(f *testing.F) {
	key := newKey(f)
	good := csr(f, key, "a.example.com")
	f.Add(good, "")
	f.Add(csrOf(f, key, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "x"}, EmailAddresses: []string{"a@b.example"}}), "a.example.com")
	f.Add(csrOf(f, key, extension(asn1.ObjectIdentifier{2, 5, 29, 19}, []byte{0x30, 3, 1, 1, 0xff})), "*.example.com")
	w := newTown(f, testdb.SQLite(f))
	f.Fuzz(func(t *testing.T, der []byte, name string) {
		for _, profile := range []string{"server", "client"} {
			request := ca.Request{Profile: profile, CSR: der}
			if name != "" {
				request.Names = []pki.Identifier{{Type: pki.DNS, Value: name}}
			}
			issued, err := w.issue(w.Authority, request)
			if err != nil {
				if pki.KindOf(err) == pki.KindInternal {
					t.Errorf("internal error: %v", err)
				}
				continue
			}
			c := parse(t, issued.DER)
			if c.IsCA || len(c.UnhandledCriticalExtensions) > 0 || len(c.ExtKeyUsage) != 1 {
				t.Errorf("issued %+v", c)
			}
		}
	})
}
