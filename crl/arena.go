package crl

import (
	"iter"
	"slices"
	"sort"
	"time"

	"signet.example/signet/pki"
)

// Revocation is an entry to write.
type Revocation struct {
	Serial       pki.Serial
	At           time.Time  // seconds count
	Reason       pki.Reason // Unspecified is encoded by omission (RFC 5280, Section 5.3.1)
	InvalidityAt time.Time  // zero: none
}

// Entries are encoded entries in the order in which they are written: slices of one or more arenas. They stay valid and
// unchanged whatever is added to the arenas later.
type Entries [][]byte

// Serials yields the serial numbers of the entries.
func (e Entries) Serials() iter.Seq[pki.Serial] {
	return func(yield func(pki.Serial) bool) {
		for _, piece := range e {
			for len(piece) > 0 {
				if !yield(serialOf(piece)) {
					return
				}
				piece = piece[2+int(piece[1]):]
			}
		}
	}
}

// Arena holds the entries of one list, encoded once, in ledger order. The list as of any sequence consists of a few
// slices of it: one, as long as nothing was released or changed. An entry takes about 50 octets.
//
// An Arena is not safe for concurrent use; the Entries taken from it are.
type Arena struct {
	chunks [][]byte // never moved once written
	starts []uint32 // position of each entry: chunk and offset
	seqs   []uint64 // ledger sequence of each entry, ascending

	dead     map[int]uint64 // entry -> the sequence that ended it
	order    []int          // keys of dead, ascending; nil after a change
	removals []removal      // in order of sequence
	digest   Digest         // of what is live
	size     int            // octets of what is live

	held map[pki.Serial]int // entries on hold
	all  map[pki.Serial]int // every live entry; nil until Replace needs it
}

// removal is an entry that ended without a successor.
type removal struct {
	serial pki.Serial
	seq    uint64
}

// Add appends the entry of a certificate that has none, or is on hold. seq must not be smaller than any earlier one.
func (a *Arena) Add(seq uint64, r Revocation) {
	if i, ok := a.held[r.Serial]; ok {
		a.succeed(i, seq, r)
		return
	}
	a.append(seq, r)
}

// Replace ends the entry of a certificate, if it has one, and appends another.
func (a *Arena) Replace(seq uint64, r Revocation) {
	if i, ok := a.find(r.Serial); ok {
		a.succeed(i, seq, r)
		return
	}
	a.append(seq, r)
}

// succeed ends an entry in favour of another of the same certificate.
func (a *Arena) succeed(i int, seq uint64, r Revocation) {
	a.end(i, seq)
	delete(a.held, r.Serial)
	a.append(seq, r)
}

// Remove ends the entry of a certificate whose hold was released. Without an entry it does nothing.
func (a *Arena) Remove(seq uint64, serial pki.Serial) {
	i, ok := a.held[serial]
	if !ok {
		if i, ok = a.find(serial); !ok {
			return
		}
	}
	a.end(i, seq)
	a.removals = append(a.removals, removal{serial, seq})
	delete(a.held, serial)
	delete(a.all, serial)
}

// Seq returns the sequence of the last change, 0 if there was none.
func (a *Arena) Seq() (seq uint64) {
	if n := len(a.seqs); n > 0 {
		seq = a.seqs[n-1]
	}
	if n := len(a.removals); n > 0 {
		seq = max(seq, a.removals[n-1].seq)
	}
	return seq
}

// Next returns the sequence of the first change after seq, 0 if there is none.
func (a *Arena) Next(seq uint64) (next uint64) {
	if i := a.upTo(seq); i < len(a.seqs) {
		next = a.seqs[i]
	}
	i := sort.Search(len(a.removals), func(i int) bool { return a.removals[i].seq > seq })
	if i < len(a.removals) && (next == 0 || a.removals[i].seq < next) {
		next = a.removals[i].seq
	}
	return next
}

// Digest returns the digest of the entries that are live after the last change.
func (a *Arena) Digest() Digest { return a.digest }

// Size returns the octets of the entries that are live after the last change.
func (a *Arena) Size() int { return a.size }

// At returns the entries of the list as of a sequence, and their number.
func (a *Arena) At(seq uint64) (entries Entries, count int) {
	return a.between(0, seq)
}

// Since returns the entries of a delta from one sequence to a later one: those added and still listed, and a removal
// for each released and not listed again. A client may hold any list from the base on, so a certificate that was listed
// and released in between gets a removal too (RFC 5280, Section 5.2.4). Removals have the date at.
func (a *Arena) Since(base, seq uint64, at time.Time) (entries Entries, count int) {
	entries, count = a.between(base, seq)
	first := sort.Search(len(a.removals), func(i int) bool { return a.removals[i].seq > base })
	end := sort.Search(len(a.removals), func(i int) bool { return a.removals[i].seq > seq })
	if first == end {
		return entries, count
	}
	told := make(map[pki.Serial]bool) // serials that the delta already has: listed again, or removed
	for serial := range entries.Serials() {
		told[serial] = true
	}
	for _, r := range a.removals[first:end] {
		if !told[r.serial] {
			told[r.serial] = true
			entries = append(entries, encode(nil, Revocation{Serial: r.serial, At: at, Reason: pki.RemoveFromCRL}))
			count++
		}
	}
	return entries, count
}

// between returns the entries added after one sequence that are live at another.
func (a *Arena) between(after, seq uint64) (entries Entries, count int) {
	first, end := a.upTo(after), a.upTo(seq)
	for _, i := range a.endings() {
		if i < first || a.dead[i] > seq {
			continue
		}
		if i >= end {
			break
		}
		entries = a.slices(entries, first, i)
		count += i - first
		first = i + 1
	}
	if first < end {
		entries = a.slices(entries, first, end)
		count += end - first
	}
	return entries, count
}

// upTo returns the number of entries with a sequence of at most seq.
func (a *Arena) upTo(seq uint64) int {
	return sort.Search(len(a.seqs), func(i int) bool { return a.seqs[i] > seq })
}

// slices appends the octets of the entries [from, to).
func (a *Arena) slices(entries Entries, from, to int) Entries {
	for from < to {
		chunk := a.starts[from] >> chunkBits
		// The entries of one chunk are contiguous: find the first that lies in another.
		next := from + sort.Search(to-from, func(i int) bool { return a.starts[from+i]>>chunkBits > chunk })
		end := len(a.chunks[chunk])
		if next < len(a.starts) && a.starts[next]>>chunkBits == chunk {
			end = int(a.starts[next] & (chunkSize - 1))
		}
		start := a.starts[from] & (chunkSize - 1)
		entries = append(entries, a.chunks[chunk][start:end:end])
		from = next
	}
	return entries
}

// entryMax bounds the octets of an entry that encode writes.
const entryMax = 128

func (a *Arena) append(seq uint64, r Revocation) {
	last := len(a.chunks) - 1
	switch {
	case last < 0:
		a.chunks = append(a.chunks, make([]byte, 0, 2*entryMax))
	case chunkSize-len(a.chunks[last]) < entryMax:
		a.chunks = append(a.chunks, make([]byte, 0, chunkSize))
	case cap(a.chunks[last])-len(a.chunks[last]) < entryMax:
		// The first chunk grows, because most lists are short. Slices of the old chunk stay valid.
		a.chunks[last] = slices.Grow(a.chunks[last], min(3*len(a.chunks[last]), chunkSize-len(a.chunks[last])))
	}
	last = len(a.chunks) - 1
	i := len(a.starts)
	a.starts = append(a.starts, uint32(last)<<chunkBits|uint32(len(a.chunks[last])))
	a.seqs = append(a.seqs, seq)
	a.chunks[last] = encode(a.chunks[last], r)
	a.digest.add(r)
	a.size += 2 + int(a.entry(i)[1])
	if r.Reason == pki.CertificateHold {
		if a.held == nil {
			a.held = make(map[pki.Serial]int)
		}
		a.held[r.Serial] = i
	}
	if a.all != nil {
		a.all[r.Serial] = i
	}
}

func (a *Arena) end(i int, seq uint64) {
	if a.dead == nil {
		a.dead = make(map[int]uint64)
	}
	a.dead[i] = seq
	a.order = nil
	a.digest.remove(a.revocation(i))
	a.size -= 2 + int(a.entry(i)[1])
}

// endings returns the entries that ended, ascending.
func (a *Arena) endings() []int {
	if a.order == nil && len(a.dead) > 0 {
		a.order = make([]int, 0, len(a.dead))
		for i := range a.dead {
			a.order = append(a.order, i)
		}
		slices.Sort(a.order)
	}
	return a.order
}

// find returns the live entry of a serial. Reasons change rarely, so the map is made when the first does.
func (a *Arena) find(serial pki.Serial) (i int, ok bool) {
	if a.all == nil {
		a.all = make(map[pki.Serial]int, len(a.starts))
		for i := range a.starts {
			if _, ended := a.dead[i]; !ended {
				a.all[a.serial(i)] = i
			}
		}
	}
	i, ok = a.all[serial]
	return i, ok
}

// entry returns the DER of an entry and of those that follow it in its chunk.
func (a *Arena) entry(i int) []byte {
	return a.chunks[a.starts[i]>>chunkBits][a.starts[i]&(chunkSize-1):]
}

// serial decodes the serial number of an entry.
func (a *Arena) serial(i int) pki.Serial { return serialOf(a.entry(i)) }

// serialOf decodes the serial number of the entry at the start of b. The SEQUENCE and INTEGER that encode writes are
// under 128 octets, so their headers have two octets.
func serialOf(b []byte) pki.Serial {
	s, err := pki.SerialFromBytes(b[4 : 4+int(b[3])])
	if err != nil {
		panic("crl: an arena holds an entry it cannot have written: " + err.Error())
	}
	return s
}

// revocation decodes an entry.
func (a *Arena) revocation(i int) Revocation {
	b := a.entry(i)
	r := reader{list: &List{Version: 2}, issuer: -1}
	if err := r.entry(b[2 : 2+int(b[1])]); err != nil {
		panic("crl: an arena holds an entry it cannot have written: " + err.Error())
	}
	e := r.list.entries.at(0)
	found := r.list.entries.entry(e, nil)
	return Revocation{a.serial(i), found.RevokedAt, found.Reason, found.InvalidityAt}
}

// encode appends the DER of one entry (RFC 5280, Section 5.1.2.6).
func encode(b []byte, r Revocation) []byte {
	start := len(b)
	b = append(b, tagSequence, 0, tagInteger, 0)
	b = append(b, r.Serial.Integer()...)
	b[start+3] = byte(len(b) - start - 4)
	b = appendTime(b, r.At)
	if r.Reason != pki.Unspecified || !r.InvalidityAt.IsZero() {
		extensions := len(b)
		b = append(b, tagSequence, 0)
		if r.Reason != pki.Unspecified {
			b = append(append(b, reasonOnly[2:]...), byte(r.Reason))
		}
		if !r.InvalidityAt.IsZero() {
			b = append(b, tagSequence, 24, 0x06, 3, 0x55, 0x1d, 0x18, 0x04, 17)
			b = appendGeneralizedTime(b, r.InvalidityAt)
		}
		b[extensions+1] = byte(len(b) - extensions - 2)
	}
	b[start+1] = byte(len(b) - start - 2)
	return b
}
