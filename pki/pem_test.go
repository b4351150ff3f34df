package pki_test

import (
	"encoding/pem"
	"slices"
	"testing"

	"signet.example/signet/pki"
)

func TestCertificatesInPEM(t *testing.T) {
	block := func(kind, octets string) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: []byte(octets)}))
	}
	for name, test := range map[string]struct {
		text string
		want []string
	}{
		"none":                  {"no PEM at all", nil},
		"a key":                 {block("PRIVATE KEY", "key"), nil},
		"two":                   {block("CERTIFICATE", "leaf") + block("CERTIFICATE", "issuer"), []string{"leaf", "issuer"}},
		"between other things":  {"subject: x\n" + block("PRIVATE KEY", "key") + block("CERTIFICATE", "leaf") + "\n" + block("X509 CRL", "list") + block("CERTIFICATE", "issuer") + "end", []string{"leaf", "issuer"}},
		"one of another format": {block("TRUSTED CERTIFICATE", "trusted") + block("CERTIFICATE", "leaf"), []string{"leaf"}},
	} {
		var got []string
		for _, der := range pki.CertificatesInPEM([]byte(test.text)) {
			got = append(got, string(der))
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}
