package verify_test

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"math/big"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"signet.example/signet/handshake/verify"
)

// question is a chain root -> int -> leaf with nothing wrong, to be spoiled by a case.
func question(t *testing.T) (q *verify.Case, root, int, leaf *entity) {
	root = issue(t, "root", nil, true, nil)
	int = issue(t, "int", root, true, nil)
	leaf = issue(t, "leaf", int, false, nil)
	return &verify.Case{
		Kind: verify.KindChain, Roots: ders(root), Intermediates: ders(int), Leaf: leaf.Raw, Time: now.Format(time.RFC3339), Revocation: verify.RevocationHardChain,
		CRLs: []verify.DER{root.list(t, nil), int.list(t, nil)},
	}, root, int, leaf
}

func expect(t *testing.T, q *verify.Case, result verify.Verdict, class verify.Class) verify.Result {
	t.Helper()
	got := verify.Judge(q)
	if got.Result != result || got.Class != class {
		t.Errorf("%s %q (%s), want %s %q", got.Result, got.Class, got.Detail, result, class)
	}
	return got
}

// TestEndedRevocationAndHold: against a list that has ended and revokes for good, one that holds and has not ended is
// not the last word either.
func TestEndedRevocationAndHold(t *testing.T) {
	q, _, ca, leaf := question(t)
	q.CRLs[1] = ca.list(t, func(l *x509.RevocationList) {
		l.ThisUpdate, l.RevokedCertificateEntries[0].ReasonCode = now.Add(-2*time.Hour), 6
	}, leaf)
	q.CRLs = append(q.CRLs, ca.list(t, func(l *x509.RevocationList) { l.NextUpdate, l.Number = now.Add(-time.Minute), big.NewInt(8) }, leaf))
	if got := expect(t, q, verify.Reject, verify.ClassRevoked); got.PerCert[0].Reason != "keyCompromise" {
		t.Errorf("revoked for %s", got.PerCert[0].Reason)
	}
}

// TestManyStaleLists: the signer of a list is checked once, however many lists it signed. The work for N lists that two
// signers made alternately, each judged by all of them, does not grow with the fourth power of N; nor does that for N
// lists by N signers.
func TestManyStaleLists(t *testing.T) {
	q, _, ca, _ := question(t)
	var signers []*entity
	took := func(n, most int) uint64 {
		for len(signers) < most {
			signers = append(signers, issue(t, "int", ca, true, nil))
			q.Intermediates = append(q.Intermediates, signers[len(signers)-1].Raw)
		}
		q.CRLs = q.CRLs[:1]
		for i := range n {
			q.CRLs = append(q.CRLs, signers[i%most].list(t, func(l *x509.RevocationList) { l.NextUpdate = now.Add(-time.Minute) }))
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		expect(t, q, verify.Reject, verify.ClassStale)
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	if few, many := took(4, 2), took(16, 2); many > 16*few {
		t.Errorf("4 lists took %d octets of memory, 16 took %d", few, many)
	}
	if few, many := took(4, 4), took(16, 16); many > 24*few {
		t.Errorf("4 lists of 4 signers took %d octets of memory, 16 of 16 took %d", few, many)
	}
}

// TestSignerOfOneChain: a key that signs lists leads to the anchor of one of two chains. What was found of it in the
// other is no answer in this one, whichever comes first.
func TestSignerOfOneChain(t *testing.T) {
	q, root, ca, _ := question(t)
	other := issue(t, "other", nil, true, nil)
	cross := *ca.Certificate
	cross.SerialNumber = big.NewInt(4711)
	der, err := x509.CreateCertificate(rand.Reader, &cross, other.Certificate, ca.key.Public(), other.key)
	if err != nil {
		t.Fatal(err)
	}
	q.Roots, q.Intermediates = ders(root, other), append(q.Intermediates, der)
	intermediates := q.Intermediates
	for _, above := range []*entity{root, other} {
		signer := issue(t, "int", above, true, nil)
		q.Intermediates = append(intermediates[:2:2], signer.Raw)
		q.CRLs = []verify.DER{root.list(t, nil), other.list(t, nil), signer.list(t, nil)}
		expect(t, q, verify.Accept, "")

		// Nothing is known about int in the chain of the other anchor: there the signer of the leaf's list is not known
		// to be revoked.
		revoked := issue(t, "int", ca, true, nil)
		q.Intermediates = append(intermediates[:2:2], signer.Raw, revoked.Raw)
		only := func(whom byte) func(*x509.RevocationList) {
			scope := pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: []byte{0x30, 3, whom, 1, 0xff}}
			return func(l *x509.RevocationList) { l.ExtraExtensions = append(l.ExtraExtensions, scope) }
		}
		users, authorities := only(0x81), only(0x82)
		q.CRLs = []verify.DER{above.list(t, nil), revoked.list(t, users), signer.list(t, authorities, revoked)}
		if got := verify.Judge(q); got.Result != verify.Reject {
			t.Errorf("%s", got.Result)
		}
	}
}

// TestChain takes a chain through every class of fault, and one of each that is none.
func TestChain(t *testing.T) {
	text := func(s string) *string { return &s }
	for _, tc := range []struct {
		name   string
		spoil  func(t *testing.T, q *verify.Case, root, int, leaf *entity)
		result verify.Verdict
		class  verify.Class
	}{
		{"good", func(t *testing.T, q *verify.Case, root, int, leaf *entity) {}, verify.Accept, ""},
		{"right name", func(t *testing.T, q *verify.Case, root, int, leaf *entity) { q.DNS = text("leaf.test") }, verify.Accept, ""},
		{"wrong name", func(t *testing.T, q *verify.Case, root, int, leaf *entity) { q.DNS = text("other.test") }, verify.Reject, verify.ClassName},
		{"wrong address", func(t *testing.T, q *verify.Case, root, int, leaf *entity) { q.IP = text("::1") }, verify.Reject, verify.ClassName},
		{"expired", func(t *testing.T, q *verify.Case, root, int, leaf *entity) { q.Time = "2028-01-01T00:00:00Z" }, verify.Reject, verify.ClassExpired},
		{"garbage", func(t *testing.T, q *verify.Case, root, int, leaf *entity) { q.Leaf = []byte("garbage") }, verify.Reject, verify.ClassParse},
		{"garbage among the intermediates", func(t *testing.T, q *verify.Case, root, int, leaf *entity) {
			q.Intermediates = append(q.Intermediates, []byte("x"))
		}, verify.Accept, ""},
		{"garbage in place of the intermediate", func(t *testing.T, q *verify.Case, root, int, leaf *entity) {
			q.Intermediates = []verify.DER{[]byte("x")}
		}, verify.Reject, verify.ClassParse},
		{"missing intermediate", func(t *testing.T, q *verify.Case, root, int, leaf *entity) { q.Intermediates = nil }, verify.Reject, verify.ClassPath},
		{"no root", func(t *testing.T, q *verify.Case, root, int, leaf *entity) { q.Roots = nil }, verify.Reject, verify.ClassPath},
		{"wrong use", func(t *testing.T, q *verify.Case, root, int, leaf *entity) {
			q.Leaf, q.EKU = issue(t, "client", int, false, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }).Raw, "serverAuth"
		}, verify.Reject, verify.ClassPath},
		{"policy", func(t *testing.T, q *verify.Case, root, int, leaf *entity) {
			q.Policies = []string{"1.2.3.4"}
			q.Leaf = issue(t, "policy", int, false, func(c *x509.Certificate) {
				c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 36}, Critical: true, Value: []byte{0x30, 3, 0x80, 1, 0}}}
			}).Raw
		}, verify.Reject, verify.ClassPolicy},
		{"unknown critical extension", func(t *testing.T, q *verify.Case, root, int, leaf *entity) {
			q.Leaf = issue(t, "critical", int, false, func(c *x509.Certificate) {
				c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
			}).Raw
		}, verify.Reject, verify.ClassUnsupported},
		{"nocheck, critical", func(t *testing.T, q *verify.Case, root, int, leaf *entity) {
			q.CRLs = q.CRLs[:1]
			q.Leaf = issue(t, "responder", int, false, func(c *x509.Certificate) {
				c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}
				c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}, Critical: true, Value: []byte{5, 0}}}
			}).Raw
		}, verify.Accept, ""},
		{"explicit policy", func(t *testing.T, q *verify.Case, root, int, leaf *entity) { q.ExplicitPolicy = true }, verify.Reject, verify.ClassPolicy},
		{"no clock", func(t *testing.T, q *verify.Case, root, int, leaf *entity) { q.Time = "" }, verify.Reject, verify.ClassUnsupported},

		{"revoked leaf", func(t *testing.T, q *verify.Case, root, int, leaf *entity) { q.CRLs[1] = int.list(t, nil, leaf) }, verify.Reject, verify.ClassRevoked},
		{"revoked intermediate", func(t *testing.T, q *verify.Case, root, int, leaf *entity) { q.CRLs[0] = root.list(t, nil, int) }, verify.Reject, verify.ClassRevoked},
		{"revoked intermediate, leaf asked", func(t *testing.T, q *verify.Case, root, int, leaf *entity) {
			q.CRLs[0], q.Revocation = root.list(t, nil, int), verify.RevocationHardLeaf
		}, verify.Accept, ""},
		{"revoked intermediate that answers, leaf asked", func(t *testing.T, q *verify.Case, root, int, leaf *entity) {
			q.CRLs, q.OCSPs, q.Revocation = []verify.DER{root.list(t, nil, int)}, []verify.DER{leaf.response(t, ocsp.Good, nil, nil)}, verify.RevocationHardLeaf
		}, verify.Accept, ""},
		{"revoked leaf, nobody asked", func(t *testing.T, q *verify.Case, root, int, leaf *entity) {
			q.CRLs[1], q.Revocation = int.list(t, nil, leaf), verify.RevocationOff
		}, verify.Accept, ""},
		{"no CRL of the root", func(t *testing.T, q *verify.Case, root, int, leaf *entity) { q.CRLs = q.CRLs[1:] }, verify.Reject, verify.ClassNoInformation},
		{"no CRL of the root, soft", func(t *testing.T, q *verify.Case, root, int, leaf *entity) {
			q.CRLs, q.Revocation = q.CRLs[1:], verify.RevocationSoftChain
		}, verify.Accept, ""},
		{"garbage in place of CRLs", func(t *testing.T, q *verify.Case, root, int, leaf *entity) {
			q.CRLs = []verify.DER{[]byte("x")}
		}, verify.Reject, verify.ClassParse},
		{"garbage in place of a CRL, soft", func(t *testing.T, q *verify.Case, root, int, leaf *entity) {
			q.CRLs[1], q.Revocation = []byte("x"), verify.RevocationSoftLeaf
		}, verify.Reject, verify.ClassParse},
		{"garbage beside the CRLs", func(t *testing.T, q *verify.Case, root, int, leaf *entity) { q.CRLs = append(q.CRLs, []byte("x")) }, verify.Accept, ""},
		{"garbage beside an old CRL", func(t *testing.T, q *verify.Case, root, int, leaf *entity) {
			q.CRLs[1] = int.list(t, func(l *x509.RevocationList) { l.NextUpdate = now.Add(-time.Minute) })
			q.CRLs = append(q.CRLs, []byte("x"))
		}, verify.Reject, verify.ClassStale},
		{"CRL of a stranger, and one of the name who may sign none", func(t *testing.T, q *verify.Case, root, int, leaf *entity) {
			q.CRLs[1] = issue(t, "int", nil, true, nil).list(t, nil)
			q.Intermediates = append(q.Intermediates, issue(t, "int", root, true, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCertSign }).Raw)
		}, verify.Reject, verify.ClassBadSignature},
		{"CRL of an unknown algorithm", func(t *testing.T, q *verify.Case, root, int, leaf *entity) {
			sha256 := []byte{0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2}
			q.CRLs[1] = bytes.ReplaceAll(q.CRLs[1], sha256, append(sha256[:7:7], 0x7f))
		}, verify.Reject, verify.ClassUnsupported},
		{"old CRL", func(t *testing.T, q *verify.Case, root, int, leaf *entity) {
			q.CRLs[1] = int.list(t, func(l *x509.RevocationList) { l.NextUpdate = now.Add(-time.Minute) })
		}, verify.Reject, verify.ClassStale},
		{"old CRL that names it, soft", func(t *testing.T, q *verify.Case, root, int, leaf *entity) {
			q.CRLs[1], q.Revocation = int.list(t, func(l *x509.RevocationList) { l.NextUpdate = now.Add(-time.Minute) }, leaf), verify.RevocationSoftLeaf
		}, verify.Reject, verify.ClassRevoked},
		{"old CRL, ignored", func(t *testing.T, q *verify.Case, root, int, leaf *entity) {
			q.CRLs[1] = int.list(t, func(l *x509.RevocationList) { l.NextUpdate = now.Add(-time.Minute) })
			q.CRLExpiration = "ignore"
		}, verify.Accept, ""},
		{"old CRL, ignored, but not its age", func(t *testing.T, q *verify.Case, root, int, leaf *entity) {
			q.CRLs[1] = int.list(t, func(l *x509.RevocationList) { l.NextUpdate = now.Add(-time.Minute) })
			q.CRLExpiration, q.MaxAge = "ignore", text("59m59s")
		}, verify.Reject, verify.ClassStale},
		{"old CRL, ignored, and young enough", func(t *testing.T, q *verify.Case, root, int, leaf *entity) {
			q.CRLs[1] = int.list(t, func(l *x509.RevocationList) { l.NextUpdate = now.Add(-time.Minute) })
			q.CRLExpiration, q.MaxAge = "ignore", text("1h")
		}, verify.Accept, ""},
		{"revoking CRL beyond its age", func(t *testing.T, q *verify.Case, root, int, leaf *entity) {
			q.CRLs[1], q.MaxAge = int.list(t, nil, leaf), text("59m59s")
		}, verify.Reject, verify.ClassRevoked},
		{"stale CRL that revokes, and an older one that has not ended", func(t *testing.T, q *verify.Case, root, int, leaf *entity) {
			q.CRLs[1] = int.list(t, func(l *x509.RevocationList) { l.ThisUpdate = now.Add(-2 * time.Hour) })
			q.CRLs = append(q.CRLs, int.list(t, func(l *x509.RevocationList) { l.NextUpdate, l.Number = now.Add(-time.Minute), big.NewInt(8) }, leaf))
		}, verify.Reject, verify.ClassRevoked},
		{"stale CRL that holds, and an older one that has not ended", func(t *testing.T, q *verify.Case, root, int, leaf *entity) {
			q.CRLs[1] = int.list(t, func(l *x509.RevocationList) { l.ThisUpdate = now.Add(-2 * time.Hour) })
			q.CRLs = append(q.CRLs, int.list(t, func(l *x509.RevocationList) {
				l.NextUpdate, l.Number, l.RevokedCertificateEntries[0].ReasonCode = now.Add(-time.Minute), big.NewInt(8), 6
			}, leaf))
		}, verify.Accept, ""},
		{"stale delta that revokes", func(t *testing.T, q *verify.Case, root, int, leaf *entity) {
			q.CRLs = append(q.CRLs, int.list(t, func(l *x509.RevocationList) {
				l.NextUpdate, l.Number, l.ExtraExtensions = now.Add(-time.Minute), big.NewInt(8), []pkix.Extension{deltaOf(7)}
			}, leaf))
		}, verify.Reject, verify.ClassRevoked},
		{"CRL too old for me", func(t *testing.T, q *verify.Case, root, int, leaf *entity) { q.MaxAge = text("30m") }, verify.Reject, verify.ClassStale},
		{"CRL of tomorrow", func(t *testing.T, q *verify.Case, root, int, leaf *entity) {
			q.CRLs[1] = int.list(t, func(l *x509.RevocationList) {
				l.ThisUpdate, l.NextUpdate = now.Add(time.Hour), now.Add(2*time.Hour)
			})
		}, verify.Reject, verify.ClassStale},
		{"CRL with another signature", func(t *testing.T, q *verify.Case, root, int, leaf *entity) {
			q.CRLs[1][len(q.CRLs[1])-1] ^= 1
		}, verify.Reject, verify.ClassBadSignature},
		{"a bad CRL beside a good one", func(t *testing.T, q *verify.Case, root, int, leaf *entity) {
			bad := bytes.Clone(q.CRLs[1])
			bad[len(bad)-1] ^= 1
			q.CRLs = append([]verify.DER{bad}, q.CRLs...)
		}, verify.Accept, ""},
		{"CRL of a stranger of the same name", func(t *testing.T, q *verify.Case, root, int, leaf *entity) {
			other := issue(t, "int", nil, true, nil)
			q.CRLs[1] = other.list(t, nil)
			q.Intermediates = append(q.Intermediates, other.Raw)
		}, verify.Reject, verify.ClassBadSignature},
		{"CRL with an unknown critical extension", func(t *testing.T, q *verify.Case, root, int, leaf *entity) {
			q.CRLs[1] = int.list(t, with(pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}))
		}, verify.Reject, verify.ClassUnsupported},
		{"issuer without cRLSign", func(t *testing.T, q *verify.Case, root, int, leaf *entity) {
			ca := issue(t, "certs only", root, true, nil)
			shadow := issue(t, "certs only", root, true, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCertSign })
			list := ca.list(t, nil)
			q.Intermediates, q.Leaf, q.CRLs[1] = ders(shadow), issue(t, "l", shadow, false, nil).Raw, list
		}, verify.Reject, verify.ClassPath},

		{"separate key for CRLs", func(t *testing.T, q *verify.Case, root, int, leaf *entity) {
			signer := issue(t, "int", root, false, func(c *x509.Certificate) { c.KeyUsage, c.DNSNames = x509.KeyUsageCRLSign, nil })
			q.Intermediates, q.CRLs[1] = ders(int, signer), signer.list(t, nil)
		}, verify.Accept, ""},
		{"separate key for CRLs, revoked leaf", func(t *testing.T, q *verify.Case, root, int, leaf *entity) {
			signer := issue(t, "int", root, false, func(c *x509.Certificate) { c.KeyUsage, c.DNSNames = x509.KeyUsageCRLSign, nil })
			q.Intermediates, q.CRLs[1] = ders(int, signer), signer.list(t, nil, leaf)
		}, verify.Reject, verify.ClassRevoked},
		{"separate key for CRLs, itself revoked", func(t *testing.T, q *verify.Case, root, int, leaf *entity) {
			signer := issue(t, "int", root, false, func(c *x509.Certificate) { c.KeyUsage, c.DNSNames = x509.KeyUsageCRLSign, nil })
			q.Intermediates, q.CRLs[0], q.CRLs[1] = ders(int, signer), root.list(t, nil, signer), signer.list(t, nil)
		}, verify.Reject, verify.ClassBadSignature},
		{"separate key for CRLs, expired", func(t *testing.T, q *verify.Case, root, int, leaf *entity) {
			signer := issue(t, "int", root, false, func(c *x509.Certificate) {
				c.KeyUsage, c.DNSNames, c.NotAfter = x509.KeyUsageCRLSign, nil, now.Add(-time.Hour)
			})
			q.Intermediates, q.CRLs[1] = ders(int, signer), signer.list(t, nil)
		}, verify.Reject, verify.ClassBadSignature},
		{"separate key for CRLs, of another root", func(t *testing.T, q *verify.Case, root, int, leaf *entity) {
			signer := issue(t, "int", issue(t, "root", nil, true, nil), false, func(c *x509.Certificate) { c.KeyUsage, c.DNSNames = x509.KeyUsageCRLSign, nil })
			q.Intermediates, q.CRLs[1] = ders(int, signer), signer.list(t, nil)
		}, verify.Reject, verify.ClassBadSignature},
		{"separate key for CRLs, two steps from the root", func(t *testing.T, q *verify.Case, root, int, leaf *entity) {
			middle := issue(t, "middle", root, true, nil)
			signer := issue(t, "int", middle, false, func(c *x509.Certificate) { c.KeyUsage, c.DNSNames = x509.KeyUsageCRLSign, nil })
			q.Intermediates, q.CRLs[1] = ders(signer, int, middle), signer.list(t, nil)
		}, verify.Accept, ""},
		{"separate key for CRLs, issued by a leaf", func(t *testing.T, q *verify.Case, root, int, leaf *entity) {
			// No key usage forbids it.
			open := issue(t, "open", int, false, func(c *x509.Certificate) { c.KeyUsage = 0 })
			signer := issue(t, "int", open, false, func(c *x509.Certificate) { c.KeyUsage, c.DNSNames = x509.KeyUsageCRLSign, nil })
			q.Intermediates, q.CRLs[1] = ders(int, signer, open), signer.list(t, nil)
		}, verify.Reject, verify.ClassBadSignature},
		{"distribution point relative to the issuer", func(t *testing.T, q *verify.Case, root, int, leaf *entity) {
			// An RDN: CN = x.
			relative := element(0xa1, element(0x30, append(element(6, 0x55, 4, 3), element(12, 'x')...)...)...)
			q.Leaf = issue(t, "relative", int, false, func(c *x509.Certificate) {
				c.ExtraExtensions = []pkix.Extension{points(element(0x30, element(0xa0, relative...)...))}
			}).Raw
		}, verify.Accept, ""},
		{"mail constraint without a period", func(t *testing.T, q *verify.Case, root, int, leaf *entity) {
			limited := issue(t, "limited", root, true, func(c *x509.Certificate) { c.PermittedEmailAddresses = []string{"mail.test"} })
			q.Leaf = issue(t, "mail", limited, false, func(c *x509.Certificate) { c.DNSNames, c.EmailAddresses = nil, []string{"a@sub.mail.test"} }).Raw
			q.Intermediates, q.Revocation = ders(limited), verify.RevocationOff
		}, verify.Reject, verify.ClassPath},
		{"name spelt otherwise, of another key", func(t *testing.T, q *verify.Case, root, int, leaf *entity) {
			q.Intermediates = ders(issue(t, "INT", root, true, nil))
		}, verify.Reject, verify.ClassPath},

		{"staple says good", func(t *testing.T, q *verify.Case, root, int, leaf *entity) {
			q.CRLs, q.OCSPs = q.CRLs[:1], []verify.DER{leaf.response(t, ocsp.Good, nil, nil)}
		}, verify.Accept, ""},
		{"staple says revoked, CRL good", func(t *testing.T, q *verify.Case, root, int, leaf *entity) {
			q.OCSPs = []verify.DER{leaf.response(t, ocsp.Revoked, nil, nil)}
		}, verify.Reject, verify.ClassRevoked},
		{"staple says good, CRL revoked", func(t *testing.T, q *verify.Case, root, int, leaf *entity) {
			q.CRLs[1], q.OCSPs = int.list(t, nil, leaf), []verify.DER{leaf.response(t, ocsp.Good, nil, nil)}
		}, verify.Reject, verify.ClassRevoked},
		{"staple says unknown", func(t *testing.T, q *verify.Case, root, int, leaf *entity) {
			q.CRLs, q.OCSPs = nil, []verify.DER{leaf.response(t, ocsp.Unknown, nil, nil)}
			q.Revocation = verify.RevocationHardLeaf
		}, verify.Reject, verify.ClassNoInformation},
		{"staple signed by a sibling", func(t *testing.T, q *verify.Case, root, int, leaf *entity) {
			q.CRLs, q.OCSPs = nil, []verify.DER{leaf.response(t, ocsp.Good, issue(t, "sibling", int, false, nil), nil)}
			q.Revocation = verify.RevocationHardLeaf
		}, verify.Reject, verify.ClassPath},

		{"staple of a responder that is revoked", func(t *testing.T, q *verify.Case, root, int, leaf *entity) {
			responder := issue(t, "responder", int, false, func(c *x509.Certificate) {
				c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}
				c.ExtraExtensions = []pkix.Extension{points(uriPoint("http://crl.test/here", 0))}
			})
			elsewhere := points(uriPoint("http://crl.test/elsewhere", 0))
			q.Leaf = issue(t, "sharded", int, false, func(c *x509.Certificate) { c.ExtraExtensions = []pkix.Extension{elsewhere} }).Raw
			parsed, err := x509.ParseCertificate(q.Leaf)
			if err != nil {
				t.Fatal(err)
			}
			q.CRLs[1] = int.list(t, with(scope(scopeURI("http://crl.test/here"))), responder)
			q.OCSPs = []verify.DER{(&entity{Certificate: parsed, issuer: int}).response(t, ocsp.Good, responder, nil)}
			q.Revocation = verify.RevocationHardLeaf
		}, verify.Reject, verify.ClassPath},
		{"noRevAvail", func(t *testing.T, q *verify.Case, root, int, leaf *entity) {
			q.CRLs = q.CRLs[:1]
			q.Leaf = issue(t, "short", int, false, func(c *x509.Certificate) {
				c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 56}, Value: []byte{5, 0}}}
			}).Raw
		}, verify.Accept, ""},
		{"noRevAvail and a distribution point", func(t *testing.T, q *verify.Case, root, int, leaf *entity) {
			q.Leaf = issue(t, "both", int, false, func(c *x509.Certificate) {
				c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 56}, Value: []byte{5, 0}}}
				c.CRLDistributionPoints = []string{"http://crl.test/1"}
			}).Raw
			q.Revocation = verify.RevocationSoftLeaf
		}, verify.Reject, verify.ClassPath},
		{"negative serial", func(t *testing.T, q *verify.Case, root, int, leaf *entity) {
			odd := foreignSerial(t, int, []byte{0xff})
			q.Leaf = odd.Raw
		}, verify.Accept, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			q, root, int, leaf := question(t)
			tc.spoil(t, q, root, int, leaf)
			expect(t, q, tc.result, tc.class)
		})
	}
}

// foreignSerial makes a certificate whose serial number has these INTEGER content octets, one as long as those that
// are replaced: crypto/x509 refuses to make it, and others did.
func foreignSerial(t *testing.T, issuer *entity, octets []byte) *entity {
	t.Helper()
	e := issue(t, "odd", issuer, false, func(c *x509.Certificate) { c.SerialNumber = big.NewInt(0x55) })
	tbs := bytes.Replace(e.RawTBSCertificate, []byte{2, 1, 0x55}, append([]byte{2, byte(len(octets))}, octets...), 1)
	der := resign(t, tbs, e, issuer)
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	e.Certificate = parsed
	return e
}

// TestDistributionPoints follows the shape of PKITS, section 4.14: which list counts for which certificate.
func TestDistributionPoints(t *testing.T) {
	const here, there = "http://crl.test/here", "http://crl.test/there"
	flags := func(bits byte) []byte { return element(0x83, 0, bits) } // onlySomeReasons
	for _, tc := range []struct {
		name   string
		leaf   []pkix.Extension
		lists  func(t *testing.T, int, leaf *entity) []verify.DER
		result verify.Verdict
	}{
		{"point and scope match", []pkix.Extension{points(uriPoint(here, 0))}, func(t *testing.T, int, leaf *entity) []verify.DER {
			return []verify.DER{int.list(t, with(scope(scopeURI(here))))}
		}, verify.Good},
		{"point and scope match, revoked", []pkix.Extension{points(uriPoint(here, 0))}, func(t *testing.T, int, leaf *entity) []verify.DER {
			return []verify.DER{int.list(t, with(scope(scopeURI(here))), leaf)}
		}, verify.Revoked},
		{"another scope", []pkix.Extension{points(uriPoint(here, 0))}, func(t *testing.T, int, leaf *entity) []verify.DER {
			return []verify.DER{int.list(t, with(scope(scopeURI(there))))}
		}, verify.Unknown},
		{"another scope, named there", []pkix.Extension{points(uriPoint(here, 0))}, func(t *testing.T, int, leaf *entity) []verify.DER {
			return []verify.DER{int.list(t, with(scope(scopeURI(there))), leaf)}
		}, verify.Unknown},
		{"the second point", []pkix.Extension{points(uriPoint(there, 0), uriPoint(here, 0))}, func(t *testing.T, int, leaf *entity) []verify.DER {
			return []verify.DER{int.list(t, with(scope(scopeURI(here))), leaf)}
		}, verify.Revoked},
		{"only CA certificates", nil, func(t *testing.T, int, leaf *entity) []verify.DER {
			return []verify.DER{int.list(t, with(scope(element(0x82, 0xff))))}
		}, verify.Unknown},
		{"only user certificates", nil, func(t *testing.T, int, leaf *entity) []verify.DER {
			return []verify.DER{int.list(t, with(scope(element(0x81, 0xff))))}
		}, verify.Good},
		{"only attribute certificates", nil, func(t *testing.T, int, leaf *entity) []verify.DER {
			return []verify.DER{int.list(t, with(scope(element(0x85, 0xff))))}
		}, verify.Unknown},
		{"some reasons", nil, func(t *testing.T, int, leaf *entity) []verify.DER {
			return []verify.DER{int.list(t, with(scope(flags(0x60))))}
		}, verify.Unknown},
		{"some reasons, revoked for one", nil, func(t *testing.T, int, leaf *entity) []verify.DER {
			return []verify.DER{int.list(t, with(scope(flags(0x60))), leaf)}
		}, verify.Revoked},
		{"delta adds", nil, func(t *testing.T, int, leaf *entity) []verify.DER {
			delta := int.list(t, func(l *x509.RevocationList) {
				l.Number = big.NewInt(8)
				with(deltaOf(7))(l)
			}, leaf)
			return []verify.DER{delta, int.list(t, nil)}
		}, verify.Revoked},
		{"delta of a newer base", nil, func(t *testing.T, int, leaf *entity) []verify.DER {
			delta := int.list(t, func(l *x509.RevocationList) {
				l.Number = big.NewInt(9)
				with(deltaOf(8))(l)
			}, leaf)
			return []verify.DER{int.list(t, nil), delta}
		}, verify.Good},
		{"delta alone", nil, func(t *testing.T, int, leaf *entity) []verify.DER {
			return []verify.DER{int.list(t, func(l *x509.RevocationList) {
				l.Number = big.NewInt(8)
				with(deltaOf(7))(l)
			})}
		}, verify.Unknown},
	} {
		t.Run(tc.name, func(t *testing.T) {
			root := issue(t, "root", nil, true, nil)
			int := issue(t, "int", root, true, nil)
			leaf := issue(t, "leaf", int, false, func(c *x509.Certificate) { c.ExtraExtensions = tc.leaf })
			got := verify.Judge(&verify.Case{Kind: verify.KindCRL, CRLs: tc.lists(t, int, leaf), Issuers: ders(int), Leaf: leaf.Raw, Time: now.Format(time.RFC3339)})
			if got.Result != tc.result {
				t.Errorf("%s (%s), want %s", got.Result, got.Detail, tc.result)
			}
		})
	}
}

// TestIndirect: a CRL of another authority counts if the certificate names that authority and the list says it is
// indirect, and its entries count for the issuer they name.
func TestIndirect(t *testing.T) {
	root := issue(t, "root", nil, true, nil)
	int := issue(t, "int", root, true, nil)
	other := issue(t, "lister", root, true, nil)
	cRLIssuer := element(0x30, element(0xa2, element(0xa4, other.RawSubject...)...)...)
	leaf := issue(t, "leaf", int, false, func(c *x509.Certificate) { c.ExtraExtensions = []pkix.Extension{points(cRLIssuer)} })
	about := pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 29}, Critical: true, Value: element(0x30, element(0xa4, int.RawSubject...)...)}
	indirect := scope(element(0x84, 0xff))
	list := func(extension pkix.Extension, entry ...pkix.Extension) verify.DER {
		return other.list(t, func(l *x509.RevocationList) {
			with(extension)(l)
			l.RevokedCertificateEntries[0].ExtraExtensions = entry
		}, leaf)
	}
	for _, tc := range []struct {
		name   string
		list   verify.DER
		result verify.Verdict
	}{
		{"names the issuer", list(indirect, about), verify.Revoked},
		{"is of the lister's own", list(indirect), verify.Good},
		{"is not indirect", list(scope(element(0x81, 0xff)), about), verify.Unknown},
	} {
		t.Run(tc.name, func(t *testing.T) {
			q := &verify.Case{Kind: verify.KindCRL, CRLs: []verify.DER{tc.list}, Issuers: ders(int, other), Leaf: leaf.Raw, Time: now.Format(time.RFC3339)}
			if got := verify.Judge(q); got.Result != tc.result {
				t.Errorf("%s (%s), want %s", got.Result, got.Detail, tc.result)
			}
		})
	}
}

// TestWhoSignedIsAsked: of the certificates with the name of a CRL issuer, only the one that signed the list is
// checked. Checking all would mean searching every list for each, and for each of these all of them again: exponential
// work, and needless. It would also take a list that none of them signed, as here, for one with a revoked signer.
func TestWhoSignedIsAsked(t *testing.T) {
	root := issue(t, "root", nil, true, nil)
	int := issue(t, "int", root, true, nil)
	lists := func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign }
	lister, twin, stranger := issue(t, "lister", root, false, lists), issue(t, "lister", root, false, lists), issue(t, "lister", nil, false, lists)
	cRLIssuer := element(0x30, element(0xa2, element(0xa4, lister.RawSubject...)...)...)
	leaf := issue(t, "leaf", int, false, func(c *x509.Certificate) { c.ExtraExtensions = []pkix.Extension{points(cRLIssuer)} })
	both := []*entity{lister, twin}
	for _, tc := range []struct {
		name    string
		listers []*entity
		signer  *entity
		revoked []*entity
		result  verify.Verdict
		class   verify.Class
	}{
		{"who signed is not revoked", both, lister, nil, verify.Accept, ""},
		{"who signed is not revoked, his twin is", both, lister, []*entity{twin}, verify.Accept, ""},
		{"who signed is revoked", both[:1], lister, []*entity{lister}, verify.Reject, verify.ClassPath},
		{"who signed is revoked, his twin is not", both, lister, []*entity{lister}, verify.Reject, verify.ClassBadSignature},
		{"nobody signed", both, stranger, nil, verify.Reject, verify.ClassBadSignature},
		{"nobody signed, and all are revoked", both, stranger, both, verify.Reject, verify.ClassBadSignature},
	} {
		t.Run(tc.name, func(t *testing.T) {
			expect(t, &verify.Case{
				Kind: verify.KindChain, Roots: ders(root), Intermediates: ders(append([]*entity{int}, tc.listers...)...), Leaf: leaf.Raw, Time: now.Format(time.RFC3339), EKU: "any",
				CRLs: []verify.DER{root.list(t, nil, tc.revoked...), tc.signer.list(t, with(scope(element(0x84, 0xff))))}, Revocation: verify.RevocationHardLeaf,
			}, tc.result, tc.class)
		})
	}
}

// TestOCSPStatus: a response counts only if its responder is authorised, it is current, and it is about this
// certificate.
func TestOCSPStatus(t *testing.T) {
	root := issue(t, "root", nil, true, nil)
	int := issue(t, "int", root, true, nil)
	leaf, other := issue(t, "leaf", int, false, nil), issue(t, "other", int, false, nil)
	signing := func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning} }
	delegate := issue(t, "responder", int, false, signing)
	critical := func(id asn1.ObjectIdentifier) *entity {
		return issue(t, "responder", int, false, func(c *x509.Certificate) {
			signing(c)
			c.ExtraExtensions = []pkix.Extension{{Id: id, Critical: true, Value: []byte{5, 0}}}
		})
	}
	late := issue(t, "late", int, false, func(c *x509.Certificate) { signing(c); c.NotAfter = now.Add(-time.Hour) })
	foreign := issue(t, "foreign", root, false, signing)
	renewed := issue(t, "int", root, true, nil)
	for _, tc := range []struct {
		name     string
		response verify.DER
		issuers  []*entity
		result   verify.Verdict
		class    verify.Class
	}{
		{"good", leaf.response(t, ocsp.Good, nil, nil), nil, verify.Good, ""},
		{"good by a delegate", leaf.response(t, ocsp.Good, delegate, nil), nil, verify.Good, ""},
		{"good by a delegate with a critical nocheck", leaf.response(t, ocsp.Good, critical(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}), nil), nil, verify.Good, ""},
		{"good by a delegate with something critical", leaf.response(t, ocsp.Good, critical(asn1.ObjectIdentifier{1, 2, 3}), nil), nil, verify.Unknown, verify.ClassPath},
		{"two issuers after a key change", leaf.response(t, ocsp.Good, nil, nil), []*entity{renewed, int}, verify.Good, ""},
		{"revoked", leaf.response(t, ocsp.Revoked, nil, nil), nil, verify.Revoked, verify.ClassRevoked},
		{"unknown", leaf.response(t, ocsp.Unknown, nil, nil), nil, verify.Unknown, verify.ClassNoInformation},
		{"another certificate", other.response(t, ocsp.Good, nil, nil), nil, verify.Unknown, verify.ClassNoInformation},
		{"delegate without the usage", leaf.response(t, ocsp.Good, other, nil), nil, verify.Unknown, verify.ClassPath},
		{"delegate of another issuer", leaf.response(t, ocsp.Good, foreign, nil), nil, verify.Unknown, verify.ClassPath},
		{"delegate that has expired", leaf.response(t, ocsp.Good, late, nil), nil, verify.Unknown, verify.ClassExpired},
		{"too old", leaf.response(t, ocsp.Good, nil, func(r *ocsp.Response) { r.NextUpdate = now.Add(-time.Minute) }), nil, verify.Unknown, verify.ClassStale},
		{"wrong issuer of the right name", leaf.response(t, ocsp.Good, nil, nil), []*entity{renewed}, verify.Unknown, verify.ClassNoInformation},
		{"tryLater", verify.DER(ocsp.TryLaterErrorResponse), nil, verify.Unknown, verify.ClassNoInformation},
		{"garbage", []byte("garbage"), nil, verify.Unknown, verify.ClassParse},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.issuers == nil {
				tc.issuers = []*entity{int}
			}
			expect(t, &verify.Case{Kind: verify.KindOCSP, OCSPs: []verify.DER{tc.response}, Issuers: ders(tc.issuers...), Leaf: leaf.Raw, Time: now.Format(time.RFC3339)}, tc.result, tc.class)
		})
	}
}

// TestOCSPResponse: who signed must speak for the issuer, and lead to a root.
func TestOCSPResponse(t *testing.T) {
	root := issue(t, "root", nil, true, nil)
	int := issue(t, "int", root, true, nil)
	leaf := issue(t, "leaf", int, false, nil)
	delegate := issue(t, "responder", int, false, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning} })
	broken := leaf.response(t, ocsp.Good, nil, nil)
	broken[len(broken)-1] ^= 1
	for _, tc := range []struct {
		name      string
		response  verify.DER
		roots     []*entity
		untrusted []*entity
		partial   bool
		result    verify.Verdict
		class     verify.Class
	}{
		{"issuer signed, full path", leaf.response(t, ocsp.Good, nil, nil), []*entity{root}, []*entity{int}, false, verify.Accept, ""},
		{"issuer signed, partial path", leaf.response(t, ocsp.Revoked, nil, nil), []*entity{int}, nil, true, verify.Accept, ""},
		{"issuer signed, no root", leaf.response(t, ocsp.Good, nil, nil), []*entity{int}, nil, false, verify.Reject, verify.ClassPath},
		{"delegate, full path", leaf.response(t, ocsp.Good, delegate, nil), []*entity{root}, []*entity{int}, false, verify.Accept, ""},
		{"delegate, partial path", leaf.response(t, ocsp.Good, delegate, nil), []*entity{int}, nil, true, verify.Accept, ""},
		{"delegate, issuer not at hand", leaf.response(t, ocsp.Good, delegate, nil), []*entity{root}, nil, false, verify.Reject, verify.ClassNoInformation},
		{"bad signature", broken, []*entity{int}, nil, true, verify.Reject, verify.ClassBadSignature},
		{"garbage", []byte("garbage"), []*entity{int}, nil, true, verify.Reject, verify.ClassParse},
		{"error status", verify.DER(ocsp.UnauthorizedErrorResponse), []*entity{int}, nil, true, verify.Reject, verify.ClassNoInformation},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := expect(t, &verify.Case{
				Kind: verify.KindOCSPResponse, OCSPs: []verify.DER{tc.response}, Roots: ders(tc.roots...), Untrusted: ders(tc.untrusted...), PartialChain: tc.partial, Time: now.Format(time.RFC3339),
			}, tc.result, tc.class)
			if told := strings.Contains(got.Detail, "whose issuer is not at hand"); told != strings.Contains(tc.name, "issuer not at hand") {
				t.Errorf("detail %q", got.Detail)
			}
		})
	}
}

// TestBatch: one answer per line, in order, whatever the line is.
func TestBatch(t *testing.T) {
	q, _, _, leaf := question(t)
	q.ID = json.RawMessage("17")
	good, err := json.Marshal(q)
	if err != nil {
		t.Fatal(err)
	}
	deep := strings.Repeat("[", 5000) + strings.Repeat("]", 5000)
	lines := strings.Join([]string{
		string(good), "", `not json`, `{"id":"a","kind":"nonsense"}`, `{"id":3,"kind":"verify","roots":"wrong type"}`,
		`{"id":4,"kind":"verify","leaf":"!!!","time":"2026-09-01T00:00:00Z"}`, `{"id":5,"kind":"crl-status","leaf":null,"crls":null,"time":"2026-09-01T00:00:00Z"}`,
		`{"id":null,"kind":"verify","roots":null,"intermediates":null,"leaf":"AAAA","crls":null,"ocsps":null,"time":"2026-09-01T00:00:00Z","eku":null,"revocation":null,` +
			`"policies":null,"explicit_policy":null,"inhibit_mapping":null,"inhibit_any":null,"dns":null,"ip":null,"max_age":null,"crl_expiration":null,"nonce":null,"partial_chain":null}`,
		`{"id":6,"leaf":"` + strings.Repeat("A", verify.MaxLine) + `"}`, `{"id":[7],"kind":"ocsp-verify","time":"2026-09-01T00:00:00Z"}`,
		`{"id":{"n":8},"kind":"crl-status","leaf":[],"time":5}`, `{"kind":"ocsp-status","issuers":[9,null],"id":"9"}`, `{"kind":"verify","id":-10.5e3,"roots":["\xff"],"leaf":`,
		`{"kind":"verify","id":true,"leaf":"AAAA","no such field":{"a":[1]}}`, `{"kind":"verify","id":"11","time":"yesterday","crls":{}}`, `[1]`, `"id"`, `null`, `{`,
		strings.Repeat("[", 20000), `{"id":` + deep + `,"kind":7}`, "\x00{\"id\":12}", `{"id":13,"kind":"verify"} {"id":14}`,
	}, "\n")
	var out bytes.Buffer
	if err := verify.Batch(strings.NewReader(lines), &out); err != nil {
		t.Fatal(err)
	}
	var got []string
	decoder := json.NewDecoder(&out)
	for decoder.More() {
		var r verify.Result
		if err := decoder.Decode(&r); err != nil {
			t.Fatal(err)
		}
		got = append(got, string(r.ID)+" "+string(r.Result)+" "+string(r.Class))
		if r.PerCert == nil {
			t.Errorf("%s: per_cert is not there", r.ID)
		}
		if string(r.ID) == "17" && (len(r.PerCert) != 2 || r.PerCert[0].Serial != hex.EncodeToString(leaf.SerialNumber.Bytes()) || r.PerCert[0].Status != "good" || r.PerCert[0].Source != "crl") {
			t.Errorf("per certificate: %+v", r.PerCert)
		}
	}
	want := []string{"17 accept ", " reject parse", `"a" reject unsupported`, "3 reject parse", "4 reject parse", "5 unknown parse", "null reject parse", "6 reject parse", "[7] reject path",
		`{"n":8} unknown parse`, `"9" unknown parse`, "-10.5e3 reject parse", "true reject unsupported", `"11" reject parse`, " reject parse", " reject parse", " reject unsupported", " reject parse",
		" reject parse", deep + " reject parse", " reject parse", "13 reject parse"}
	if strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// FuzzJudge: no octets of a stranger make it panic, and garbage is never accepted.
func FuzzJudge(f *testing.F) {
	root := issue(f, "root", nil, true, nil)
	leaf := issue(f, "leaf", root, false, nil)
	f.Add([]byte(leaf.Raw), []byte(root.list(f, nil)), []byte(leaf.response(f, ocsp.Good, nil, nil)))
	f.Fuzz(func(t *testing.T, der, list, response []byte) {
		for _, kind := range []verify.Kind{verify.KindChain, verify.KindCRL, verify.KindOCSP, verify.KindOCSPResponse} {
			verify.Judge(&verify.Case{
				Kind: kind, Roots: ders(root), Issuers: ders(root), Intermediates: []verify.DER{der}, Leaf: der, CRLs: []verify.DER{list}, OCSPs: []verify.DER{response},
				Time: now.Format(time.RFC3339), Revocation: verify.RevocationHardChain,
			})
		}
	})
}
