package ca_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net"
	"testing"

	"signet.example/signet/ca"
	"signet.example/signet/ca/profile"
	"signet.example/signet/pki"
)

// FuzzRequest reads whatever it is sent: it ends in names that are canonical and allowed, or in an error that says whose
// fault it is, never ours.
func FuzzRequest(f *testing.F) {
	key := newKey(f)
	f.Add(csr(f, key, "a.example.com"), "")
	f.Add(csrOf(f, key, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "host.example.com"}}), "")
	f.Add(csrOf(f, key, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "x"}, EmailAddresses: []string{"a@b.example"}, IPAddresses: []net.IP{net.IPv6loopback}}), "a.example.com")
	f.Add(csrOf(f, key, extension(asn1.ObjectIdentifier{2, 5, 29, 19}, []byte{0x30, 3, 1, 1, 0xff})), "*.example.com")
	set, err := profile.Open("")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, der []byte, name string) {
		for _, p := range set.All() {
			request := ca.Request{Profile: p.Name, CSR: der}
			if name != "" {
				request.Names = []pki.Identifier{{Type: pki.DNS, Value: name}}
			}
			names, err := ca.TestingOnlyRead(p, request)
			if err != nil && pki.KindOf(err) == pki.KindInternal {
				t.Errorf("internal error: %v", err)
			}
			for _, id := range names {
				if again, err := pki.NewIdentifier(id.Type, id.Value); err != nil || again != id {
					t.Errorf("%v is not canonical: %v", id, err)
				}
			}
		}
	})
}
