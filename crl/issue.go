package crl

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
)

// Issued is a list that was made, checked and signed.
type Issued struct {
	Document  Document
	Signature Signature
	Sum       [sha256.Size]byte // Document.Sum
	Entries   int
}

// Seen remembers which entries of a list were read back when it was last made. Entries of an Arena never change, so
// while a list only grows its old entries are hashed and not read again. The zero value has seen nothing. It is not
// safe for concurrent use.
type Seen struct {
	entries Entries
	count   int
	digest  Digest
}

// Unseen returns the entries that have not been read back yet.
func (s *Seen) Unseen(entries Entries) Entries {
	if !s.begins(entries) {
		return entries
	}
	last := len(s.entries) - 1
	rest := entries[last:]
	if n := len(s.entries[last]); n < len(rest[0]) {
		return append(Entries{rest[0][n:]}, rest[1:]...)
	}
	return rest[1:]
}

// begins reports whether the entries begin with those that were seen: the same octets in the same place, not only equal
// ones.
func (s *Seen) begins(entries Entries) bool {
	last := len(s.entries) - 1
	if s.count == 0 || len(entries) <= last {
		return false
	}
	for i, piece := range s.entries {
		if &piece[0] != &entries[i][0] || len(piece) > len(entries[i]) || i < last && len(piece) < len(entries[i]) {
			return false
		}
	}
	return true
}

// Draft is a list that was made and checked, but not signed.
type Draft struct {
	list      *List
	algorithm Algorithm
	scheme    scheme
	tbs       Document
	digest    []byte // SHA-256 of tbs
	want      Want
}

// Draft makes a list, reads it back with the reader that others would use, and compares it with want, which takes long
// for a long list. seen, if not nil, names the entries that need no reading, and is updated. The error is a
// *CheckError, or says why the list cannot be made.
func (t *Template) Draft(entries Entries, want Want, seen *Seen) (*Draft, error) {
	algorithm, err := AlgorithmFor(want.Key)
	if err != nil {
		return nil, err
	}
	tbs, err := t.unsigned(entries, algorithm)
	if err != nil {
		return nil, err
	}
	var known *Seen
	if seen != nil && seen.begins(entries) {
		known = seen
	}
	l, err := readBack(tbs, known)
	if err != nil {
		return nil, &CheckError{"parse", err}
	}
	for _, rule := range rules[:len(rules)-1] {
		if err := rule.check(l, &want); err != nil {
			return nil, &CheckError{rule.name, err}
		}
	}
	scheme, ok := schemeOf(algorithm)
	if !ok || l.Algorithm != algorithm {
		return nil, &CheckError{"profile", fmt.Errorf("the algorithm is %s", l.Algorithm)}
	}
	digest := l.message.sum
	if scheme.hash != crypto.SHA256 {
		h := sha256.New()
		tbs.digest(h)
		digest = h.Sum(nil)
	}
	if seen != nil {
		*seen = Seen{slices.Clone(entries), l.Len(), l.Digest()}
	}
	return &Draft{l, algorithm, scheme, tbs, digest, want}, nil
}

// Sign signs the list that was read back, so that every octet is hashed once. The signer's key must be that of Want.
// The error is a *CheckError, or that of the signer.
func (d *Draft) Sign(signer crypto.Signer) (Issued, error) {
	value, err := signer.Sign(rand.Reader, d.list.message.sum, d.scheme.hash)
	if err != nil {
		return Issued{}, fmt.Errorf("sign revocation list: %w", err)
	}
	d.list.signature = value
	if err := checkSignature(d.list, &d.want); err != nil {
		return Issued{}, &CheckError{"signature", err}
	}
	signature := Signature{d.algorithm, value}
	document := signature.close(slices.Clone(d.tbs))
	signed, tail, ok := document.signed()
	if !ok || !framed(document, d.tbs, signed, tail, signature) {
		return Issued{}, &CheckError{"parse", errors.New("the list does not hold exactly what was signed")}
	}
	return Issued{document, signature, sumOf(d.digest, tail), d.list.Len()}, nil
}

// framed reports whether a document consists of what was signed, in place, its algorithm and its signature, and of
// nothing else.
func framed(document, tbs, signed Document, tail []byte, signature Signature) bool {
	tag, n, length, err := header(document[0])
	last := len(tbs) - 1
	if err != nil || tag != tagSequence || int64(n)+length != document.Size() || len(signed) != len(tbs) || !identical(tbs[1:last], signed[1:last]) ||
		!bytes.Equal(tbs[0], signed[0]) || !bytes.Equal(tbs[last], signed[last]) {
		return false
	}
	value, ok := bytes.CutPrefix(tail, []byte(signature.Algorithm))
	if !ok {
		return false
	}
	tag, content, rest, err := element(value)
	return err == nil && tag == 0x03 && len(rest) == 0 && len(content) > 0 && content[0] == 0 && bytes.Equal(content[1:], signature.Value)
}

// readBack reads the tbsCertList that is to be signed. The List has no signature.
func readBack(tbs Document, seen *Seen) (*List, error) {
	r := &reader{scanner: scanner{src: tbs.Reader(), limit: tbs.Size()}, list: &List{sums: true}, issuer: -1, seen: seen}
	if seen != nil {
		r.document = tbs
	}
	_, err := r.tbsCertList(tbs.Size())
	if err == nil {
		var ended bool
		if ended, err = r.ended(); err == nil && !ended {
			err = errors.New("followed by other octets")
		}
		r.deviations()
	}
	return r.ending(err)
}

// passSeen skips the entries that were seen: it hashes them and does not read them.
func (r *reader) passSeen() error {
	passed := Document(r.seen.entries)
	if !identical(passed, r.document.between(r.offset(), r.offset()+passed.Size())) {
		return errors.New("the entries that were read before are not where they were")
	}
	r.list.entries.count, r.list.sum = r.seen.count, r.seen.digest
	return r.pass(r.document, passed)
}

// identical reports whether two documents are the same octets in the same place.
func identical(a, b Document) bool {
	return slices.EqualFunc(a, b, func(x, y []byte) bool { return &x[0] == &y[0] && len(x) == len(y) })
}

// pass hands octets of a document to the digest and continues after them.
func (s *scanner) pass(document, octets Document) error {
	s.discard()
	octets.digest(s.digest)
	s.base += octets.Size()
	s.buf = s.buf[:0]
	from := document.Reader()
	if _, err := from.Seek(s.base, io.SeekStart); err != nil {
		return err
	}
	s.src = from
	return nil
}
