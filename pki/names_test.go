package pki_test

import (
	"crypto/x509/pkix"
	"testing"

	"signet.example/signet/pki"
)

// TestCommonNameOf reads what crypto/x509 writes.
func TestCommonNameOf(t *testing.T) {
	for _, name := range []string{"app.example", "Example, Ltd. CA 2", `a+b"c\d`, "#1 <CA>;", " blanks ", "Zürich CN=x,CN=y"} {
		subject := pkix.Name{CommonName: name, Organization: []string{"CN=Other, with a comma"}, SerialNumber: "7"}
		if got := pki.CommonNameOf(subject.String()); got != name {
			t.Errorf("%q of %s, want %q", got, subject, name)
		}
	}
	if got := pki.CommonNameOf((pkix.Name{Organization: []string{"X"}}).String()); got != "" {
		t.Errorf("%q of a name without one", got)
	}
}
