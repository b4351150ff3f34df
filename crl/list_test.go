package crl_test

import (
	"bytes"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"io"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"signet.example/signet/crl"
	"signet.example/signet/pki"
)

// TestParseRefusals makes lists that break the encoding, each for one cause.
func TestParseRefusals(t *testing.T) {
	ca := newAuthority(t, "Refused CA", newKey(t))
	good := strange{version: 1, issuer: ca.cert.RawSubject, this: now, next: now.AddDate(0, 0, 1), signer: ca.key,
		entries: []strangeEntry{{serial: []byte{5}}}, extensions: []extension{numberExtension(1)}}
	if _, err := crl.Parse(good.der(t)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		change func(*strange)
		where  string
	}{
		{"explicit version 1", func(s *strange) { s.version = 0 }, "version"},
		{"version 3", func(s *strange) { s.version = 2 }, "version"},
		{"version 1 with extensions", func(s *strange) { s.version = -1 }, "crlExtensions"},
		{"version 1 with entry extensions", func(s *strange) {
			s.version, s.extensions = -1, nil
			s.entries[0].extensions = []extension{reasonExtension(1)}
		}, "revokedCertificates[0]"},
		{"empty issuer", func(s *strange) { s.issuer = []byte{0x30, 0} }, "issuer"},
		{"issuer that is no name", func(s *strange) { s.issuer = []byte{0x30, 2, 5, 0} }, "issuer"},
		{"other outer algorithm", func(s *strange) { s.algorithm = []byte{0x30, 5, 6, 3, 0x2b, 0x65, 0x70} }, "signatureAlgorithm"},
		{"something after the extensions", func(s *strange) { s.tail = []byte{5, 0} }, "tbsCertList"},
		{"extension twice", func(s *strange) { s.extensions = append(s.extensions, numberExtension(2)) }, "crlExtensions"},
		{"negative number", func(s *strange) { s.extensions = []extension{numberExtension(-1)} }, "crlExtensions"},
		{"number of 21 octets", func(s *strange) {
			s.extensions = []extension{{oid: asn1.ObjectIdentifier{2, 5, 29, 20}, value: tlv(2, bytes.Repeat([]byte{0x11}, 21))}}
		}, "crlExtensions"},
		{"empty serial", func(s *strange) { s.entries[0].serial = nil }, "revokedCertificates[0]"},
		{"serial longer than needed", func(s *strange) { s.entries[0].serial = []byte{0, 5} }, "revokedCertificates[0]"},
		{"serial of 256 octets", func(s *strange) { s.entries[0].serial = bytes.Repeat([]byte{1}, 256) }, "revokedCertificates[0]"},
		{"negative reason", func(s *strange) { s.entries[0].extensions = []extension{reasonExtension(0x80)} }, "revokedCertificates[0]"},
		{"reason longer than needed", func(s *strange) {
			s.entries[0].extensions = []extension{{reasonExtension(1).oid, false, tlv(0x0a, []byte{0, 1})}}
		}, "revokedCertificates[0]"},
		{"negative reason of two octets", func(s *strange) {
			s.entries[0].extensions = []extension{{reasonExtension(1).oid, false, tlv(0x0a, []byte{0x80, 0})}}
		}, "revokedCertificates[0]"},
		{"reason of no octet", func(s *strange) {
			s.entries[0].extensions = []extension{{reasonExtension(1).oid, false, tlv(0x0a, nil)}}
		}, "revokedCertificates[0]"},
		{"certificate issuer without a directory name", func(s *strange) {
			s.entries[0].extensions = []extension{{asn1.ObjectIdentifier{2, 5, 29, 29}, true, tlv(0x30, uri("http://x/"))}}
		}, "revokedCertificates[0]"},
		{"octets after the point name", func(s *strange) {
			s.extensions = append(s.extensions, idpExtension(tlv(0xa0, tlv(0xa0, uri("http://x/")), []byte{5, 0})))
		}, "crlExtensions"},
		{"boolean that is not DER", func(s *strange) { s.extensions = append(s.extensions, idpExtension([]byte{0x81, 1, 1})) }, "crlExtensions"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := good
			s.entries = []strangeEntry{{serial: []byte{5}}}
			c.change(&s)
			der := s.der(t)
			_, err := crl.Parse(der)
			parse, ok := errors.AsType[*crl.ParseError](err)
			if !ok || parse.Where != c.where {
				t.Fatalf("error is %v, want one at %s", err, c.where)
			}
			_, streamed := crl.Read(iotestOne(der), 1<<20)
			if streamed == nil || streamed.Error() != err.Error() {
				t.Fatalf("from a stream the error is %v, from memory %v", streamed, err)
			}
		})
	}
}

// iotestOne reads a few octets at a time.
func iotestOne(der []byte) *slowReader { return &slowReader{der} }

type slowReader struct{ rest []byte }

func (r *slowReader) Read(b []byte) (int, error) {
	n := copy(b[:min(len(b), 3)], r.rest)
	r.rest = r.rest[n:]
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// TestUnusable makes lists that can be read and must not be used.
func TestUnusable(t *testing.T) {
	ca := newAuthority(t, "Unusable CA", newKey(t))
	for _, c := range []struct {
		name   string
		change func(*strange)
		want   string
	}{
		{"unknown critical extension", func(s *strange) { s.extensions = append(s.extensions, unknownExtension(true)) }, "critical list extension 1.3.6.1.4.1.99999.1"},
		{"unknown critical entry extension", func(s *strange) { s.entries[0].extensions = []extension{unknownExtension(true)} }, "critical entry extension 1.3.6.1.4.1.99999.1"},
		{"critical number", func(s *strange) { s.extensions[0].critical = true }, "5.2.3"},
		{"users and authorities only", func(s *strange) { s.extensions = append(s.extensions, idpExtension(onlyUsers, onlyCAs)) }, "5.2.5"},
		{"empty issuing distribution point", func(s *strange) { s.extensions = append(s.extensions, idpExtension()) }, "5.2.5"},
		{"empty list of entries", func(s *strange) { s.entries, s.always = nil, true }, "5.1.2.6"},
		{"certificate issuer in a direct list", func(s *strange) {
			s.entries[0].extensions = []extension{certificateIssuerExtension(s.issuer)}
		}, "5.3.3"},
		{"certificate issuer in a list without extensions", func(s *strange) {
			s.entries[0].extensions, s.extensions = []extension{certificateIssuerExtension(s.issuer)}, nil
		}, "5.3.3"},
		{"unknown extensions that are not critical", func(s *strange) {
			s.extensions = append(s.extensions, unknownExtension(false))
			s.entries[0].extensions = []extension{unknownExtension(false), reasonExtension(4)}
		}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := strange{version: 1, issuer: ca.cert.RawSubject, this: now, next: now.AddDate(0, 0, 1), signer: ca.key,
				entries: []strangeEntry{{serial: []byte{5}}}, extensions: []extension{numberExtension(1)}}
			c.change(&s)
			l, err := crl.Parse(s.der(t))
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case c.want == "" && l.Unusable != nil:
				t.Fatalf("unusable: %v", l.Unusable)
			case c.want != "" && (l.Unusable == nil || !strings.Contains(l.Unusable.Error(), c.want)):
				t.Fatalf("unusable is %v, want %q", l.Unusable, c.want)
			}
		})
	}
}

// TestForeignSerials: other authorities' serials are just octets.
func TestForeignSerials(t *testing.T) {
	ca := newAuthority(t, "Foreign CA", newKey(t))
	serials := [][]byte{{0}, {0x80}, {0xff, 0x7f}, {0, 0xff}, bytes.Repeat([]byte{0x7f}, 255), bytes.Repeat([]byte{0x7f}, 21)}
	s := strange{version: -1, issuer: ca.cert.RawSubject, this: now, signer: ca.key}
	for _, octets := range serials {
		s.entries = append(s.entries, strangeEntry{serial: octets})
	}
	l, err := crl.Parse(s.der(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, octets := range serials {
		if _, ok := l.Lookup(octets, l.Issuer); !ok {
			t.Errorf("serial %x is not found", octets)
		}
	}
	if _, ok := l.Lookup([]byte{0xff}, l.Issuer); ok {
		t.Error("a serial that is not on the list is found")
	}
	if l.Version != 1 || l.HasNumber || !l.NextUpdate.IsZero() {
		t.Errorf("list is %+v", l)
	}
}

// TestChunksOfRecords: a list is read whole whatever its entries leave of the memory they are kept in, from nothing to more than a record's fixed
// part. Records are kept in chunks of 4 KiB, 64 KiB and then 1 MiB, each begun when the one before has less room than the longest record.
func TestChunksOfRecords(t *testing.T) {
	ca := newAuthority(t, "Chunk CA", newKey(t))
	for left := range 10 {
		s := leaving(ca, left)
		der := s.der(t)
		parsed, err := crl.Parse(der)
		if err != nil {
			t.Fatalf("%d octets left: %v", left, err)
		}
		streamed, err := crl.Read(bytes.NewReader(der), 1<<20)
		if err != nil {
			t.Fatalf("%d octets left: %v", left, err)
		}
		for _, l := range []*crl.List{parsed, streamed} {
			if l.Len() != len(s.entries) || l.Unusable != nil || len(l.Deviations) > 0 {
				t.Fatalf("%d octets left: %d of %d entries, %v, %v", left, l.Len(), len(s.entries), l.Unusable, l.Deviations)
			}
			n := 0
			for e := range l.Entries() {
				if !bytes.Equal(e.Serial, s.entries[n].serial) {
					t.Fatalf("%d octets left: entry %d is %x, want %x", left, n, e.Serial, s.entries[n].serial)
				}
				if _, ok := l.Lookup(e.Serial, ca.cert.RawSubject); !ok {
					t.Fatalf("%d octets left: entry %d is not found", left, n)
				}
				n++
			}
			if n != len(s.entries) {
				t.Fatalf("%d octets left: %d entries are walked, %d are there", left, n, len(s.entries))
			}
		}
	}
}

// TestIndirect: the certificate issuer holds until the next one is named.
//
//	entry 1          -> the list's issuer
//	entry 2  (names A) -> A
//	entry 2'         -> A
//	entry 1  (names B) -> B
func TestIndirect(t *testing.T) {
	ca := newAuthority(t, "Indirect CA", newKey(t))
	a, b := newAuthority(t, "A", ca.key).cert.RawSubject, newAuthority(t, "B", ca.key).cert.RawSubject
	s := strange{version: 1, issuer: ca.cert.RawSubject, this: now, signer: ca.key,
		extensions: []extension{numberExtension(1), idpExtension(indirect)},
		entries: []strangeEntry{
			{serial: []byte{1}},
			{serial: []byte{2}, extensions: []extension{certificateIssuerExtension(a), reasonExtension(4)}},
			{serial: []byte{3}},
			{serial: []byte{1}, extensions: []extension{certificateIssuerExtension(b)}},
		}}
	l, err := crl.Parse(s.der(t))
	if err != nil || l.Unusable != nil {
		t.Fatal(err, l.Unusable)
	}
	for _, c := range []struct {
		serial byte
		issuer []byte
		want   bool
	}{{1, ca.cert.RawSubject, true}, {1, a, false}, {1, b, true}, {2, a, true}, {2, ca.cert.RawSubject, false}, {3, a, true}, {3, b, false}} {
		if e, ok := l.Lookup([]byte{c.serial}, c.issuer); ok != c.want || ok && !bytes.Equal(e.Issuer, c.issuer) {
			t.Errorf("serial %d: found %t, want %t", c.serial, ok, c.want)
		}
	}
}

// TestSeveralNames: an entry counts under every name of its certificate's issuer (RFC 5280, Section 5.3.3), of which there are not many.
func TestSeveralNames(t *testing.T) {
	ca := newAuthority(t, "Indirect CA", newKey(t))
	a, b, c := newAuthority(t, "A", ca.key).cert.RawSubject, newAuthority(t, "B", ca.key).cert.RawSubject, newAuthority(t, "C", ca.key).cert.RawSubject
	s := strange{version: 1, issuer: ca.cert.RawSubject, this: now, signer: ca.key,
		extensions: []extension{numberExtension(1), idpExtension(indirect)},
		entries: []strangeEntry{
			{serial: []byte{1}, extensions: []extension{certificateIssuerExtension(a, b)}},
			{serial: []byte{2}},
			{serial: []byte{3}, extensions: []extension{certificateIssuerExtension(c)}},
		}}
	l, err := crl.Parse(s.der(t))
	if err != nil || l.Unusable != nil {
		t.Fatal(err, l.Unusable)
	}
	listed := func(serial byte, issuer []byte) bool {
		e, ok := l.Lookup([]byte{serial}, issuer)
		return ok && bytes.Equal(e.Issuer, issuer)
	}
	for serial, issuers := range map[byte][3]bool{1: {true, true, false}, 2: {true, true, false}, 3: {false, false, true}} {
		if got := [3]bool{listed(serial, a), listed(serial, b), listed(serial, c)}; got != issuers {
			t.Errorf("serial %d is listed for %v, want %v", serial, got, issuers)
		}
	}
	var walked []byte
	for e := range l.Entries() {
		walked = append(walked, e.Serial...)
		walked = append(walked, e.Issuer...)
	}
	if want := slices.Concat([]byte{1}, a, []byte{1}, b, []byte{2}, a, []byte{2}, b, []byte{3}, c); !bytes.Equal(walked, want) || l.Len() != 3 {
		t.Errorf("%d entries are walked as %x, want %x", l.Len(), walked, want)
	}
	for n, refused := range map[int]bool{16: false, 17: true} {
		s.entries[0].extensions = []extension{certificateIssuerExtension(slices.Repeat([][]byte{a}, n)...)}
		if _, err := crl.Parse(s.der(t)); (err != nil) != refused {
			t.Errorf("%d names: %v", n, err)
		}
	}
}

func TestTimes(t *testing.T) {
	ca := newAuthority(t, "Time CA", newKey(t))
	for _, at := range []time.Time{
		time.Date(1950, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(1999, 12, 31, 23, 59, 59, 0, time.UTC),
		time.Date(2000, 2, 29, 12, 0, 0, 0, time.UTC), time.Date(2049, 12, 31, 23, 59, 59, 0, time.UTC),
		time.Date(2050, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2100, 3, 1, 0, 0, 0, 0, time.UTC),
		time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC),
	} {
		template := ca.template()
		arena := &crl.Arena{}
		arena.Add(1, crl.Revocation{Serial: pki.Serial{19: 1}, At: at, InvalidityAt: at.Add(time.Hour)})
		entries, _ := arena.At(1)
		der, _, err := signBytes(template, entries, ca.key)
		if err != nil {
			t.Fatal(err)
		}
		l, err := crl.Parse(der)
		if err != nil {
			t.Fatalf("%s: %v", at, err)
		}
		if e, _ := l.Lookup([]byte{1}, l.Issuer); !e.RevokedAt.Equal(at) || !at.Add(time.Hour).Equal(e.InvalidityAt) && at.Year() < 9999 {
			t.Errorf("%s is read as %s and %s", at, e.RevokedAt, e.InvalidityAt)
		}
	}
	der := strange{version: -1, issuer: ca.cert.RawSubject, this: now, signer: ca.key}.der(t)
	good := []byte(now.Format("060102150405Z"))
	for _, bad := range []string{"261320120000Z", "260020120000Z", "260230120000Z", "250229120000Z", "261120240000Z", "261120126000Z", "261120120060Z", "261120120000 ", "26112012000aZ", "2611201200+00"} {
		if _, err := crl.Parse(bytes.Replace(der, good, []byte(bad), 1)); err == nil {
			t.Errorf("time %s is accepted", bad)
		}
	}
}

// TestDamage flips and cuts every octet of a list: never a panic, and never a list that verifies.
func TestDamage(t *testing.T) {
	ca := newAuthority(t, "Damaged CA", newKey(t))
	template := ca.template()
	template.URLs, template.UserCerts = []string{"http://crl.example/x.crl"}, true
	entries, _ := filled(3).At(3)
	der, _, err := signBytes(template, entries, ca.key)
	if err != nil {
		t.Fatal(err)
	}
	for i := range der {
		if _, err := crl.Parse(der[:i]); err == nil {
			t.Fatalf("%d of %d octets are accepted", i, len(der))
		}
		for _, flip := range []byte{0x01, 0x80, 0xff} {
			damaged := bytes.Clone(der)
			damaged[i] ^= flip
			if l, err := crl.Parse(damaged); err == nil && l.Verify(ca.cert) == nil {
				t.Fatalf("octet %d is changed and the list verifies", i)
			}
		}
	}
}

// TestDeviations: what issuers do wrong and readers can live with is told.
func TestDeviations(t *testing.T) {
	ca := newAuthority(t, "Deviating CA", newKey(t))
	other := newAuthority(t, "Other", ca.key).cert.RawSubject
	reasoned := func(extensions ...extension) func(*strange) {
		return func(s *strange) { s.entries[0].extensions = extensions }
	}
	for _, c := range []struct {
		name   string
		change func(*strange)
		want   string
	}{
		{"none", func(*strange) {}, ""},
		{"number", func(s *strange) { s.extensions = nil }, "5.2.3"},
		{"nextUpdate", func(s *strange) { s.next = time.Time{} }, "5.1.2.5"},
		{"GeneralizedTime too early", func(s *strange) { s.early = true }, "5.1.2.4"},
		{"GeneralizedTime in time", func(s *strange) { s.early, s.this = true, time.Date(2050, 1, 1, 0, 0, 0, 0, time.UTC) }, ""},
		{"reason 7", reasoned(reasonExtension(7)), "5.3.1"},
		{"reason 11, beside another extension", reasoned(unknownExtension(false), reasonExtension(11)), "5.3.1"},
		{"reason 127", reasoned(reasonExtension(127)), "5.3.1"},
		{"reason 128", reasoned(extension{reasonExtension(1).oid, false, tlv(0x0a, []byte{0, 0x80})}), "5.3.1"},
		{"reason 256", reasoned(extension{reasonExtension(1).oid, false, tlv(0x0a, []byte{1, 0})}), "5.3.1"},
		{"reason 10", reasoned(reasonExtension(10)), ""},
		{"twice", func(s *strange) { s.entries = append(s.entries, strangeEntry{serial: []byte{5}}) }, "5.1.2.6"},
		{"twice, of two issuers", func(s *strange) {
			s.extensions = append(s.extensions, idpExtension(indirect))
			s.entries = append(s.entries, strangeEntry{serial: []byte{5}, extensions: []extension{certificateIssuerExtension(other)}})
		}, ""},
		{"twice, of one issuer named twice", func(s *strange) {
			s.extensions = append(s.extensions, idpExtension(indirect))
			for _, issuer := range [][]byte{other, s.issuer, other} {
				s.entries = append(s.entries, strangeEntry{serial: []byte{7}, extensions: []extension{certificateIssuerExtension(issuer)}})
			}
		}, "5.1.2.6"},
	} {
		s := strange{version: 1, issuer: ca.cert.RawSubject, this: now, next: now.AddDate(0, 0, 1), signer: ca.key,
			entries: []strangeEntry{{serial: []byte{5}}}, extensions: []extension{numberExtension(1)}}
		c.change(&s)
		if s.this.Year() >= 2050 {
			s.entries = nil // their dates are UTCTime
		}
		l, err := crl.Parse(s.der(t))
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case c.want == "" && len(l.Deviations) > 0, c.want != "" && (len(l.Deviations) != 1 || l.Deviations[0].Section != c.want):
			t.Errorf("%s: %v", c.name, l.Deviations)
		}
		if e, _ := l.Lookup([]byte{5}, l.Issuer); c.want == "5.3.1" && (e.Serial == nil || e.Reason != pki.Unspecified) {
			t.Errorf("%s: the entry is %+v", c.name, e)
		}
	}
}

// TestManyAlike: a list of many times the same serial number is refused before it costs more than its length, and a million hostile octets
// no minutes, in memory that is bounded by the number of entries. Short lists and long ones are indexed in different ways.
func TestManyAlike(t *testing.T) {
	ca := newAuthority(t, "Crowded CA", newKey(t))
	for _, tt := range []struct {
		others, alike int
		refused       bool
	}{{0, 1024, false}, {0, 1025, true}, {20_000, 1024, false}, {20_000, 1025, true}, {0, 200_000, true}} {
		s := strange{version: 1, issuer: ca.cert.RawSubject, this: now, next: now.AddDate(0, 0, 1), signer: ca.key, extensions: []extension{numberExtension(1)}}
		for i := range tt.others {
			s.entries = append(s.entries, strangeEntry{serial: serial(i).Bytes()})
		}
		for range tt.alike {
			s.entries = append(s.entries, strangeEntry{serial: []byte{5}})
		}
		s.entries[tt.others].extensions = []extension{reasonExtension(3)}
		der := s.der(t)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		list, err := crl.Read(bytes.NewReader(der), 1<<30)
		runtime.ReadMemStats(&after)
		if took, most := after.TotalAlloc-before.TotalAlloc, uint64(2<<20+40*(tt.others+tt.alike)); took > most {
			t.Errorf("%d others and %d alike: took %d octets of memory, want %d at most", tt.others, tt.alike, took, most)
		}
		if _, typed := errors.AsType[*crl.ParseError](err); typed != tt.refused || !tt.refused && (err != nil || list.Len() != tt.others+tt.alike) {
			t.Errorf("%d others and %d alike: %v", tt.others, tt.alike, err)
		}
		if err == nil {
			if first, ok := list.Lookup([]byte{5}, list.Issuer); !ok || first.Reason != pki.AffiliationChanged || list.Deviations[0].Section != "5.1.2.6" {
				t.Errorf("%d others and %d alike: not the first is found, or not told: %v", tt.others, tt.alike, list.Deviations)
			}
		}
	}
}

// TestManyIssuersAlike: what the entries of one serial number cost together is bounded too, however many numbers there are.
func TestManyIssuersAlike(t *testing.T) {
	ca := newAuthority(t, "Crowded indirect CA", newKey(t))
	for _, tt := range []struct {
		issuers, numbers int
		refused          bool
	}{{1024, 2, false}, {1024, 3, true}, {1024, 17, true}, {30, 1000, false}, {200, 100, true}} {
		s := strange{version: 1, issuer: ca.cert.RawSubject, this: now, next: now.AddDate(0, 0, 1), signer: ca.key,
			extensions: []extension{numberExtension(1), idpExtension(indirect)}}
		for i := range tt.issuers {
			name, err := asn1.Marshal(pkix.Name{CommonName: strconv.Itoa(i)}.ToRDNSequence())
			if err != nil {
				t.Fatal(err)
			}
			for n := range tt.numbers {
				entry := strangeEntry{serial: serial(n).Bytes()}
				if n == 0 {
					entry.extensions = []extension{certificateIssuerExtension(name)}
				}
				s.entries = append(s.entries, entry)
			}
		}
		list, err := crl.Parse(s.der(t))
		if _, typed := errors.AsType[*crl.ParseError](err); typed != tt.refused || !tt.refused && (err != nil || list.Len() != tt.issuers*tt.numbers) {
			t.Errorf("%d issuers with the same %d numbers: %v", tt.issuers, tt.numbers, err)
		}
	}
}
