package crl_test

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"signet.example/signet/crl"
	"signet.example/signet/pki"
)

// TestOpenSSLJudges has OpenSSL judge the same certificate by the same lists of ours, and wants the same verdict.
//
//	root -> leaf (points to a shard, or to a base with deltas)
func TestOpenSSLJudges(t *testing.T) {
	const shard, freshest = "http://crl.example/357-0.crl", "http://crl.example/delta.crl"
	ca := newAuthority(t, "Judged CA", newKey(t), func(c *x509.Certificate) { c.NotBefore = time.Now().AddDate(0, 0, -1) })
	sn := serial(1)
	leaf := func(url string) *x509.Certificate {
		template := &x509.Certificate{SerialNumber: sn.Big(), Subject: pkix.Name{CommonName: "judged"}, NotBefore: time.Now().AddDate(0, 0, -1), NotAfter: time.Now().AddDate(0, 0, 9),
			CRLDistributionPoints: []string{url}}
		der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, newKey(t).Public(), ca.key)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	revoke := crl.Revocation{Serial: sn, At: time.Now().Add(-time.Hour), Reason: pki.KeyCompromise}
	hold := crl.Revocation{Serial: sn, At: time.Now().Add(-time.Hour), Reason: pki.CertificateHold}
	remove := crl.Revocation{Serial: sn, At: time.Now().Add(-time.Minute), Reason: pki.RemoveFromCRL}

	type list struct {
		change  func(*crl.Template)
		entries []crl.Revocation
	}
	full := func(entries ...crl.Revocation) list {
		return list{func(t *crl.Template) { t.Freshest = []string{freshest} }, entries}
	}
	delta := func(entries ...crl.Revocation) list {
		return list{func(t *crl.Template) { t.Base, t.Number = 7, 8 }, entries}
	}
	sharded := func(url string, entries ...crl.Revocation) list {
		return list{func(t *crl.Template) { t.URLs, t.UserCerts = []string{"http://old.example/357-0.crl", url}, true }, entries}
	}
	for _, c := range []struct {
		name  string
		url   string
		lists []list
		want  crl.Status
	}{
		{"shard, good", shard, []list{sharded(shard)}, crl.Unrevoked},
		{"shard, revoked", shard, []list{sharded(shard, revoke)}, crl.Revoked},
		{"another shard", shard, []list{sharded("http://crl.example/357-1.crl", revoke)}, crl.Undetermined},
		{"base and delta, good", shard, []list{full(), delta()}, crl.Unrevoked},
		{"base and delta, revoked in the delta", shard, []list{full(), delta(revoke)}, crl.Revoked},
		{"base and delta, revoked in the base", shard, []list{full(revoke), delta()}, crl.Revoked},
		{"base and delta, released in the delta", shard, []list{full(hold), delta(remove)}, crl.Unrevoked},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, certificate := t.TempDir(), leaf(c.url)
			var pool []*crl.List
			var texts []byte
			for _, l := range c.lists {
				template := ca.template()
				template.ThisUpdate, template.NextUpdate = time.Now().Add(-time.Minute), time.Now().Add(time.Hour)
				l.change(&template)
				arena := &crl.Arena{}
				for i, r := range l.entries {
					arena.Add(uint64(i+1), r)
				}
				entries, _ := arena.At(9)
				der, _, err := signBytes(template, entries, ca.key)
				if err != nil {
					t.Fatal(err)
				}
				read, err := crl.Parse(der)
				if err != nil {
					t.Fatal(err)
				}
				pool = append(pool, read)
				texts = append(texts, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})...)
			}
			target, err := crl.NewTarget(certificate)
			if err != nil {
				t.Fatal(err)
			}
			if j := crl.Judge(target, pool, crl.Rules{At: time.Now(), Signers: signers(ca.cert)}); j.Status != c.want {
				t.Fatalf("we say %s, want %s: %v", j.Status, c.want, j.Rejected)
			}
			root, crls, subject := filepath.Join(dir, "root.pem"), filepath.Join(dir, "crls.pem"), filepath.Join(dir, "leaf.pem")
			write(t, root, pemCertificate(ca.cert))
			write(t, crls, texts)
			write(t, subject, pemCertificate(certificate))
			out, err := exec.Command("openssl", "verify", "-crl_check", "-extended_crl", "-use_deltas", "-CAfile", root, "-CRLfile", crls, subject).CombinedOutput()
			theirs := crl.Undetermined
			switch {
			case err == nil && strings.Contains(string(out), "OK"):
				theirs = crl.Unrevoked
			case strings.Contains(string(out), "certificate revoked"):
				theirs = crl.Revoked
			}
			if theirs != c.want {
				t.Fatalf("openssl says %s, want %s\n%s", theirs, c.want, out)
			}
		})
	}
}

// TestIndependentSerial: crypto/x509 and we agree on what a serial is.
func TestIndependentSerial(t *testing.T) {
	w := newWorld(t)
	target := w.leaf(t, func(c *x509.Certificate) { c.SerialNumber = new(big.Int).SetBytes([]byte{0xff, 1}) })
	if string(target.Serial) != "\x00\xff\x01" {
		t.Fatalf("serial is %x", target.Serial)
	}
}
