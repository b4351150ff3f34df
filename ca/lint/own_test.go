package lint_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"signet.example/signet/ca/lint"
	"signet.example/signet/ocsp"
	"signet.example/signet/pki"
)

// node is a DER element that can be edited. What a test breaks is broken in the tree, and everything else stays as it was.
type node struct {
	tag      byte
	content  []byte  // of a primitive
	children []*node // of a constructed one
}

func parseDER(t *testing.T, der []byte) []*node {
	t.Helper()
	var all []*node
	for len(der) > 0 {
		var raw asn1.RawValue
		rest, err := asn1.Unmarshal(der, &raw)
		if err != nil {
			t.Fatal(err)
		}
		n := &node{tag: der[0], content: raw.Bytes}
		if raw.IsCompound {
			n.content, n.children = nil, parseDER(t, raw.Bytes)
		}
		all, der = append(all, n), rest
	}
	return all
}

func (n *node) bytes() []byte {
	content := n.content
	if n.tag&0x20 != 0 {
		content = nil
		for _, child := range n.children {
			content = append(content, child.bytes()...)
		}
	}
	head := []byte{n.tag}
	switch size := len(content); {
	case size < 128:
		head = append(head, byte(size))
	case size < 256:
		head = append(head, 0x81, byte(size))
	default:
		head = append(head, 0x82, byte(size>>8), byte(size))
	}
	return append(head, content...)
}

// at walks down by position.
func (n *node) at(path ...int) *node {
	for _, i := range path {
		n = n.children[i]
	}
	return n
}

func (n *node) remove(i int)              { n.children = slices.Delete(n.children, i, i+1) }
func (n *node) insert(i int, child *node) { n.children = slices.Insert(n.children, i, child) }

func primitive(tag byte, content ...byte) *node     { return &node{tag: tag, content: content} }
func constructed(tag byte, children ...*node) *node { return &node{tag: tag, children: children} }

// ext finds an extension in a SEQUENCE OF Extension by the content of its identifier.
func (n *node) ext(t *testing.T, id string) *node {
	t.Helper()
	for _, e := range n.children {
		if string(e.children[0].content) == id {
			return e
		}
	}
	t.Fatalf("no extension %x", id)
	return nil
}

// flip writes critical TRUE, or takes it away.
func flip(e *node) {
	if e.children[1].tag == 1 {
		e.remove(1)
		return
	}
	e.insert(1, primitive(1, 0xff))
}

func extensionOf(id string, value ...byte) *node {
	return constructed(0x30, primitive(6, []byte(id)...), primitive(4, value...))
}

const (
	number, reason, invalidity, delta, idp, certificateIssuer, authorityKey, freshest = "\x55\x1d\x14", "\x55\x1d\x15", "\x55\x1d\x18", "\x55\x1d\x1b", "\x55\x1d\x1c", "\x55\x1d\x1d", "\x55\x1d\x23", "\x55\x1d\x2e"
)

// The shape of a list: {tbs: version, algorithm, issuer, thisUpdate, nextUpdate, entries, [0]{extensions}}, algorithm, signature.
func goodList(t *testing.T) *node {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{Subject: pkix.Name{CommonName: "CA"}, RawSubject: nil, SubjectKeyId: []byte{1, 2, 3}, KeyUsage: x509.KeyUsageCRLSign}
	at := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	scope := []byte("\x30\x16\xa0\x11\xa0\x0f\x86\x0dhttp://ca/crl\x81\x01\xff")
	scope[1], scope[3], scope[5] = byte(len(scope)-2), 17, 15
	template := &x509.RevocationList{Number: big.NewInt(7), ThisUpdate: at, NextUpdate: at.Add(72 * time.Hour),
		RevokedCertificateEntries: []x509.RevocationListEntry{
			{SerialNumber: big.NewInt(500), RevocationTime: at.Add(-time.Hour), ReasonCode: 1,
				ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 24}, Value: []byte("\x18\x0f20261101000000Z")}}},
			{SerialNumber: big.NewInt(501), RevocationTime: at.Add(-time.Hour)},
		},
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: scope}}}
	der, err := x509.CreateRevocationList(rand.Reader, template, ca, key)
	if err != nil {
		t.Fatal(err)
	}
	return parseDER(t, der)[0]
}

// Each rule has an example that breaks it, and nothing but it.
func TestEachCRLRuleHasAnExample(t *testing.T) {
	extensions := func(l *node) *node { return l.at(0, 6, 0) }
	entries := func(l *node) *node { return l.at(0, 5) }
	entryExtensions := func(l *node) *node { return l.at(0, 5, 0, 2) }
	examples := []struct {
		rule  string
		also  []string // rules that the same slip breaks
		slip  func(l *node)
		ofBRs bool
	}{
		{"e_sg_crl_algorithm_match", nil, func(l *node) { l.at(1).children[0].content[7] = 3 }, false},
		{"e_sg_crl_algorithm_parameters", nil, func(l *node) {
			for _, a := range []*node{l.at(0, 1), l.at(1)} {
				a.insert(1, primitive(5))
			}
		}, false},
		{"e_sg_crl_version", nil, func(l *node) { l.at(0).remove(0) }, false},
		{"e_sg_crl_version", nil, func(l *node) { l.at(0, 0).content[0] = 2 }, false},
		{"e_sg_crl_issuer", nil, func(l *node) { l.at(0, 2).children = nil }, false},
		{"e_sg_crl_this_update", nil, func(l *node) { *l.at(0, 3) = *primitive(0x18, []byte("20261120120000Z")...) }, false},
		{"e_sg_crl_this_update", nil, func(l *node) { *l.at(0, 3) = *primitive(0x17, []byte("2611201200Z")...) }, false},
		{"e_sg_crl_next_update", nil, func(l *node) { l.at(0).remove(4) }, false},
		{"e_sg_crl_next_update_form", nil, func(l *node) { *l.at(0, 4) = *primitive(0x17, []byte("261123120000+0000")...) }, false},
		{"e_sg_crl_times", nil, func(l *node) { l.at(0).children[3], l.at(0).children[4] = l.at(0, 4), l.at(0, 3) }, false},
		{"e_sg_crl_no_entries", nil, func(l *node) { entries(l).children = nil }, false},
		{"e_sg_crl_entry_serial", nil, func(l *node) { entries(l).at(0, 0).content = []byte{0x81, 1} }, false},
		{"e_sg_crl_entry_serial", nil, func(l *node) { entries(l).at(0, 0).content = make([]byte, 21) }, false},
		{"e_sg_crl_entry_date", nil, func(l *node) { *entries(l).at(1, 1) = *primitive(0x18, []byte("20261120110000.5Z")...) }, false},
		{"e_sg_crl_duplicate_extension", nil, func(l *node) { extensions(l).insert(0, extensions(l).ext(t, number)) }, false},
		{"e_sg_crl_duplicate_extension", nil, func(l *node) { entryExtensions(l).insert(0, entryExtensions(l).ext(t, reason)) }, false},
		{"e_sg_crl_default_encoded", nil, func(l *node) { extensions(l).ext(t, number).insert(1, primitive(1, 0)) }, false},
		{"e_sg_crl_unknown_critical", nil, func(l *node) {
			e := extensionOf("\x55\x1d\x7f", 5, 0)
			flip(e)
			extensions(l).insert(0, e)
		}, false},
		{"e_sg_crl_authority_key", nil, func(l *node) {
			extensions(l).children = slices.DeleteFunc(extensions(l).children, func(e *node) bool { return string(e.at(0).content) == authorityKey })
		}, false},
		{"e_sg_crl_authority_key", nil, func(l *node) { extensions(l).ext(t, authorityKey).at(1).content = []byte{0x30, 0} }, false},
		{"e_sg_crl_authority_key_critical", nil, func(l *node) { flip(extensions(l).ext(t, authorityKey)) }, false},
		{"e_sg_crl_number", nil, func(l *node) {
			extensions(l).children = slices.DeleteFunc(extensions(l).children, func(e *node) bool { return string(e.at(0).content) == number })
		}, false},
		{"e_sg_crl_number_size", nil, func(l *node) {
			extensions(l).ext(t, number).at(1).content = append([]byte{2, 21, 1}, make([]byte, 20)...)
		}, false},
		{"e_sg_crl_number_size", nil, func(l *node) { extensions(l).ext(t, number).at(1).content = []byte{2, 1, 0x80} }, false},
		{"e_sg_crl_number_critical", nil, func(l *node) { flip(extensions(l).ext(t, number)) }, false},
		{"e_sg_crl_delta_critical", nil, func(l *node) { extensions(l).insert(0, extensionOf(delta, 2, 1, 5)) }, false},
		{"e_sg_crl_delta_base", nil, func(l *node) {
			e := extensionOf(delta, 2, 1, 8)
			flip(e)
			extensions(l).insert(0, e)
		}, false},
		{"e_sg_crl_scope_critical", nil, func(l *node) { flip(extensions(l).ext(t, idp)) }, false},
		{"e_sg_crl_scope_empty", nil, func(l *node) { extensions(l).ext(t, idp).at(2).content = []byte{0x30, 0} }, false},
		{"e_sg_crl_scope", nil, func(l *node) { extensions(l).ext(t, idp).at(2).content = []byte{0x30, 6, 0x81, 1, 0xff, 0x82, 1, 0xff} }, false},
		{"e_sg_crl_scope", nil, func(l *node) { extensions(l).ext(t, idp).at(2).content = []byte{0x30, 3, 0x81, 1, 0} }, false},
		{"e_sg_crl_freshest_critical", nil, func(l *node) {
			e := extensionOf(freshest, 0x30, 0)
			flip(e)
			extensions(l).insert(0, e)
		}, false},
		{"e_sg_crl_freshest_delta", nil, func(l *node) {
			e := extensionOf(delta, 2, 1, 5)
			flip(e)
			extensions(l).insert(0, e)
			extensions(l).insert(0, extensionOf(freshest, 0x30, 0))
		}, false},
		{"e_sg_crl_entry_reason", nil, func(l *node) { entryExtensions(l).ext(t, reason).at(1).content = []byte{10, 1, 7} }, false},
		{"w_sg_crl_entry_unspecified", []string{"e_sg_br_crl_reason"}, func(l *node) { entryExtensions(l).ext(t, reason).at(1).content = []byte{10, 1, 0} }, true},
		{"e_sg_crl_entry_remove", nil, func(l *node) { entryExtensions(l).ext(t, reason).at(1).content = []byte{10, 1, 8} }, false},
		{"e_sg_crl_entry_critical", nil, func(l *node) { flip(entryExtensions(l).ext(t, reason)) }, false},
		{"e_sg_crl_entry_invalidity", nil, func(l *node) { entryExtensions(l).ext(t, invalidity).at(1).content = []byte("\x17\x0d261101000000Z") }, false},
		{"e_sg_crl_entry_issuer", nil, func(l *node) { entryExtensions(l).insert(0, extensionOf(certificateIssuer, 0x30, 0)) }, false},
		{"e_sg_br_crl_lifetime", nil, func(l *node) { *l.at(0, 4) = *primitive(0x17, []byte("261201120001Z")...) }, true},
		{"e_sg_br_crl_reason", nil, func(l *node) { entryExtensions(l).ext(t, reason).at(1).content = []byte{10, 1, 6} }, true},
	}
	if found := lint.CRL(goodList(t).bytes(), true); len(found) > 0 {
		t.Fatalf("a good list: %v", found)
	}
	shown := make(map[string]bool)
	for _, example := range examples {
		l := goodList(t)
		example.slip(l)
		wantFindings(t, example.rule, lint.CRL(l.bytes(), example.ofBRs), example.also)
		shown[example.rule] = true
	}
	wantAll(t, lint.TestingOnlyCRLRules(), shown)
	for _, junk := range [][]byte{nil, {0x30, 0}, goodList(t).bytes()[1:], append(goodList(t).bytes(), 0)} {
		if found := lint.CRL(junk, false); len(found) != 1 || found[0].Lint != "parse" {
			t.Errorf("%x: %v", junk, found)
		}
	}
}

// wantFindings demands one rule and those that the same slip breaks.
func wantFindings(t *testing.T, rule string, found []lint.Finding, also []string) {
	t.Helper()
	var names []string
	for _, f := range found {
		names = append(names, f.Lint)
		if f.Citation == "" || f.Text == "" || f.Details == "" || f.Warning != strings.HasPrefix(f.Lint, "w_") {
			t.Errorf("finding %+v", f)
		}
	}
	want := append([]string{rule}, also...)
	slices.Sort(names)
	slices.Sort(want)
	if !slices.Equal(names, want) {
		t.Errorf("%s: found %q", rule, names)
	}
	if refused := lint.Refusal(found) != nil; refused != lint.Severe(found) || refused != (strings.HasPrefix(rule, "e_") || len(also) > 0) {
		t.Errorf("%s: refused %t", rule, refused)
	}
}

// wantAll demands an example of every rule.
func wantAll(t *testing.T, rules []lint.Rule, shown map[string]bool) {
	t.Helper()
	seen := make(map[string]bool)
	for _, r := range rules {
		if !shown[r.ID] {
			t.Errorf("%s has no example that breaks it", r.ID)
		}
		if seen[r.ID] || r.Source == "" || r.Citation == "" {
			t.Errorf("rule %+v", r)
		}
		seen[r.ID] = true
	}
}

// The shape of a response: status, [0]{{type, OCTET STRING}}; inside it {data, algorithm, signature, [0]{certificates}};
// data: [2]{key}, producedAt, {answers}, [1]{extensions}; answer: certID, status, thisUpdate, [0]{nextUpdate}, [1]{extensions}.
type answered struct {
	t     *testing.T
	outer *node
	basic *node
}

func goodResponse(t *testing.T, change func(*ocsp.ResponseData)) answered {
	t.Helper()
	at := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	certificate := func(template, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template.SerialNumber, template.NotBefore, template.NotAfter, template.BasicConstraintsValid = big.NewInt(9), at.Add(-time.Hour), at.Add(240*time.Hour), true
		if signer == nil {
			parent, signer = template, key
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return c, key
	}
	ca, caKey := certificate(&x509.Certificate{Subject: pkix.Name{CommonName: "CA"}, IsCA: true, KeyUsage: x509.KeyUsageCertSign}, nil, nil)
	delegate, key := certificate(&x509.Certificate{Subject: pkix.Name{CommonName: "OCSP"}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning},
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}, Value: []byte{5, 0}}}}, ca, caKey)
	named, err := ocsp.IssuerOf(ca)
	if err != nil {
		t.Fatal(err)
	}
	draft := ocsp.ResponseData{ProducedAt: at, Nonce: make([]byte, 32), Answers: []ocsp.SingleResponse{{
		ID: named.CertID(crypto.SHA256, []byte{5}), Status: pki.StatusRevoked, Reason: pki.KeyCompromise, RevokedAt: at.Add(-time.Hour), ThisUpdate: at, NextUpdate: at.Add(24 * time.Hour), ArchiveCutoff: at.Add(-time.Hour),
	}}}
	if change != nil {
		change(&draft)
	}
	signer, err := ocsp.NewSigner(key, delegate)
	if err != nil {
		t.Fatal(err)
	}
	der, err := signer.Sign(draft)
	if err != nil {
		t.Fatal(err)
	}
	outer := parseDER(t, der)[0]
	return answered{t, outer, parseDER(t, outer.at(1, 0, 1).content)[0]}
}

func (a answered) bytes() []byte {
	if len(a.outer.children) > 1 {
		a.outer.at(1, 0, 1).content = a.basic.bytes()
	}
	return a.outer.bytes()
}

func TestEachOCSPRuleHasAnExample(t *testing.T) {
	never := func(d *ocsp.ResponseData) {
		a := d.Answers[0]
		d.Answers[0], d.ExtendedRevoke = ocsp.NeverIssued(a.ID, a.ThisUpdate, a.NextUpdate), true
	}
	answer := func(a answered) *node { return a.basic.at(0, 2, 0) }
	extensions := func(a answered) *node { return a.basic.at(0, 3, 0) }
	const nonce, extended, reference = "\x2b\x06\x01\x05\x05\x07\x30\x01\x02", "\x2b\x06\x01\x05\x05\x07\x30\x01\x09", "\x2b\x06\x01\x05\x05\x07\x30\x01\x03"
	reasonOf := func(n byte) func(answered) { return func(a answered) { answer(a).at(1, 1, 0).content[0] = n } }
	certificate := func(a answered, change func(*node)) {
		change(a.basic.at(3, 0, 0, 0).children[len(a.basic.at(3, 0, 0, 0).children)-1].at(0))
	}
	const usage = "\x55\x1d\x25"
	examples := []struct {
		rule  string
		also  []string
		draft func(*ocsp.ResponseData)
		slip  func(a answered)
		ofBRs bool
	}{
		{"e_sg_ocsp_never_issued", nil, never, func(a answered) { extensions(a).ext(t, extended).at(0).content[8] = 0x7f }, false},
		{"e_sg_ocsp_never_issued", nil, never, reasonOf(1), false},
		{"e_sg_ocsp_never_issued", nil, never, func(a answered) {
			answer(a).children = append(answer(a).children, constructed(0xa1, constructed(0x30, extensionOf(reference, 0x30, 0))))
		}, false},
		{"e_sg_ocsp_produced", nil, nil, func(a answered) { answer(a).at(2).content = []byte("20261120120001Z") }, false},
		{"e_sg_ocsp_revoked_later", nil, nil, func(a answered) { answer(a).at(1, 0).content = []byte("20261120120001Z") }, false},
		{"e_sg_ocsp_times", nil, nil, func(a answered) { answer(a).at(3, 0).content = []byte("20261120120000Z") }, false},
		{"e_sg_ocsp_body", nil, nil, func(a answered) { a.outer.at(0).content[0] = 3 }, false},
		{"e_sg_ocsp_body", nil, nil, func(a answered) { a.outer.remove(1) }, false},
		{"e_sg_ocsp_status", nil, nil, func(a answered) { a.outer.at(0).content[0] = 4; a.outer.remove(1) }, false},
		{"e_sg_ocsp_default_encoded", nil, nil, func(a answered) { a.basic.at(0).insert(0, constructed(0xa0, primitive(2, 0))) }, false},
		{"e_sg_ocsp_default_encoded", nil, nil, func(a answered) { extensions(a).ext(t, nonce).insert(1, primitive(1, 0)) }, false},
		{"e_sg_ocsp_key_hash", nil, nil, func(a answered) { a.basic.at(0, 0, 0).content = make([]byte, 32) }, false},
		{"e_sg_ocsp_answers", nil, nil, func(a answered) { a.basic.at(0, 2).children = nil }, false},
		{"e_sg_ocsp_time_form", nil, nil, func(a answered) { answer(a).at(2).content = []byte("20261120120000.0Z") }, false},
		{"e_sg_ocsp_time_form", nil, nil, func(a answered) { *a.basic.at(0, 1) = *primitive(0x17, []byte("261120120000Z")...) }, false},
		{"w_sg_ocsp_next_update", nil, nil, func(a answered) { answer(a).remove(3) }, false},
		{"e_sg_ocsp_algorithm_parameters", nil, nil, func(a answered) { a.basic.at(1).insert(1, primitive(5)) }, false},
		{"e_sg_ocsp_delegate", nil, nil, func(a answered) {
			certificate(a, func(list *node) { list.ext(t, usage).at(1).content[len(list.ext(t, usage).at(1).content)-1] = 1 })
		}, false},
		{"e_sg_ocsp_duplicate_extension", nil, nil, func(a answered) { extensions(a).insert(0, extensions(a).ext(t, nonce)) }, false},
		{"e_sg_ocsp_extended_revoke", nil, never, func(a answered) { flip(extensions(a).ext(t, extended)) }, false},
		{"e_sg_ocsp_reason", nil, nil, reasonOf(8), false},
		{"e_sg_ocsp_reason", nil, nil, reasonOf(7), false},
		{"w_sg_ocsp_unspecified", nil, nil, reasonOf(0), false},
		{"e_sg_ocsp_nonce", nil, nil, func(a answered) {
			extensions(a).ext(t, nonce).at(1).content = append([]byte{4, 0x81, 129}, make([]byte, 129)...)
		}, false},
		{"e_sg_ocsp_nonce", nil, nil, func(a answered) { extensions(a).ext(t, nonce).at(1).content = []byte{4, 0} }, false},
		{"e_sg_br_ocsp_no_check", nil, nil, func(a answered) {
			certificate(a, func(list *node) { list.ext(t, "\x2b\x06\x01\x05\x05\x07\x30\x01\x05").at(0).content[8] = 0x7f })
		}, true},
		{"e_sg_br_ocsp_lifetime", nil, func(d *ocsp.ResponseData) { d.Answers[0].NextUpdate = d.Answers[0].ThisUpdate.Add(time.Hour) }, func(answered) {}, true},
		{"e_sg_br_ocsp_lifetime", nil, func(d *ocsp.ResponseData) { d.Answers[0].NextUpdate = d.Answers[0].ThisUpdate.Add(241 * time.Hour) }, func(answered) {}, true},
		{"e_sg_br_ocsp_reason_extension", nil, nil, func(a answered) { answer(a).at(4, 0).insert(0, extensionOf(reason, 10, 1, 1)) }, true},
	}
	for _, change := range []func(*ocsp.ResponseData){nil, never} {
		if found := lint.OCSP(goodResponse(t, change).bytes(), true); len(found) > 0 {
			t.Fatalf("a good response: %v", found)
		}
	}
	shown := make(map[string]bool)
	for _, example := range examples {
		a := goodResponse(t, example.draft)
		example.slip(a)
		wantFindings(t, example.rule, lint.OCSP(a.bytes(), example.ofBRs), example.also)
		shown[example.rule] = true
	}
	wantAll(t, lint.TestingOnlyOCSPRules(), shown)
	for _, junk := range [][]byte{nil, {0x30, 0}, goodResponse(t, nil).bytes()[1:]} {
		if found := lint.OCSP(junk, false); len(found) != 1 || found[0].Lint != "parse" {
			t.Errorf("%x: %v", junk, found)
		}
	}
	if found := lint.OCSP([]byte{0x30, 3, 10, 1, 3}, true); len(found) > 0 {
		t.Errorf("tryLater: %v", found)
	}
}

func FuzzOwnRules(f *testing.F) {
	f.Add([]byte{0x30, 3, 10, 1, 3})
	f.Add([]byte{0x30, 0})
	f.Fuzz(func(t *testing.T, der []byte) {
		lint.CRL(der, true)
		lint.OCSP(der, true)
	})
}
