package crl

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
)

// Document is the DER of a list in pieces that must not be changed. The lists of one authority share the octets of
// their entries with the Arena that made them, so keeping and serving a list of a million costs almost nothing.
type Document [][]byte

// Size returns the number of octets.
func (d Document) Size() (size int64) {
	for _, piece := range d {
		size += int64(len(piece))
	}
	return size
}

// Bytes returns a copy of the document in one piece.
func (d Document) Bytes() []byte {
	if len(d) == 1 {
		return d[0]
	}
	all := make([]byte, 0, d.Size())
	for _, piece := range d {
		all = append(all, piece...)
	}
	return all
}

// Sum identifies the document: it is the SHA-256 of the SHA-256 of what is signed followed by the octets after that. A
// signer over SHA-256 has computed most of it. If the octets are no list, all of them count as signed.
func (d Document) Sum() (sum [sha256.Size]byte) {
	signed, tail, ok := d.signed()
	if !ok {
		signed, tail = d, nil
	}
	h := sha256.New()
	signed.digest(h)
	return sumOf(h.Sum(sum[:0]), tail)
}

// sumOf is Sum from the SHA-256 of what is signed.
func sumOf(signed, tail []byte) [sha256.Size]byte {
	return sha256.Sum256(append(bytes.Clone(signed), tail...))
}

// signed cuts the document into what is signed and the octets after that.
func (d Document) signed() (signed Document, tail []byte, ok bool) {
	head := make([]byte, 0, 2*headerMax)
	for _, piece := range d {
		head = append(head, piece[:min(len(piece), cap(head)-len(head))]...)
	}
	_, outer, _, err := header(head)
	if err != nil {
		return nil, nil, false
	}
	_, inner, length, err := header(head[outer:])
	if err != nil || int64(outer+inner)+length > d.Size() {
		return nil, nil, false
	}
	return d.between(int64(outer), int64(outer+inner)+length), d.between(int64(outer+inner)+length, d.Size()).Bytes(), true
}

// between returns the octets [from, to) of the document.
func (d Document) between(from, to int64) (part Document) {
	for _, piece := range d {
		n := int64(len(piece))
		if begin, end := max(0, from), min(n, to); begin < end {
			part = append(part, piece[begin:end])
		}
		from, to = from-n, to-n
	}
	return part
}

func (d Document) digest(w digest) {
	for _, piece := range d {
		w.Write(piece) // a hash never fails
	}
}

// Reader returns a reader of the document. A reader is for one goroutine; any number of readers may read one document.
func (d Document) Reader() io.ReadSeeker { return &documentReader{document: d, size: d.Size()} }

type documentReader struct {
	document Document
	size     int64
	offset   int64 // in the document
	piece    int   // that the offset lies in
	within   int   // offset in that piece
}

func (r *documentReader) Read(b []byte) (n int, err error) {
	for n < len(b) && r.piece < len(r.document) {
		k := copy(b[n:], r.document[r.piece][r.within:])
		n += k
		r.within += k
		if r.within == len(r.document[r.piece]) {
			r.piece, r.within = r.piece+1, 0
		}
	}
	r.offset += int64(n)
	if n == 0 && len(b) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (r *documentReader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += r.offset
	case io.SeekEnd:
		offset += r.size
	}
	if offset < 0 {
		return 0, errors.New("seek before the beginning of a revocation list")
	}
	r.offset, r.piece, r.within = offset, 0, 0
	for rest := offset; r.piece < len(r.document); r.piece++ {
		if rest < int64(len(r.document[r.piece])) {
			r.within = int(rest)
			break
		}
		rest -= int64(len(r.document[r.piece]))
	}
	return offset, nil
}
