package crl

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"iter"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"signet.example/signet/pki"
)

// index holds the entries of a list: about 27 octets each for the usual 20-octet serial, and 12 of hash table.
//
// A record is
//
//	1      length of the serial
//	1      reason, with a flag for each optional field
//	5      revocation date, in seconds since the year 0, big-endian
//	[5]    invalidity date, likewise
//	[3]    1 + number of the certificate issuer in issuers
//	n      content octets of the serial
//
// in chunks that are never moved, so that reading a long list copies nothing twice. Serials over 255 octets are
// refused by the reader; RFC 5280 allows 20.
type index struct {
	chunks  [][]byte // all but the last end where their last record does
	last    int      // octets used in the last chunk
	table   []uint64 // open addressing; half of a hash, and 1 + position of a record (see slotOf); 0 for none
	count   int
	twice   bool     // a certificate is listed twice
	issuers [][]byte // certificate issuers of an indirect list, each one Name or several in a row
}

const (
	chunkBits  = 20
	chunkSize  = 1 << chunkBits
	recordMax  = 2 + 5 + 5 + 3 + 255
	reasonMask = 0x0f
	hasDate    = 0x80
	hasIssuer  = 0x40

	year0 = -62167219200 // Unix seconds of 0000-01-01
)

// record is a decoded entry.
type record struct {
	serial     []byte
	at         int64
	reason     pki.Reason
	invalidity int64 // noDate if absent
	issuer     int   // index into issuers, -1: the list's own
}

const noDate = -1 << 63

// add appends a record.
func (x *index) add(r record) {
	if n := len(x.chunks); n == 0 || len(x.chunks[n-1])-x.last < recordMax {
		if n > 0 {
			x.chunks[n-1] = x.chunks[n-1][:x.last]
		}
		x.chunks = append(x.chunks, make([]byte, chunkSize>>max(0, 8-4*n))) // most lists are short
		x.last = 0
	}
	b := x.chunks[len(x.chunks)-1][x.last:]
	b[0], b[1] = byte(len(r.serial)), byte(r.reason)
	put40(b[2:], r.at-year0)
	n := 7
	if r.invalidity != noDate {
		b[1] |= hasDate
		put40(b[n:], r.invalidity-year0)
		n += 5
	}
	if r.issuer >= 0 {
		b[1] |= hasIssuer
		b[n], b[n+1], b[n+2] = byte(r.issuer>>16), byte(r.issuer>>8), byte(r.issuer)
		n += 3
	}
	if len(r.serial) == pki.SerialSize {
		*(*[pki.SerialSize]byte)(b[n:]) = [pki.SerialSize]byte(r.serial) // three moves; copy would be a call
	} else {
		copy(b[n:], r.serial)
	}
	x.last += n + len(r.serial)
	x.count++
}

// maxIssuers is how many certificate issuers one indirect list can name: three octets.
const maxIssuers = 1 << 24

// at decodes the record at a position. serial points into the index.
func (x *index) at(position uint32) (r record) {
	b := x.chunks[position>>chunkBits][position&(chunkSize-1):]
	r.at, r.reason, r.invalidity, r.issuer = get40(b[2:])+year0, pki.Reason(b[1]&reasonMask), noDate, -1
	n := 7
	if b[1]&hasDate != 0 {
		r.invalidity = get40(b[n:]) + year0
		n += 5
	}
	if b[1]&hasIssuer != 0 {
		r.issuer = int(b[n])<<16 | int(b[n+1])<<8 | int(b[n+2])
		n += 3
	}
	end := n + int(b[0])
	r.serial = b[n:end:end]
	return r
}

// serialAt is at for the serial alone, and returns the position after the record.
func (x *index) serialAt(position uint32) (serial []byte, next uint32) {
	b := x.chunks[position>>chunkBits][position&(chunkSize-1):]
	n := 7
	if b[1]&hasDate != 0 {
		n += 5
	}
	if b[1]&hasIssuer != 0 {
		n += 3
	}
	end := n + int(b[0])
	return b[n:end], position + uint32(end)
}

// indexSeed is drawn at start, so that an attacker cannot write a list whose look-ups are slow.
var indexSeed = maphash.MakeSeed()

// repeats is what a builder of the table finds out: whether a certificate is listed twice, and whether a serial number
// occurs more often than can be searched in bounded time.
type repeats struct {
	twice, crowded bool
	compared       int // pairs of entries
}

// maxAlike is how many entries one serial number may have, which an indirect list may have for different issuers.
// Without a bound, a list with a million entries of one number, or with a thousand issuers of the same thousand
// numbers, would keep a processor busy for minutes before its signature could be verified. Entries of one number are
// also compared at most perEntry times per entry of the list on average: enough for 30 issuers that all have the same
// numbers.
const (
	maxAlike = 1024
	perEntry = 16
)

// mayCompare returns how many pairs of entries of one serial number a list may have. A few numbers may have the full
// maxAlike.
func (x *index) mayCompare() int { return maxAlike*maxAlike + perEntry*x.count }

// build makes the table once all records are in. For a long list it is a third of the work of reading, so every
// processor takes a part. The time for a million entries in memory, on two processors, is that of hashing for the
// signature and, in parallel, walking the entries; then that of the table, where memory dominates: 12 MB of table, 27
// MB of records, and 8 MB to sort the former by the latter.
func (x *index) build() error {
	x.table = make([]uint64, x.count+x.count/2+4)
	builders := 1
	if x.count > sortMin {
		builders = min(runtime.GOMAXPROCS(0), len(x.chunks))
	}
	found := make([]repeats, builders)
	part := func(b int) {
		found[b] = x.insertChunks(b*regions/builders, b*len(x.chunks)/builders, (b+1)*len(x.chunks)/builders)
	}
	var building sync.WaitGroup
	for b := range builders - 1 {
		building.Go(func() { part(b) })
	}
	part(builders - 1)
	building.Wait()
	var all repeats
	for _, r := range found {
		all = repeats{all.twice || r.twice, all.crowded || r.crowded, all.compared + r.compared}
	}
	if all.crowded || all.compared > x.mayCompare() {
		return fmt.Errorf("a serial number has more than %d entries, or too many have many", maxAlike)
	}
	x.twice = all.twice
	if x.twice && builders > 1 { // entries of one certificate must be found in the order of the list
		clear(x.table)
		x.insertChunks(0, 0, len(x.chunks))
	}
	return nil
}

// insertChunks inserts the records of some chunks into the table. Those of a long list are first sorted by regions of
// the table, so that memory is visited region by region and not at random. Builders begin with different regions to
// avoid contention.
func (x *index) insertChunks(first, from, to int) (found repeats) {
	var sorted [regions][]uint64
	if x.count > sortMin {
		mean := x.count * (to - from) / len(x.chunks) / regions
		size := mean + mean/8 // a region has about the mean, unless one serial number occurs many times
		room := make([]uint64, regions*size)
		for i := range sorted {
			sorted[i] = room[i*size : i*size : (i+1)*size]
		}
	}
	for c := from; c < to; c++ {
		for position, end := x.chunk(c); position < end; {
			serial, next := x.serialAt(position)
			slot := slotOf(maphash.Bytes(indexSeed, serial), position)
			if x.count <= sortMin {
				x.insert(slot, &found)
			} else {
				region := &sorted[slot>>(64-regionBits)]
				if len(*region) == cap(*region) {
					x.insertAll(*region, &found)
					*region = (*region)[:0]
				}
				*region = append(*region, slot)
			}
			position = next
		}
	}
	for i := range regions {
		x.insertAll(sorted[(first+i)%regions], &found)
	}
	return found
}

func (x *index) insertAll(slots []uint64, found *repeats) {
	for _, slot := range slots {
		x.insert(slot, found)
	}
}

const (
	sortMin    = 1 << 14 // entries from which sorting pays
	regionBits = 8
	regions    = 1 << regionBits
)

// slotOf returns the table slot of a record: the upper half of its hash, which determines its place, and 1 + its
// position.
func slotOf(hash uint64, position uint32) uint64 { return hash&^(1<<32-1) | uint64(position+1) }

// place returns the index in the table where the search for a slot begins.
func (x *index) place(slot uint64) uint64 { return slot >> 32 * uint64(len(x.table)) >> 32 }

// insert puts one record into the table, and notes whether the certificate is there already. Several builders may
// insert concurrently.
func (x *index) insert(slot uint64, found *repeats) {
	if found.crowded {
		return
	}
	alike := 0
	for at := x.place(slot); ; at = x.after(at) {
		there := atomic.LoadUint64(&x.table[at])
		if there == 0 {
			if atomic.CompareAndSwapUint64(&x.table[at], 0, slot) {
				return
			}
			there = atomic.LoadUint64(&x.table[at])
		}
		if there>>32 != slot>>32 {
			continue
		}
		alike++
		found.compared++
		if alike >= maxAlike || found.compared > x.mayCompare() {
			found.crowded = true
			return
		}
		found.twice = found.twice || x.same(uint32(slot)-1, uint32(there)-1)
	}
}

func (x *index) after(slot uint64) uint64 {
	if slot++; slot == uint64(len(x.table)) {
		return 0
	}
	return slot
}

// same reports whether two records name one certificate.
func (x *index) same(a, b uint32) bool {
	first, second := x.at(a), x.at(b)
	if !bytes.Equal(first.serial, second.serial) {
		return false
	}
	return first.issuer == second.issuer || first.issuer >= 0 && second.issuer >= 0 && bytes.Equal(x.issuers[first.issuer], x.issuers[second.issuer])
}

// chunk returns the positions where the records of a chunk begin and end.
func (x *index) chunk(c int) (from, to uint32) {
	from = uint32(c) << chunkBits
	if c == len(x.chunks)-1 {
		return from, from + uint32(x.last)
	}
	return from, from + uint32(len(x.chunks[c]))
}

// positions walks the records in the order of the list.
func (x *index) positions() func(yield func(uint32) bool) {
	return func(yield func(uint32) bool) {
		for c := range x.chunks {
			for position, end := x.chunk(c); position < end; {
				_, next := x.serialAt(position)
				if !yield(position) {
					return
				}
				position = next
			}
		}
	}
}

// find calls yield for every record of a serial until it returns false.
func (x *index) find(serial []byte, yield func(record) bool) {
	if len(x.table) == 0 {
		return
	}
	want := slotOf(maphash.Bytes(indexSeed, serial), 0)
	for at := x.place(want); x.table[at] != 0; at = x.after(at) {
		if x.table[at]>>32 != want>>32 {
			continue
		}
		if r := x.at(uint32(x.table[at]) - 1); bytes.Equal(r.serial, serial) && !yield(r) {
			return
		}
	}
}

// issuersOf walks the names of the issuer of a record's certificate; own is the list's.
func (x *index) issuersOf(r record, own []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		names := own
		if r.issuer >= 0 {
			names = x.issuers[r.issuer]
		}
		for len(names) > 0 {
			_, _, rest, err := element(names)
			if name := names[:len(names)-len(rest)]; err != nil || !yield(name) {
				return
			}
			names = rest
		}
	}
}

// entry converts a record to an Entry, with one of the names of issuersOf.
func (x *index) entry(r record, issuer []byte) Entry {
	e := Entry{Serial: r.serial, RevokedAt: time.Unix(r.at, 0).UTC(), Reason: r.reason, Issuer: issuer}
	if r.invalidity != noDate {
		e.InvalidityAt = time.Unix(r.invalidity, 0).UTC()
	}
	return e
}

func put40(b []byte, n int64) {
	b[0] = byte(n >> 32)
	binary.BigEndian.PutUint32(b[1:], uint32(n))
}

func get40(b []byte) int64 {
	return int64(b[0])<<32 | int64(binary.BigEndian.Uint32(b[1:]))
}
