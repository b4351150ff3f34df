package crl

import (
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"
	"time"
)

// Template is a list without its entries and its signature.
type Template struct {
	Issuer       []byte    // DER of the issuer's subject Name
	KeyID        []byte    // subject key identifier of the issuer
	Number       uint64    // CRL number, from 1
	ThisUpdate   time.Time // seconds count
	NextUpdate   time.Time // after ThisUpdate
	Base         uint64    // not 0: the list is a delta of the list with this number
	URLs         []string  // names of a critical issuing distribution point, as they are in the certificates
	UserCerts    bool      // onlyContainsUserCerts, in the same extension
	Freshest     []string  // URLs of the delta; none: no such extension
	ExpiredSince time.Time // expiredCertsOnCRL; zero: none
}

// Signature is what a signer adds to a list. With the same entries and template it gives the same bytes again.
type Signature struct {
	Algorithm Algorithm
	Value     []byte
}

// Sign makes the list of the entries and signs it with the algorithm of the signer's key. It hashes the entries in
// place and does not copy them, so a list of a million costs its hash and one signature.
func (t *Template) Sign(entries Entries, signer crypto.Signer) (Document, Signature, error) {
	algorithm, err := AlgorithmFor(signer.Public())
	if err != nil {
		return nil, Signature{}, err
	}
	tbs, err := t.unsigned(entries, algorithm)
	if err != nil {
		return nil, Signature{}, err
	}
	value, err := sign(rand.Reader, signer, algorithm, tbs)
	if err != nil {
		return nil, Signature{}, err
	}
	sig := Signature{algorithm, value}
	return sig.close(tbs), sig, nil
}

// Unsigned returns the octets that Sign signs: tbsCertList, including the algorithm.
func (t *Template) Unsigned(entries Entries, algorithm Algorithm) (Document, error) {
	return t.unsigned(entries, algorithm)
}

// Assemble makes the document that Sign made, from the Signature that it returned.
func (t *Template) Assemble(entries Entries, sig Signature) (Document, error) {
	tbs, err := t.unsigned(entries, sig.Algorithm)
	if err != nil {
		return nil, err
	}
	return sig.close(tbs), nil
}

// unsigned makes tbsCertList (RFC 5280, Section 5.1.2).
func (t *Template) unsigned(entries Entries, algorithm Algorithm) (Document, error) {
	if err := t.validate(); err != nil {
		return nil, fmt.Errorf("build revocation list: %w", err)
	}
	head := append([]byte{tagInteger, 1, 1}, algorithm...)
	head = append(head, t.Issuer...)
	head = appendTime(head, t.ThisUpdate)
	head = appendTime(head, t.NextUpdate)

	octets := Document(entries).Size()
	// RFC 5280, Section 5.1.2.6: without entries the field is absent.
	if octets > 0 {
		head = appendHeader(head, tagSequence, int(octets))
	}
	tail := wrap(0xa0, wrap(tagSequence, t.extensions()))

	content := int64(len(head)) + octets + int64(len(tail))
	if content > listMax {
		return nil, fmt.Errorf("build revocation list: %d octets are more than DER lengths of four octets hold", content)
	}
	tbs := make(Document, 0, len(entries)+2)
	tbs = append(tbs, append(appendHeader(nil, tagSequence, int(content)), head...))
	tbs = append(tbs, entries...)
	return append(tbs, tail), nil
}

// listMax leaves room for a signature, even of ML-DSA-87, within the largest length that this package writes.
const listMax = 1<<32 - 1 - 8<<10

func (t *Template) validate() error {
	switch {
	case len(t.Issuer) == 0:
		return errors.New("no issuer name")
	case len(t.KeyID) == 0:
		return errors.New("no authority key identifier") // RFC 5280, Section 5.2.1: MUST
	case t.Number == 0:
		return errors.New("CRL number 0")
	case t.Base >= t.Number:
		return fmt.Errorf("delta number %d is not larger than its base %d", t.Number, t.Base)
	case !t.NextUpdate.After(t.ThisUpdate):
		return errors.New("nextUpdate is not after thisUpdate")
	case t.Base != 0 && len(t.Freshest) > 0:
		return errors.New("a delta does not point to deltas") // RFC 5280, Section 5.2.6: MUST NOT
	}
	return nil
}

// extensions returns the extensions in ascending order of their identifiers.
func (t *Template) extensions() []byte {
	b := appendExtension(nil, oidCRLNumber, false, appendUint(nil, t.Number))
	if t.Base != 0 {
		b = appendExtension(b, oidDelta, true, appendUint(nil, t.Base))
	}
	if len(t.URLs) > 0 || t.UserCerts {
		b = appendExtension(b, oidIDP, true, encodeIDP(t.URLs, t.UserCerts))
	}
	b = appendExtension(b, oidAuthorityKey, false, wrap(tagSequence, wrap(0x80, t.KeyID)))
	if len(t.Freshest) > 0 {
		b = appendExtension(b, oidFreshest, false, EncodeDistributionPoints(t.Freshest...))
	}
	if !t.ExpiredSince.IsZero() {
		b = appendExtension(b, oidExpired, false, appendGeneralizedTime(nil, t.ExpiredSince))
	}
	return b
}

func appendExtension(b []byte, oid string, critical bool, value []byte) []byte {
	fields := wrap(0x06, []byte(oid))
	if critical {
		fields = append(fields, 0x01, 1, 0xff)
	}
	return append(b, wrap(tagSequence, fields, wrap(0x04, value))...)
}

// close adds algorithm and signature after, and the header of the whole before, what is signed.
func (s Signature) close(tbs Document) Document {
	end := append([]byte(s.Algorithm), appendHeader(nil, 0x03, 1+len(s.Value))...)
	end = append(append(end, 0), s.Value...)
	first, last := tbs[0], tbs[len(tbs)-1]
	length := int(tbs.Size()) + len(end)
	tbs[0] = append(appendHeader(make([]byte, 0, headerMax+len(first)), tagSequence, length), first...)
	tbs[len(tbs)-1] = append(last[:len(last):len(last)], end...)
	return tbs
}
