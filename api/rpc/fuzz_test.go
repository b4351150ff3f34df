package rpc_test

import (
	"crypto/x509"
	"slices"
	"strings"
	"testing"

	"signet.example/signet/api/rpc"
)

// The names that are shown are those that crypto/x509 reads, for everything that it takes for a certificate.
func FuzzIdentifiers(f *testing.F) {
	f.Add(selfSigned(f))
	f.Add([]byte{0x30, 0x03, 0x30, 0x01, 0x00})
	f.Fuzz(func(t *testing.T, der []byte) {
		names := rpc.IdentifiersTo(der)
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			return
		}
		var want []string
		for _, name := range certificate.DNSNames {
			want = append(want, "dns:"+name)
		}
		var got []string
		for _, name := range names {
			if strings.HasPrefix(name, "dns:") {
				got = append(got, name)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
	})
}
