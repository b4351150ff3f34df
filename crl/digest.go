package crl

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
	"time"

	"signet.example/signet/pki"
)

// Digest stands for a set of entries regardless of their order: the sum of a keyed hash of each, so that adding and
// removing one costs the same in a set of ten and of ten million. It is comparable within one process only, and guards
// against our own mistakes, not against anyone's intent.
type Digest [2]uint64

var digestSeeds = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}

func (d *Digest) add(r Revocation) {
	h := hashEntry(r.Serial.Bytes(), r.At, r.Reason, r.InvalidityAt)
	d[0] += h[0]
	d[1] += h[1]
}

func (d *Digest) remove(r Revocation) {
	h := hashEntry(r.Serial.Bytes(), r.At, r.Reason, r.InvalidityAt)
	d[0] -= h[0]
	d[1] -= h[1]
}

// Plus is the digest of two sets without common members.
func (d Digest) Plus(other Digest) Digest { return Digest{d[0] + other[0], d[1] + other[1]} }

// Digest computes that of the entries of a list.
func (l *List) Digest() (d Digest) {
	for e := range l.Entries() {
		h := hashEntry(bytes.TrimLeft(e.Serial, "\x00"), e.RevokedAt, e.Reason, e.InvalidityAt)
		d[0] += h[0]
		d[1] += h[1]
	}
	return d
}

func hashEntry(serial []byte, at time.Time, reason pki.Reason, invalidity time.Time) (h Digest) {
	var octets [64]byte
	b := binary.BigEndian.AppendUint64(octets[:0], uint64(at.Unix()))
	b = binary.BigEndian.AppendUint64(b, uint64(invalidity.Unix()))
	b = append(append(b, byte(reason)), serial...)
	return Digest{maphash.Bytes(digestSeeds[0], b), maphash.Bytes(digestSeeds[1], b)}
}
