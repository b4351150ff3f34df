package crl_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"encoding/asn1"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"signet.example/signet/crl"
)

// TestEveryDigitOfATime: what is no digit is refused wherever it stands, and so are days that a year does not have.
func TestEveryDigitOfATime(t *testing.T) {
	ca := newAuthority(t, "Digit CA", newKey(t))
	long := time.Date(2050, 1, 1, 0, 0, 0, 0, time.UTC)
	der := strange{version: -1, issuer: ca.cert.RawSubject, this: long, early: true, signer: ca.key}.der(t)
	text := []byte(long.Format("20060102150405Z"))
	parse := func(other []byte) error { _, err := crl.Parse(bytes.Replace(der, text, other, 1)); return err }
	for i := range text[:len(text)-1] {
		for _, c := range []byte{'/', ':', ' ', 0xb0} {
			other := bytes.Clone(text)
			other[i] = c
			if parse(other) == nil {
				t.Errorf("time %q is accepted", other)
			}
		}
	}
	for day, ok := range map[string]bool{"20960229": true, "21000229": false, "24000229": true, "20950229": false, "20951131": false, "20951231": true} {
		if err := parse([]byte(day + "000000Z")); (err == nil) != ok {
			t.Errorf("%s: %v", day, err)
		}
	}
}

// TestReadsToTheLetter: parts of a list that other tests leave alone.
func TestReadsToTheLetter(t *testing.T) {
	ca := newAuthority(t, "Letter CA", newKey(t))
	a, b := newAuthority(t, "A", ca.key).cert.RawSubject, newAuthority(t, "B", ca.key).cert.RawSubject
	keyID := func(fields ...[]byte) extension {
		return extension{oid: asn1.ObjectIdentifier{2, 5, 29, 35}, value: tlv(0x30, fields...)}
	}
	named := func(issuer []byte) strangeEntry {
		return strangeEntry{serial: []byte{7}, extensions: []extension{certificateIssuerExtension(issuer)}}
	}
	unknown := func(n int) (all []extension) {
		for i := range n {
			all = append(all, extension{oid: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 2, i}, value: []byte{5, 0}})
		}
		return all
	}
	for _, c := range []struct {
		name   string
		change func(*strange)
		want   string // of the error, of Unusable or of the first deviation
	}{
		{"whole authority key identifier", func(s *strange) {
			s.extensions = append(s.extensions, keyID(tlv(0x80, []byte{1}), tlv(0xa1, directory(a)), tlv(0x82, []byte{1})))
		}, ""},
		{"authority key identifier with another field", func(s *strange) { s.extensions = append(s.extensions, keyID(tlv(0x83, []byte{1}))) }, "unexpected tag"},
		{"issuers of entries in a list with a scope that is not indirect", func(s *strange) {
			s.extensions, s.entries = append(s.extensions, idpExtension(onlyUsers)), []strangeEntry{named(a)}
		}, "5.3.3"},
		{"one number of two named issuers", func(s *strange) {
			s.extensions, s.entries = append(s.extensions, idpExtension(indirect)), []strangeEntry{named(a), named(b)}
		}, ""},
		{"one number of one named issuer", func(s *strange) {
			s.extensions, s.entries = append(s.extensions, idpExtension(indirect)), []strangeEntry{named(a), named(a)}
		}, "5.1.2.6"},
		{"number of 20 octets", func(s *strange) {
			s.extensions = []extension{{oid: asn1.ObjectIdentifier{2, 5, 29, 20}, value: tlv(2, []byte{0}, bytes.Repeat([]byte{0xff}, 20))}}
		}, ""},
		{"as many extensions as are read", func(s *strange) { s.extensions = append(s.extensions, unknown(63)...) }, ""},
		{"one more", func(s *strange) { s.extensions = append(s.extensions, unknown(64)...) }, "more than 64"},
		{"unused bits of reasons that are set", func(s *strange) {
			s.extensions = append(s.extensions, idpExtension(tlv(0x83, []byte{6, 0x7f})))
		}, "not a bit string"},
	} {
		s := strange{version: 1, issuer: ca.cert.RawSubject, this: now, next: now.AddDate(0, 0, 1), signer: ca.key,
			entries: []strangeEntry{{serial: []byte{5}}}, extensions: []extension{numberExtension(1)}}
		c.change(&s)
		l, err := crl.Parse(s.der(t))
		if err == nil {
			if err = l.Unusable; err == nil && len(l.Deviations) > 0 {
				err = l.Deviations[0]
			}
		}
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
		if n, ok := uint64(0), false; err == nil && c.name == "number of 20 octets" {
			if n, ok = l.Number.Uint64(); ok {
				t.Errorf("a number of 20 octets is %d", n)
			}
		}
	}

	// An algorithm that nobody knows: the list is read, and proves nothing.
	der := strange{version: 1, issuer: ca.cert.RawSubject, this: now, signer: ca.key}.der(t)
	l, err := crl.Parse(bytes.ReplaceAll(der, ecdsaWithSHA256, append(slices.Clone(ecdsaWithSHA256[:11]), 0x7f)))
	if err != nil {
		t.Fatal(err)
	}
	if e, ok := errors.AsType[*crl.SignatureError](l.Verify(ca.cert)); !ok || e.Cause != crl.CauseAlgorithm {
		t.Errorf("an unknown algorithm: %v", e)
	}
	unread := *ca.cert
	unread.PublicKey = nil // as crypto/x509 leaves a key of a kind that it does not know
	l, err = crl.Parse(der)
	if err != nil {
		t.Fatal(err)
	}
	if e, ok := errors.AsType[*crl.SignatureError](l.Verify(&unread)); !ok || e.Cause != crl.CauseAlgorithm {
		t.Errorf("an unknown key: %v", e)
	}
}

// TestParametersOfAlgorithms: NULL or nothing is one for ECDSA and RSA, and nothing else is for anybody (decision 1460).
func TestParametersOfAlgorithms(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	null, other := []byte{5, 0}, []byte{4, 0}
	id := func(octets ...byte) []byte { return tlv(6, octets) }
	ecdsaID, rsaID := id(0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2), id(0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 0x0b)
	for _, c := range []struct {
		name      string
		key       crypto.Signer
		algorithm []byte
		cause     crl.Cause
	}{
		{"ECDSA", newKey(t), tlv(0x30, ecdsaID), crl.CauseNone},
		{"ECDSA, NULL", newKey(t), tlv(0x30, ecdsaID, null), crl.CauseNone},
		{"ECDSA, something else", newKey(t), tlv(0x30, ecdsaID, other), crl.CauseAlgorithm},
		{"ECDSA, NULL twice", newKey(t), tlv(0x30, ecdsaID, null, null), crl.CauseAlgorithm},
		{"ECDSA with SHA-1", newKey(t), tlv(0x30, id(0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1)), crl.CauseAlgorithm},
		{"RSA", rsaKey, tlv(0x30, rsaID, null), crl.CauseNone},
		{"RSA, nothing", rsaKey, tlv(0x30, rsaID), crl.CauseNone},
		{"RSA, something else", rsaKey, tlv(0x30, rsaID, other), crl.CauseAlgorithm},
		{"Ed25519", rsaKey, tlv(0x30, id(0x2b, 0x65, 0x70)), crl.CauseSignature},
		{"Ed25519, NULL", rsaKey, tlv(0x30, id(0x2b, 0x65, 0x70), null), crl.CauseAlgorithm},
		{"no identifier", rsaKey, tlv(0x30, null), crl.CauseAlgorithm},
		{"nothing", rsaKey, tlv(0x30), crl.CauseAlgorithm},
	} {
		ca := newAuthority(t, "Algorithm CA", c.key)
		l, err := crl.Parse(strange{version: 1, issuer: ca.cert.RawSubject, this: now, signer: c.key, signedAs: c.algorithm, algorithm: c.algorithm}.der(t))
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		cause := crl.CauseNone
		if e, ok := errors.AsType[*crl.SignatureError](l.Verify(ca.cert)); ok {
			cause = e.Cause
		}
		if cause != c.cause {
			t.Errorf("%s: %s, want %s", c.name, cause, c.cause)
		}
	}
}

// TestOctetsThatAreNoNames: what is no name is the same as nothing but itself.
func TestOctetsThatAreNoNames(t *testing.T) {
	attribute := func(tag byte, content ...byte) []byte {
		return tlv(0x30, tlv(0x31, tlv(0x30, []byte{6, 3, 0x55, 4, 3}, tlv(tag, content))))
	}
	name := attribute(0x0c, 'x')
	others := [][]byte{{5, 0}, {0x30}, tlv(0x30, []byte{0x31, 0}), tlv(0x30, tlv(0x31, tlv(0x30, []byte{6, 0}, tlv(0x0c, []byte("x"))))), append(bytes.Clone(name), 0),
		attribute(0x13, 0xe9), attribute(0x16, 0xe9), attribute(0x0c, 0xe9), attribute(0x1e, 'x'), attribute(0x1e, 0, 'y', 0), nil}
	for i, a := range append(others, name) {
		for j, b := range append(others, name) {
			if crl.SameName(a, b) != (i == j) {
				t.Errorf("%x and %x: the same %t", a, b, i != j)
			}
		}
	}
	if !crl.SameName(name, attribute(0x1e, 0, 'X')) || !crl.SameName(name, attribute(0x13, 'X')) {
		t.Error("one name in three types of strings is not the same")
	}
}
