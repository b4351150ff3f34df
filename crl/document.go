package crl

import (
	"crypto/sha256"
	"errors"
	"io"
)

// Document is the DER of a list in pieces that are not to be changed. The lists of one authority share the octets of
// their entries with the arena that made them, so keeping and serving a list of a million costs next to nothing.
type Document [][]byte

// Size is the number of octets.
func (d Document) Size() (size int64) {
	for _, piece := range d {
		size += int64(len(piece))
	}
	return size
}

// Bytes copies the document into one piece.
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

// Sum is the SHA-256 of the document.
func (d Document) Sum() (sum [sha256.Size]byte) {
	h := sha256.New()
	d.digest(h)
	h.Sum(sum[:0])
	return sum
}

func (d Document) digest(w digest) {
	for _, piece := range d {
		w.Write(piece) // a hash never fails
	}
}

// Reader reads the document. It is of the caller's goroutine; any number may read one document.
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
