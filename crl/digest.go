package crl

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
	"time"

	"signet.example/signet/pki"
)

// Digest identifies a set of entries regardless of their order. It is the sum of a keyed hash of each entry, so adding
// and removing one costs the same in a set of ten and of ten million. It is comparable within one process only, and
// detects mistakes, not manipulation.
type Digest uint64

var digestSeed = maphash.MakeSeed()

func (d *Digest) add(r Revocation)    { *d += digestOf(r) }
func (d *Digest) remove(r Revocation) { *d -= digestOf(r) }

// Plus returns the digest of the union of two disjoint sets.
func (d Digest) Plus(other Digest) Digest { return d + other }

// Digest computes the digest of the entries of a list.
func (l *List) Digest() (d Digest) {
	if l.sums {
		return l.sum
	}
	for position := range l.entries.positions() {
		r := l.entries.at(position)
		d += r.digest()
	}
	return d
}

func (r *record) digest() Digest {
	return hashEntry(bytes.TrimLeft(r.serial, "\x00"), r.at, r.reason, r.invalidity)
}

func digestOf(r Revocation) Digest {
	invalidity := int64(noDate)
	if !r.InvalidityAt.IsZero() {
		invalidity = r.InvalidityAt.Truncate(time.Second).Unix()
	}
	return hashEntry(r.Serial.Bytes(), r.At.Unix(), r.Reason, invalidity)
}

func hashEntry(serial []byte, at int64, reason pki.Reason, invalidity int64) Digest {
	var octets [64]byte
	b := binary.BigEndian.AppendUint64(octets[:0], uint64(at))
	b = binary.BigEndian.AppendUint64(b, uint64(invalidity))
	return Digest(maphash.Bytes(digestSeed, append(append(b, byte(reason)), serial...)))
}
