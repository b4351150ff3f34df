package crl

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"
	"time"

	"signet.example/signet/pki"
)

// List is a revocation list that was read. It is immutable, except for what Verify remembers, and safe for concurrent
// use.
type List struct {
	Version    int       // 1 or 2
	Issuer     []byte    // DER of the issuer's Name
	ThisUpdate time.Time //
	NextUpdate time.Time // zero if absent
	Algorithm  Algorithm // of the signature
	Size       int64     // octets of the whole list

	Number       Number // meaningful if HasNumber
	HasNumber    bool
	Delta        bool
	BaseNumber   Number                    // of the deltaCRLIndicator, meaningful if Delta
	AuthorityKey []byte                    // DER of the authorityKeyIdentifier, nil if absent
	IDP          *IssuingDistributionPoint // nil if the list has none: then it covers all certificates of its issuer
	Freshest     []DistributionPoint       // where its deltas are
	ExpiredSince time.Time                 // expiredCertsOnCRL, zero if absent

	// Unusable is why nothing may be decided by this list although it can be read: a *CriticalExtensionError or a
	// *ProfileError; nil if it may be used.
	Unusable error

	// Deviations are breaches of RFC 5280 that leave no doubt about the list's meaning. Issuers commit them;
	// Rules.Strict says whether such a list counts.
	Deviations []*ProfileError

	name      string          // canonical form of Issuer
	critical  map[string]bool // content octets of the identifiers of critical extensions
	entries   index
	sums      bool   // entries has only the count of entries,
	sum       Digest // and this is their digest
	message   signed
	signature []byte

	verified sync.Map // KeyHash of a signer -> struct{}
}

// Entry is one revoked certificate in a list.
type Entry struct {
	Serial       []byte     // content octets of the INTEGER; not to be changed
	RevokedAt    time.Time  //
	Reason       pki.Reason // Unspecified if the list gives none
	InvalidityAt time.Time  // zero if absent
	Issuer       []byte     // DER of the certificate's issuer: that of the list, or the name in certificateIssuer
}

// Parse reads a list from memory. It keeps a reference to der only if the list is signed with an algorithm that needs
// the whole message to verify (Ed25519, ML-DSA). It refuses a list with more than 1,024 entries of one serial number,
// and one in which repeated numbers make more pairs of entries than a million plus 16 for each entry. The error is a
// *ParseError.
func Parse(der []byte) (*List, error) {
	return read(&scanner{buf: der})
}

// Read reads a list of at most limit octets from r, up to its end. It takes constant memory, except for the index
// (about 40 octets an entry with a serial number of 20, and 9 more while it is built, before the signature can be
// verified) and, for the algorithms named at Parse, the list itself. The error is a *LimitError, a *ParseError or what
// r returned.
func Read(r io.Reader, limit int64) (*List, error) {
	return read(&scanner{src: r, limit: limit})
}

// readSum is Read for a list whose entries are counted and summed, and not kept.
func readSum(r io.Reader, limit int64) (*List, error) {
	return walk(&scanner{src: r, limit: limit}, true)
}

// issuedBy reports whether the list's issuer has this name, given in DER.
func (l *List) issuedBy(name []byte) bool {
	if bytes.Equal(name, l.Issuer) {
		return true
	}
	canonical, ok := CanonicalName(name)
	return ok && canonical == l.name
}

// Len returns the number of entries.
func (l *List) Len() int { return l.entries.count }

// Lookup returns the entry of a certificate, given the content octets of its serial number and the DER of its issuer's
// name. If the list has several entries of the certificate, one that revokes it wins over one that does not.
func (l *List) Lookup(serial, issuer []byte) (found Entry, ok bool) {
	l.entries.find(serial, func(r record) bool {
		for name := range l.entries.issuersOf(r, l.Issuer) {
			if SameName(name, issuer) && (!ok || found.Reason == pki.RemoveFromCRL) {
				found, ok = l.entries.entry(r, name), true
			}
		}
		return true
	})
	return found, ok
}

// Entries yields the entries in the order of the list. An entry whose issuer has several names is yielded once for
// each.
func (l *List) Entries() iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		for position := range l.entries.positions() {
			r := l.entries.at(position)
			for name := range l.entries.issuersOf(r, l.Issuer) {
				if !yield(l.entries.entry(r, name)) {
					return
				}
			}
		}
	}
}

// reader is the state of one walk through a list.
type reader struct {
	scanner
	list   *List
	where  string
	at     int64 // offset of the element that where names
	issuer int   // certificate issuer in force, -1: the list's own

	early         bool // a date before 2050 is a GeneralizedTime
	unknownReason bool // an entry has a reason code that does not exist

	scratch []extension // of the entry at hand

	document Document // the list itself, if seen is not nil
	seen     *Seen    // entries to skip; nil: none
}

func read(s *scanner) (*List, error) { return walk(s, false) }

func walk(s *scanner, sums bool) (*List, error) {
	r := &reader{scanner: *s, list: &List{sums: sums}, issuer: -1}
	err := r.certificateList()
	if err == nil && !sums {
		r.in("revokedCertificates")
		err = r.list.entries.build()
	}
	if err == nil {
		r.deviations()
	}
	r.wait()
	return r.ending(err)
}

// ending returns the list, or err with the place where it happened.
func (r *reader) ending(err error) (*List, error) {
	if err != nil {
		if r.broken != nil {
			return nil, r.broken
		}
		return nil, &ParseError{r.where, r.at, err}
	}
	r.list.message.end()
	return r.list, nil
}

// in notes which element is being read, for errors.
func (r *reader) in(where string) { r.where, r.at = where, r.offset() }

// certificateList reads the whole list (RFC 5280, Section 5.1).
func (r *reader) certificateList() error {
	r.in("CertificateList")
	end, err := r.enter(tagSequence)
	if err != nil {
		return err
	}
	if r.src == nil && end != r.base+int64(len(r.buf)) {
		return lengthMismatch(end, r.base+int64(len(r.buf)))
	}
	r.list.Size = end
	inner, err := r.tbsCertList(end)
	if err != nil {
		return err
	}
	r.in("signatureAlgorithm")
	_, outer, _, err := r.take()
	if err != nil {
		return err
	}
	// RFC 5280, Section 5.1.1.2: the signed and the unsigned algorithm must be the same.
	if !bytes.Equal(outer, inner) {
		return errors.New("differs from the algorithm in tbsCertList")
	}
	r.in("signatureValue")
	tag, _, content, err := r.take()
	if err != nil {
		return err
	}
	if tag != 0x03 || len(content) < 2 || content[0] != 0 {
		return errors.New("not a bit string of whole octets")
	}
	r.list.signature = bytes.Clone(content[1:])
	if r.offset() != end {
		return errors.New("does not end where the list ends")
	}
	if ended, err := r.ended(); err != nil || !ended {
		r.in("CertificateList")
		return errors.Join(err, errors.New("followed by other octets"))
	}
	return nil
}

func lengthMismatch(want, have int64) error {
	if want > have {
		return errTruncated
	}
	return fmt.Errorf("followed by %d other octets", have-want)
}

// tbsCertList reads what is signed and returns the DER of its algorithm.
func (r *reader) tbsCertList(outerEnd int64) (algorithm []byte, err error) {
	l := r.list
	r.in("tbsCertList")
	r.startDigest()
	end, err := r.enter(tagSequence)
	if err != nil {
		return nil, err
	}
	if end > outerEnd {
		return nil, errors.New("longer than the list")
	}
	if err := r.version(); err != nil {
		return nil, err
	}
	if algorithm, err = r.algorithm(); err != nil {
		return nil, err
	}
	r.digestAhead(end)
	if err := r.issuerName(); err != nil {
		return nil, err
	}
	if l.ThisUpdate, err = r.time("thisUpdate", false); err != nil {
		return nil, err
	}
	if l.NextUpdate, err = r.time("nextUpdate", r.offset() >= end || !r.coming(tagUTCTime, tagGeneralizedTime)); err != nil {
		return nil, err
	}
	if r.offset() < end && r.coming(tagSequence) {
		if err := r.revokedCertificates(end); err != nil {
			return nil, err
		}
	}
	if r.offset() < end {
		if err := r.extensions(); err != nil {
			return nil, err
		}
	}
	if r.offset() != end {
		r.in("tbsCertList")
		return nil, errors.New("its content does not end where it says")
	}
	if r.issuer >= 0 && (r.list.IDP == nil || !r.list.IDP.Indirect) {
		r.unusable(&ProfileError{"5.3.3", "entries name another issuer, and the list does not say that it is indirect"})
	}
	r.endDigest()
	return algorithm, nil
}

// version is OPTIONAL and, if there, v2: RFC 5280, Section 5.1.2.1.
func (r *reader) version() error {
	r.in("version")
	r.list.Version = 1
	if !r.coming(tagInteger) {
		return nil
	}
	_, _, content, err := r.take()
	if err != nil {
		return err
	}
	if !bytes.Equal(content, []byte{1}) {
		return errors.New("neither absent nor v2")
	}
	r.list.Version = 2
	return nil
}

func (r *reader) algorithm() ([]byte, error) {
	r.in("signature")
	tag, whole, _, err := r.take()
	if err != nil {
		return nil, err
	}
	if tag != tagSequence {
		return nil, &tagError{tag, tagSequence}
	}
	r.list.Algorithm = Algorithm(whole)
	r.digest = r.list.message.begin(r.list.Algorithm)
	return []byte(r.list.Algorithm), nil
}

func (r *reader) issuerName() error {
	r.in("issuer")
	tag, whole, content, err := r.take()
	if err != nil {
		return err
	}
	if tag != tagSequence {
		return &tagError{tag, tagSequence}
	}
	// RFC 5280, Section 5.1.2.3: the issuer has a name.
	if len(content) == 0 {
		return errors.New("name is empty")
	}
	r.list.Issuer = bytes.Clone(whole)
	var ok bool
	if r.list.name, ok = CanonicalName(r.list.Issuer); !ok {
		return errors.New("not a name")
	}
	return nil
}

// coming reports whether the next element has one of these tags.
func (r *reader) coming(tags ...byte) bool {
	b, err := r.peek(1)
	return err == nil && len(b) > 0 && bytes.IndexByte(tags, b[0]) >= 0
}

func (r *reader) time(where string, absent bool) (t time.Time, err error) {
	r.in(where)
	if absent {
		return time.Time{}, nil
	}
	tag, _, content, err := r.take()
	if err != nil {
		return time.Time{}, err
	}
	seconds, err := parseTime(tag, content)
	if err != nil {
		return time.Time{}, err
	}
	t = time.Unix(seconds, 0).UTC()
	if tag == tagGeneralizedTime {
		r.noteEarly(seconds)
	}
	return t, nil
}

// noteEarly notes a GeneralizedTime that had to be a UTCTime: from 1950 to 2049 (RFC 5280, Sections 5.1.2.4 to
// 5.1.2.6).
func (r *reader) noteEarly(seconds int64) {
	if seconds >= -631152000 && seconds < 2524608000 {
		r.early = true
	}
}

// revokedCertificates reads the entries. The rest of the reader is arranged to make this loop fast.
func (r *reader) revokedCertificates(tbsEnd int64) error {
	r.in("revokedCertificates")
	end, err := r.enter(tagSequence)
	if err != nil {
		return err
	}
	if end > tbsEnd {
		return errors.New("longer than tbsCertList")
	}
	if r.offset() == end {
		r.unusable(&ProfileError{"5.1.2.6", "the list of revoked certificates is present and empty"})
	}
	if r.seen != nil {
		if err := r.passSeen(); err != nil {
			return err
		}
	}
	for r.offset() < end {
		start := r.offset()
		if err := r.nextEntry(); err != nil {
			r.where, r.at = fmt.Sprintf("revokedCertificates[%d]", r.list.entries.count), start
			return err
		}
	}
	if r.offset() != end {
		return errors.New("its content does not end where it says")
	}
	return nil
}

// nextEntry reads one element of revokedCertificates.
func (r *reader) nextEntry() error {
	if b := r.buf[r.pos:]; len(b) >= 2 && b[0] == tagSequence && b[1] < 0x80 && len(b) >= 2+int(b[1]) { // nearly all of them
		r.pos += 2 + int(b[1])
		return r.entry(b[2 : 2+int(b[1])])
	}
	tag, _, content, err := r.take()
	if err != nil {
		return err
	}
	if tag != tagSequence {
		return &tagError{tag, tagSequence}
	}
	return r.entry(content)
}

func (r *reader) entry(b []byte) error {
	tag, serial, b, err := element(b)
	if err != nil {
		return err
	}
	if tag != tagInteger {
		return &tagError{tag, tagInteger}
	}
	if err := checkInteger(serial); err != nil {
		return err
	}
	if len(serial) > 255 {
		return errors.New("serial number is longer than 255 octets")
	}
	tag, date, b, err := element(b)
	if err != nil {
		return err
	}
	e := record{serial: serial, invalidity: noDate}
	if e.at, err = parseTime(tag, date); err != nil {
		return err
	}
	if tag == tagGeneralizedTime {
		r.noteEarly(e.at)
	}
	if len(b) > 0 {
		if err := r.entryExtensions(b, &e); err != nil {
			return err
		}
	}
	e.issuer = r.issuer
	if r.list.sums {
		r.list.sum += e.digest()
		r.list.entries.count++
		return nil
	}
	r.list.entries.add(e)
	return nil
}

// deviations records breaches of the standard that leave no doubt about the list's meaning.
func (r *reader) deviations() {
	deviate := func(section, text string) {
		r.list.Deviations = append(r.list.Deviations, &ProfileError{section, text})
	}
	if r.list.Version == 2 && !r.list.HasNumber {
		deviate("5.2.3", "the list has no CRL number")
	}
	if r.list.NextUpdate.IsZero() {
		deviate("5.1.2.5", "the list has no nextUpdate")
	}
	if r.early {
		deviate("5.1.2.4", "a date before 2050 is written as GeneralizedTime")
	}
	if r.unknownReason {
		deviate("5.3.1", "an entry has a reason code that does not exist")
	}
	if r.list.entries.twice {
		deviate("5.1.2.6", "a certificate is listed twice")
	}
}

// unusable records the first reason.
func (r *reader) unusable(err error) {
	if r.list.Unusable == nil {
		r.list.Unusable = err
	}
}

type tagError struct{ have, want byte }

func (e *tagError) Error() string {
	return fmt.Sprintf("tag %#02x where %#02x should be", e.have, e.want)
}
