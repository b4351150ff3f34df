package ca_test

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"strings"
	"testing"
	"time"

	"signet.example/signet/ca"
	"signet.example/signet/ca/keys"
	"signet.example/signet/ca/profile"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
)

// tlv is DER of a short content.
func tlv(tag byte, content string) string { return string([]byte{tag, byte(len(content))}) + content }

// A CA of another program may have constraints on names of other forms, if nobody has to understand them. It is taken and issues; a certificate of
// ours for its name and key would be without them, so there is none.
func TestConstraintsThatAreNotWrittenAreNotDropped(t *testing.T) {
	ring := &keyring{opened: make(map[string]*keys.Key)}
	w := newTownWith(t, testdb.SQLite(t), ring)
	profiles, err := profile.Open("")
	if err != nil {
		t.Fatal(err)
	}
	offline, err := ca.NewOffline(ca.OfflineConfig{Profiles: profiles, Now: w.clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	rootKey, err := ring.Open(t.Context(), w.root.KeyURI)
	if err != nil {
		t.Fatal(err)
	}
	dns := tlv(0x82, "example.com")
	name := tlv(0x30, tlv(0x31, tlv(0x30, tlv(0x06, "\x55\x04\x0a")+tlv(0x0c, "Example"))))
	permit := func(subtrees ...string) string {
		all := ""
		for _, s := range subtrees {
			all += tlv(0x30, s)
		}
		return tlv(0xa0, all)
	}
	for i, test := range []struct {
		name  string
		value string // of the extension, without its SEQUENCE
		says  string // why it is not repeated; empty: it is
	}{
		{"directory names", permit(tlv(0xa4, name)), "directory names"},
		{"excluded directory names behind a domain", permit(dns) + tlv(0xa1, tlv(0x30, tlv(0xa4, name))), "directory names"},
		{"other names", permit(dns, tlv(0xa0, tlv(0x06, "\x2a\x03")+tlv(0xa0, tlv(0x0c, "x")))), "other names"},
		{"registered ids", permit(tlv(0x88, "\x2a\x03")), "registered ids"},
		{"a minimum", permit(dns + tlv(0x80, "\x01")), `names with a minimum or a maximum ("example.com")`},
		{"a maximum", permit(tlv(0x82, "example.org"), dns+tlv(0x81, "\x01")), `names with a minimum or a maximum ("example.com")`},
		{"what is written here", permit(dns, tlv(0x81, "example.com"), tlv(0x86, ".example.com"), tlv(0x87, "\x0a\x00\x00\x00\xff\x00\x00\x00")) + tlv(0xa1, tlv(0x30, tlv(0x82, "bad.example.com"))), ""},
	} {
		for _, critical := range []bool{false, true} {
			label := "old-" + string(rune('a'+i))
			if critical {
				label += "-critical"
			}
			t.Run(label, func(t *testing.T) {
				signer := newKey(t)
				uri := ring.URI(label)
				ring.opened[uri] = &keys.Key{Signer: signer, URI: uri, Secret: pki.SerialSecret{1}}
				template := &x509.Certificate{SerialNumber: big.NewInt(5), Subject: pkix.Name{CommonName: label}, NotBefore: w.clock.Now().Add(-time.Hour), NotAfter: w.clock.Now().Add(1000 * 24 * time.Hour),
					IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: []byte{7, byte(i)},
					ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 30}, Critical: critical, Value: []byte(tlv(0x30, test.value))}}}
				der, err := x509.CreateCertificate(rand.Reader, template, template, signer.Public(), signer)
				if err != nil {
					t.Fatal(err)
				}
				adopted, err := w.AdoptIssuer(t.Context(), w.manage(), ca.Adoption{Label: label, KeyURI: uri, BaseURL: "http://pki.test", DER: der})
				if critical && test.says != "" { // whoever verifies has to understand it
					if wantError(t, err, pki.KindRefused, "certificate"); err == nil || !strings.Contains(err.Error(), test.says) {
						t.Errorf("adopted: %v", err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if _, err := w.issue(w.withProfiles(t, map[string]string{label: "issuer: " + label + "\n"}), ca.Request{Profile: label, CSR: csr(t, newKey(t), "a.example.com")}); err != nil {
					t.Errorf("it does not issue: %v", err)
				}
				renewed, err := w.RenewIssuer(t.Context(), w.manage(), adopted.ID, 0)
				if test.says == "" {
					if err != nil {
						t.Fatal(err)
					}
					if c := parse(t, renewed.Certificates[0].DER); !c.PermittedDNSDomainsCritical || len(c.PermittedDNSDomains) != 1 || len(c.PermittedEmailAddresses) != 1 || len(c.PermittedURIDomains) != 1 ||
						len(c.PermittedIPRanges) != 1 || len(c.ExcludedDNSDomains) != 1 {
						t.Errorf("renewed: %+v", c)
					}
					return
				}
				_, crossed := w.CrossSign(t.Context(), w.manage(), adopted.ID, w.root.ID, 0)
				_, proposed := offline.ProposeCross(ca.OfflineParent{Key: rootKey, Certificate: w.root.Certificates[0].DER, BaseURL: "http://pki.test"}, der, 0)
				for what, err := range map[string]error{"renewed": err, "cross-signed": crossed, "cross-signed in a ceremony": proposed} {
					if wantError(t, err, pki.KindFailedPrecondition, "issuer"); err == nil || !strings.Contains(err.Error(), "constrains "+test.says) {
						t.Errorf("%s: %v", what, err)
					}
				}
			})
		}
	}
}
