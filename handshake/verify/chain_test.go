package verify_test

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"slices"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"signet.example/signet/handshake/verify"
)

// TestExempt: noRevAvail (RFC 9608) exempts, and contradicts what else a certificate says of its status; ocsp-nocheck
// exempts responders only, and no authority.
func TestExempt(t *testing.T) {
	null := []byte{5, 0}
	noRevAvail, noCheck := raw(false, asn1.ObjectIdentifier{2, 5, 29, 56}, null...), raw(false, asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}, null...)
	freshest := pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 46}, Value: points(uriPoint("http://crl.test/a", 0)).Value}
	usages := func(usages ...x509.ExtKeyUsage) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.ExtKeyUsage = usages }
	}
	root := issue(t, "root", nil, true, nil)
	for _, tt := range []struct {
		name        string
		ca          bool
		change      func(*x509.Certificate)
		extensions  []pkix.Extension
		exempt      bool
		contradicts string
	}{
		{"nothing", false, nil, nil, false, ""},
		{"noRevAvail", false, nil, []pkix.Extension{noRevAvail}, true, ""},
		{"noRevAvail with something in it", false, nil, []pkix.Extension{raw(false, noRevAvail.Id, 4, 0)}, true, "noRevAvail is not NULL"},
		{"noRevAvail of an authority", true, nil, []pkix.Extension{noRevAvail}, true, "noRevAvail in a CA certificate"},
		{"noRevAvail and points", false, nil, []pkix.Extension{noRevAvail, points(uriPoint("http://crl.test/a", 0))}, true, "noRevAvail together with CRL distribution points"},
		{"noRevAvail and a freshest CRL", false, nil, []pkix.Extension{noRevAvail, freshest}, true, "noRevAvail together with a freshest CRL"},
		{"noRevAvail and a responder", false, func(c *x509.Certificate) { c.OCSPServer = []string{"http://ocsp.test"} }, []pkix.Extension{noRevAvail}, true, "noRevAvail together with an OCSP responder"},
		{"nocheck of a responder", false, usages(x509.ExtKeyUsageOCSPSigning), []pkix.Extension{noCheck}, true, ""},
		{"nocheck of a responder that does more", false, usages(x509.ExtKeyUsageOCSPSigning, x509.ExtKeyUsageServerAuth), []pkix.Extension{noCheck}, true, ""},
		{"a responder", false, usages(x509.ExtKeyUsageOCSPSigning), nil, false, ""},
		{"nocheck of a server", false, usages(x509.ExtKeyUsageServerAuth), []pkix.Extension{noCheck}, false, ""},
		{"nocheck for no usage in particular", false, nil, []pkix.Extension{noCheck}, false, ""},
		{"nocheck of an authority", true, usages(x509.ExtKeyUsageOCSPSigning), []pkix.Extension{noCheck}, false, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cert := issue(t, "leaf", root, tt.ca, func(c *x509.Certificate) {
				if tt.change != nil {
					tt.change(c)
				}
				c.ExtraExtensions = tt.extensions
			})
			exempt, err := verify.Exempt(cert.Certificate)
			if exempt != tt.exempt || (err != nil) != (tt.contradicts != "") || err != nil && err.Error() != tt.contradicts {
				t.Errorf("exempt %v, %v", exempt, err)
			}
		})
	}
}

// TestWayOfAListSigner: a signer of lists leads to the anchor over CAs of the pool, each of which signed the next and
// has no critical extension that is not understood.
func TestWayOfAListSigner(t *testing.T) {
	root := issue(t, "root", nil, true, nil)
	int, sub := issue(t, "int", root, true, nil), issue(t, "sub", root, true, nil)
	imposter := issue(t, "sub", nil, true, nil) // of its own making
	odd := extended(raw(true, asn1.ObjectIdentifier{1, 2, 3}, 5, 0))
	lister := func(issuer *entity, changes ...func(*x509.Certificate)) *entity {
		return issue(t, "lister", issuer, false, func(c *x509.Certificate) {
			c.KeyUsage = x509.KeyUsageCRLSign
			for _, change := range changes {
				change(c)
			}
		})
	}
	oddSub := issue(t, "odd", root, true, odd)
	leafIssuer := issue(t, "end", root, false, nil)
	for _, tt := range []struct {
		name   string
		lister *entity
		pool   []*entity
		result verify.Verdict
	}{
		{"below an authority of the chain", lister(root), nil, verify.Accept},
		{"below another authority", lister(sub), []*entity{sub}, verify.Accept},
		{"below another authority that is not at hand", lister(sub), nil, verify.Reject},
		{"below somebody of its name", lister(imposter), []*entity{imposter}, verify.Reject},
		{"below somebody of its name, which is at hand too", lister(imposter), []*entity{imposter, sub}, verify.Reject},
		{"below an end entity", lister(leafIssuer), []*entity{leafIssuer}, verify.Reject},
		{"something critical in it", lister(root, odd), nil, verify.Reject},
		{"something critical above it", lister(oddSub), []*entity{oddSub}, verify.Reject},
		{"expired", lister(root, func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Second) }), nil, verify.Reject},
		{"of the future", lister(root, func(c *x509.Certificate) { c.NotBefore = now.Add(time.Second) }), nil, verify.Reject},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cRLIssuer := element(0x30, element(0xa2, element(0xa4, tt.lister.RawSubject...)...)...)
			leaf := issue(t, "leaf", int, false, extended(points(cRLIssuer)))
			q := &verify.Case{
				Kind: verify.KindChain, Roots: ders(root), Intermediates: ders(append([]*entity{int, tt.lister}, tt.pool...)...), Leaf: leaf.Raw,
				CRLs: []verify.DER{tt.lister.list(t, with(scope(element(0x84, 0xff))))}, Time: now.Format(time.RFC3339), EKU: "any", Revocation: verify.RevocationHardLeaf,
			}
			if got := verify.Judge(q); got.Result != tt.result {
				t.Errorf("%s (%s), want %s", got.Result, got.Detail, tt.result)
			}
		})
	}
}

// TestOldLists: an expired list still counts for a revocation that cannot be taken back, but not for a hold, nor for
// the absence of an entry.
func TestOldLists(t *testing.T) {
	for reason, class := range map[int]verify.Class{1: verify.ClassRevoked, 6: verify.ClassStale, -1: verify.ClassStale} {
		q, _, int, leaf := question(t)
		q.CRLs[1] = int.list(t, func(l *x509.RevocationList) {
			l.NextUpdate = now.Add(-time.Minute)
			if reason > 0 {
				l.RevokedCertificateEntries = []x509.RevocationListEntry{{SerialNumber: leaf.SerialNumber, RevocationTime: now.Add(-2 * time.Hour), ReasonCode: reason}}
			}
		})
		expect(t, q, verify.Reject, class)
	}
}

// TestSeries: a list of another series that has ended, a shard beside a complete list, counts like one alone: for a
// revocation that cannot be taken back.
func TestSeries(t *testing.T) {
	for reason, want := range map[int]verify.Verdict{1: verify.Reject, 6: verify.Accept} {
		q, _, ca, leaf := question(t)
		q.CRLs = append(q.CRLs, ca.list(t, func(l *x509.RevocationList) {
			with(scope(element(0x81, 0xff)))(l)
			l.ThisUpdate, l.NextUpdate, l.Number = now.Add(-2*time.Hour), now.Add(-time.Minute), big.NewInt(5)
			l.RevokedCertificateEntries[0].ReasonCode = reason
		}, leaf))
		if got := verify.Judge(q); got.Result != want {
			t.Errorf("reason %d: %s (%s), want %s", reason, got.Result, got.Detail, want)
		}
	}
}

// TestListsAndResponses: a responder of its own is believed unless a list says that it is revoked; who says good is the
// list, then the responder.
func TestListsAndResponses(t *testing.T) {
	root := issue(t, "root", nil, true, nil)
	leaf := issue(t, "leaf", root, false, nil)
	delegate := issue(t, "responder", root, false, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning} })
	old := func(l *x509.RevocationList) { l.NextUpdate = now.Add(-time.Minute) }
	for _, tt := range []struct {
		name   string
		list   verify.DER
		said   int
		result verify.Verdict
		class  verify.Class
		source string
	}{
		{"both say good", root.list(t, nil), ocsp.Good, verify.Accept, "", "crl"},
		{"an old list, and the responder says good", root.list(t, old), ocsp.Good, verify.Accept, "", "ocsp"},
		{"an old list, and the responder does not know", root.list(t, old), ocsp.Unknown, verify.Reject, verify.ClassStale, ""},
		{"a list says good, and the responder does not know", root.list(t, nil), ocsp.Unknown, verify.Accept, "", "crl"},
		{"a list says good, and the responder revoked", root.list(t, nil), ocsp.Revoked, verify.Reject, verify.ClassRevoked, "ocsp"},
		{"the responder is revoked, and says revoked", root.list(t, nil, delegate), ocsp.Revoked, verify.Accept, "", "crl"},
		{"the responder is revoked, says an old list", root.list(t, old, delegate), ocsp.Good, verify.Reject, verify.ClassStale, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := expect(t, &verify.Case{
				Kind: verify.KindChain, Roots: ders(root), Leaf: leaf.Raw, CRLs: []verify.DER{tt.list}, OCSPs: []verify.DER{leaf.response(t, tt.said, delegate, nil)},
				Time: now.Format(time.RFC3339), EKU: "any", Revocation: verify.RevocationHardLeaf,
			}, tt.result, tt.class)
			if got.PerCert[0].Source != tt.source {
				t.Errorf("the source is %q, want %q", got.PerCert[0].Source, tt.source)
			}
		})
	}
}

// TestWhatOutweighsWhat: a revocation that cannot be taken back counts at any age, and whatever else is said; of a hold
// and a good the later counts, be they lists or responses (REVOCATION, Section 7).
func TestWhatOutweighsWhat(t *testing.T) {
	q, root, ca, leaf := question(t)
	delegate := issue(t, "responder", ca, false, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning} })
	const hold, compromise, ended, lasting = 6, 1, -time.Minute, time.Hour
	list := func(ago time.Duration, reason int) verify.DER {
		return ca.list(t, func(l *x509.RevocationList) {
			l.ThisUpdate = now.Add(-ago)
			if reason > 0 {
				l.RevokedCertificateEntries = []x509.RevocationListEntry{{SerialNumber: leaf.SerialNumber, RevocationTime: now.Add(-24 * time.Hour), ReasonCode: reason}}
			}
		})
	}
	answer := func(status int, ago, until time.Duration, reason int, by *entity) verify.DER {
		return leaf.response(t, status, by, func(r *ocsp.Response) {
			r.ThisUpdate, r.ProducedAt, r.NextUpdate, r.RevocationReason = now.Add(-ago), now.Add(-ago), now.Add(until), reason
		})
	}
	good := func(ago time.Duration) verify.DER { return answer(ocsp.Good, ago, lasting, 0, nil) }
	held := func(ago, until time.Duration) verify.DER { return answer(ocsp.Revoked, ago, until, hold, nil) }
	bad := good(time.Hour)
	bad[len(bad)-1] ^= 1
	for _, tt := range []struct {
		name      string
		list      verify.DER
		responses []verify.DER
		result    verify.Verdict
		class     verify.Class
		source    string
	}{
		{"a hold, and a later good response", list(2*time.Hour, hold), []verify.DER{good(time.Hour)}, verify.Accept, "", "ocsp"},
		{"a hold, and an earlier good response", list(time.Hour, hold), []verify.DER{good(2 * time.Hour)}, verify.Reject, verify.ClassRevoked, "crl"},
		{"a hold, and a good response of the same moment", list(time.Hour, hold), []verify.DER{good(time.Hour)}, verify.Reject, verify.ClassRevoked, "crl"},
		{"a good list, and a later hold", list(2*time.Hour, 0), []verify.DER{held(time.Hour, lasting)}, verify.Reject, verify.ClassRevoked, "ocsp"},
		{"a good list, and an earlier hold", list(time.Hour, 0), []verify.DER{held(2*time.Hour, lasting)}, verify.Accept, "", "crl"},
		{"a good list, and a hold of the same moment", list(time.Hour, 0), []verify.DER{held(time.Hour, lasting)}, verify.Reject, verify.ClassRevoked, "ocsp"},
		{"a revocation, and a later good response", list(2*time.Hour, compromise), []verify.DER{good(time.Hour)}, verify.Reject, verify.ClassRevoked, "crl"},
		{"a hold and a later good response", nil, []verify.DER{held(2*time.Hour, lasting), good(time.Hour)}, verify.Accept, "", "ocsp"},
		{"a hold and an earlier good response", nil, []verify.DER{held(time.Hour, lasting), good(2 * time.Hour)}, verify.Reject, verify.ClassRevoked, "ocsp"},
		{"an ended revocation alone", nil, []verify.DER{answer(ocsp.Revoked, time.Hour, ended, compromise, nil)}, verify.Reject, verify.ClassRevoked, "ocsp"},
		{"an ended revocation, and a good list", list(time.Minute, 0), []verify.DER{answer(ocsp.Revoked, time.Hour, ended, compromise, nil)}, verify.Reject, verify.ClassRevoked, "ocsp"},
		{"an ended revocation, and a good response", nil, []verify.DER{answer(ocsp.Revoked, time.Hour, ended, compromise, nil), good(time.Minute)}, verify.Reject, verify.ClassRevoked, "ocsp"},
		{"an ended hold, and a good response", nil, []verify.DER{held(time.Hour, ended), good(2 * time.Hour)}, verify.Accept, "", "ocsp"},
		{"an ended hold alone", nil, []verify.DER{held(time.Hour, ended)}, verify.Reject, verify.ClassStale, ""},
		{"an ended revocation by a responder", list(time.Minute, 0), []verify.DER{answer(ocsp.Revoked, time.Hour, ended, compromise, delegate)}, verify.Reject, verify.ClassRevoked, "ocsp"},
		{
			"an ended revocation by a responder that is revoked", ca.list(t, nil, delegate), []verify.DER{answer(ocsp.Revoked, time.Hour, ended, compromise, delegate)},
			verify.Accept, "", "crl",
		},
		{"a bad response, and one that does not know", nil, []verify.DER{bad, answer(ocsp.Unknown, time.Hour, lasting, 0, nil)}, verify.Reject, verify.ClassBadSignature, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			q.CRLs, q.OCSPs = []verify.DER{root.list(t, nil)}, tt.responses
			if tt.list != nil {
				q.CRLs = append(q.CRLs, tt.list)
			}
			for range 2 {
				if got := expect(t, q, tt.result, tt.class); got.PerCert[0].Source != tt.source {
					t.Errorf("the source is %q, want %q", got.PerCert[0].Source, tt.source)
				}
				slices.Reverse(q.OCSPs)
			}
		})
	}

	// Lists of which each covers some reasons are as young as the youngest.
	some := func(ago time.Duration, reasons ...byte) verify.DER {
		return ca.list(t, func(l *x509.RevocationList) {
			with(scope(element(0x83, reasons...)))(l)
			l.ThisUpdate = now.Add(-ago)
		})
	}
	q.CRLs, q.OCSPs = []verify.DER{root.list(t, nil), some(time.Hour, 0, 0x7f), some(3*time.Hour, 7, 0, 0x80)}, []verify.DER{held(2*time.Hour, lasting)}
	expect(t, q, verify.Accept, "")

	stale := answer(ocsp.Revoked, time.Hour, ended, compromise, nil)
	status := &verify.Case{Kind: verify.KindOCSP, OCSPs: []verify.DER{stale}, Issuers: ders(ca), Leaf: leaf.Raw, Time: q.Time}
	expect(t, status, verify.Unknown, verify.ClassStale) // asked is the response, not the certificate
}

// TestAsked: names, uses and policies are held against the leaf as they were asked for, and what cannot be asked for is
// said.
func TestAsked(t *testing.T) {
	text := func(s string) *string { return &s }
	explicit := raw(true, asn1.ObjectIdentifier{2, 5, 29, 36}, element(0x30, element(0x80, 0)...)...)
	policy := raw(false, asn1.ObjectIdentifier{2, 5, 29, 32}, element(0x30, element(0x30, element(6, 0x2a, 3)...)...)...)
	root := issue(t, "root", nil, true, nil)
	int := issue(t, "int", root, true, extended(explicit, policy))
	client := issue(t, "client", int, false, func(c *x509.Certificate) {
		c.ExtKeyUsage, c.ExtraExtensions = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, []pkix.Extension{policy}
	})
	for _, tt := range []struct {
		name  string
		ask   func(q *verify.Case)
		class verify.Class
	}{
		{"a client", func(q *verify.Case) { q.EKU = "clientAuth" }, ""},
		{"a server", func(q *verify.Case) { q.EKU = "serverAuth" }, verify.ClassPath},
		{"an unknown use", func(q *verify.Case) { q.EKU = "clientauth" }, verify.ClassUnsupported},
		{"its name", func(q *verify.Case) { q.DNS = text("client.test") }, ""},
		{"its name, and no address", func(q *verify.Case) { q.DNS, q.IP = text("client.test"), text("") }, ""},
		{"another name", func(q *verify.Case) { q.DNS = text("other.test") }, verify.ClassName},
		{"an address", func(q *verify.Case) { q.IP = text("192.0.2.1") }, verify.ClassName},
		{"no name, and an address", func(q *verify.Case) { q.DNS, q.IP = text(""), text("192.0.2.1") }, verify.ClassName},
		{"a name and an address", func(q *verify.Case) { q.DNS, q.IP = text("client.test"), text("192.0.2.1") }, verify.ClassUnsupported},
		{"no address", func(q *verify.Case) { q.IP = text("") }, ""},
		{"an address that is none", func(q *verify.Case) { q.IP = text("client.test") }, verify.ClassUnsupported},
		{"its policy", func(q *verify.Case) { q.Policies = []string{"1.2.3"} }, ""},
		{"another policy", func(q *verify.Case) { q.Policies = []string{"1.2.4"} }, verify.ClassPolicy},
		{"a policy that is none", func(q *verify.Case) { q.Policies = []string{"one"} }, verify.ClassUnsupported},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := verify.Accept
			if tt.class != "" {
				want = verify.Reject
			}
			q := &verify.Case{Kind: verify.KindChain, Roots: ders(root), Intermediates: ders(int), Leaf: client.Raw, Time: now.Format(time.RFC3339), EKU: "any"}
			tt.ask(q)
			expect(t, q, want, tt.class)
		})
	}
}

// TestNobodyAcquitsHimself: a signer of lists that was revoked by its CA cannot vouch for itself, nor can two of them
// vouch for each other, however recent their lists are. Nor can a signer below a revoked CA (RFC 5280, Section 6.3.3
// (f)).
func TestNobodyAcquitsHimself(t *testing.T) {
	q, root, ca, leaf := question(t)
	lists := func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign }
	one, two := issue(t, "int", ca, false, lists), issue(t, "int", ca, false, lists)
	sub := issue(t, "sub", root, true, nil)
	subSub := issue(t, "subsub", sub, true, nil)
	below, farBelow, ofRoot := issue(t, "int", sub, false, lists), issue(t, "int", subSub, false, lists), issue(t, "root", root, false, lists)
	aged := func(minutes int) func(*x509.RevocationList) {
		return func(l *x509.RevocationList) {
			l.ThisUpdate, l.Number = now.Add(-time.Duration(minutes)*time.Minute), big.NewInt(int64(100-minutes))
		}
	}
	clean, plain := root.list(t, nil), ca.list(t, aged(30), leaf)
	acquits := func(signers ...*entity) []verify.DER {
		var forged []verify.DER
		for i, s := range signers {
			forged = append(forged, s.list(t, aged(20-i)))
		}
		return forged
	}
	for _, tt := range []struct {
		name   string
		pool   []*entity
		lists  []verify.DER
		forged []verify.DER
		result verify.Verdict
		class  verify.Class
	}{
		{"a signer that nobody revoked", []*entity{one}, []verify.DER{clean, plain}, acquits(one), verify.Accept, ""},
		{"a signer that is revoked", []*entity{one}, []verify.DER{clean, ca.list(t, aged(30), leaf, one)}, acquits(one), verify.Reject, verify.ClassRevoked},
		{"two signers that are revoked", []*entity{one, two}, []verify.DER{clean, ca.list(t, aged(30), leaf, one, two)}, acquits(one, two), verify.Reject, verify.ClassRevoked},
		{"a signer that another one revoked", []*entity{one, two}, []verify.DER{clean, one.list(t, aged(30), leaf, two)}, acquits(two), verify.Reject, verify.ClassRevoked},
		{"below an authority that revoked it", []*entity{sub, below}, []verify.DER{clean, plain, sub.list(t, nil, below)}, acquits(below), verify.Reject, verify.ClassRevoked},
		{"below an authority that is not revoked", []*entity{sub, below}, []verify.DER{clean, plain}, acquits(below), verify.Accept, ""},
		{"below an authority that is revoked", []*entity{sub, below}, []verify.DER{root.list(t, nil, sub), plain}, acquits(below), verify.Reject, verify.ClassRevoked},
		{"far below one that is revoked", []*entity{sub, subSub, farBelow}, []verify.DER{root.list(t, nil, sub), plain}, acquits(farBelow), verify.Reject, verify.ClassRevoked},
		{"below one that is revoked, which acquits itself", []*entity{sub, below, ofRoot}, []verify.DER{root.list(t, aged(30), sub, ofRoot), plain}, acquits(below, ofRoot), verify.Reject, verify.ClassRevoked},
		{"nobody else speaks", []*entity{sub, below}, []verify.DER{root.list(t, nil, sub)}, acquits(below), verify.Reject, verify.ClassBadSignature},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, mode := range []verify.Revocation{verify.RevocationSoftChain, verify.RevocationHardLeaf, verify.RevocationHardChain} {
				q.Intermediates, q.Leaf, q.Revocation = ders(append([]*entity{ca}, tt.pool...)...), leaf.Raw, mode
				for _, lists := range [][]verify.DER{slices.Concat(tt.lists, tt.forged), slices.Concat(tt.forged, tt.lists)} {
					q.CRLs = lists
					expect(t, q, tt.result, tt.class)
				}
			}
		})
	}
}

// TestAnotherWay: a signer of lists that was certified twice stands as long as one of the ways to the anchor does.
func TestAnotherWay(t *testing.T) {
	q, root, ca, leaf := question(t)
	sub := issue(t, "sub", root, true, nil)
	again := *sub.Certificate
	again.SerialNumber = big.NewInt(4711)
	der, err := x509.CreateCertificate(rand.Reader, &again, root.Certificate, sub.key.Public(), root.key)
	if err != nil {
		t.Fatal(err)
	}
	other := &entity{key: sub.key, issuer: root}
	if other.Certificate, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	lister := issue(t, "int", sub, false, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign })
	list := lister.list(t, nil)
	for _, tt := range []struct {
		revoked []*entity
		result  verify.Verdict
		class   verify.Class
	}{
		{nil, verify.Accept, ""},
		{[]*entity{sub}, verify.Accept, ""},
		{[]*entity{other}, verify.Accept, ""},
		{[]*entity{sub, other}, verify.Reject, verify.ClassBadSignature},
		{[]*entity{lister}, verify.Accept, ""}, // not the root's to revoke
	} {
		q.Intermediates, q.Leaf, q.Revocation = ders(ca, sub, other, lister), leaf.Raw, verify.RevocationHardLeaf
		q.CRLs = []verify.DER{root.list(t, nil, tt.revoked...), list}
		expect(t, q, tt.result, tt.class)
	}
}
