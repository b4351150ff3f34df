package ca_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"slices"
	"testing"
	"time"

	"signet.example/signet/ca"
	"signet.example/signet/ca/keys"
	"signet.example/signet/ca/profile"
	"signet.example/signet/pki"
)

// What people are shown before an off-line key signs is what the certificate says.
func TestAProposalSaysWhatIsSigned(t *testing.T) {
	profiles, err := profile.Open("")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2031, 2, 3, 4, 5, 6, 0, time.UTC)
	offline, err := ca.NewOffline(ca.OfflineConfig{Profiles: profiles, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	key := &keys.Key{Signer: newKey(t)}
	sign := func(p *ca.Proposal, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		der, err := p.Sign()
		if err != nil {
			t.Fatal(err)
		}
		c := parse(t, der)
		if urls := slices.Concat(c.CRLDistributionPoints, c.IssuingCertificateURL); !slices.Equal(p.URLs, urls) {
			t.Errorf("%s: shown %v, signed %v", p.Subject, p.URLs, urls)
		}
		if !p.NotBefore.Equal(now.Add(-time.Hour)) || !c.NotBefore.Equal(p.NotBefore) || !c.NotAfter.Equal(p.NotAfter) || c.Subject.String() != p.Subject || p.KeyHash != pki.HashSPKI(c.RawSubjectPublicKeyInfo) {
			t.Errorf("shown %+v, signed %s from %s to %s", p, c.Subject, c.NotBefore, c.NotAfter)
		}
		return der
	}
	root := sign(offline.ProposeRoot(key, ca.NewIssuer{Label: "root", Subject: ca.Subject{CommonName: "Root"}, BaseURL: "http://pki.test"}))
	request := csrOf(t, newKey(t), &x509.CertificateRequest{Subject: pkix.Name{CommonName: "Below"}})
	below := sign(offline.ProposeAuthority(ca.OfflineParent{Key: key, Certificate: root, BaseURL: "http://pki.test"}, request, ca.NewIssuer{}))
	if c := parse(t, below); len(parse(t, root).CRLDistributionPoints) != 0 || len(c.CRLDistributionPoints) != 1 || len(c.IssuingCertificateURL) != 1 || len(c.OCSPServer) != 0 {
		t.Errorf("it names %v, %v, %v: want a list and the root's certificate, and no OCSP", c.CRLDistributionPoints, c.IssuingCertificateURL, c.OCSPServer)
	}

	_, err = ca.NewOffline(ca.OfflineConfig{})
	wantError(t, err, pki.KindInvalid, "")
	if offline, err = ca.NewOffline(ca.OfflineConfig{Profiles: profiles}); err != nil {
		t.Fatal(err)
	}
	before := time.Now()
	p, err := offline.ProposeRoot(key, ca.NewIssuer{Label: "root", Subject: ca.Subject{CommonName: "Root"}, BaseURL: "http://pki.test"})
	if err != nil {
		t.Fatal(err)
	}
	if start := p.NotBefore.Add(time.Hour); start.Before(before.Add(-time.Second)) || start.After(time.Now()) {
		t.Errorf("without a clock it begins an hour before %s, and it is %s", start, before)
	}
}
