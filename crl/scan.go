package crl

import (
	"errors"
	"fmt"
	"io"
)

// windowSize is how much of a list that is read from a stream is in memory at a time.
const windowSize = 64 << 10

// elementMax bounds the elements that must be in memory whole: a name, an entry, the list's extensions, the signature.
const elementMax = 1 << 20

// scanner walks a list that is in memory or comes from a stream, and hands the octets that it passes to a digest.
type scanner struct {
	src    io.Reader // nil: everything is in buf
	limit  int64     // most octets that the stream may have
	broken error     // what the stream returned, as opposed to what is wrong with its octets
	buf    []byte
	pos    int   // next octet in buf
	base   int64 // offset of buf[0] in the list

	digest  digest // nil: not known yet, and octets from mark on wait in buf
	mark    int    // octets of buf from here are for the digest
	digests bool   // between startDigest and endDigest
	ahead   chan struct{}
}

// digest takes the octets that were signed.
type digest interface{ Write([]byte) (int, error) }

func (s *scanner) offset() int64 { return s.base + int64(s.pos) }

// peek returns at least n octets at the current position without moving, or fewer if the list ends before.
func (s *scanner) peek(n int) ([]byte, error) {
	if len(s.buf)-s.pos < n && s.src != nil {
		if err := s.fill(n); err != nil {
			return nil, err
		}
	}
	return s.buf[s.pos:], nil
}

// next reads tag and length of the coming element and leaves the position before it.
func (s *scanner) next() (tag byte, n int, length int64, err error) {
	b, err := s.peek(headerMax)
	if err != nil {
		return 0, 0, 0, err
	}
	return header(b)
}

// enter passes the header of a constructed element and returns the offset where its content ends.
func (s *scanner) enter(want byte) (end int64, err error) {
	tag, n, length, err := s.next()
	if err != nil {
		return 0, err
	}
	if tag != want {
		return 0, &tagError{tag, want}
	}
	s.pos += n
	return s.offset() + length, nil
}

// take passes one whole element and returns it, valid until the next call.
func (s *scanner) take() (tag byte, whole, content []byte, err error) {
	tag, n, length, err := s.next()
	if err != nil {
		return 0, nil, nil, err
	}
	if length > elementMax {
		return 0, nil, nil, errors.New("element is too long")
	}
	size := n + int(length)
	b, err := s.peek(size)
	if err != nil {
		return 0, nil, nil, err
	}
	if len(b) < size {
		return 0, nil, nil, errTruncated
	}
	s.pos += size
	return tag, b[:size], b[n:size], nil
}

// fill makes room in the window and reads until it holds n octets from pos, or the stream ends.
func (s *scanner) fill(n int) error {
	s.discard()
	if cap(s.buf)-s.pos < n || cap(s.buf) == 0 {
		grown := make([]byte, len(s.buf), max(windowSize, 2*(s.pos+n)))
		copy(grown, s.buf)
		s.buf = grown
	}
	for idle := 0; len(s.buf)-s.pos < n; idle++ {
		k, err := s.src.Read(s.buf[len(s.buf):cap(s.buf)])
		s.buf = s.buf[:len(s.buf)+k]
		if k > 0 {
			idle = 0
		}
		if s.base+int64(len(s.buf)) > s.limit {
			s.broken = &LimitError{s.limit}
			return s.broken
		}
		if errors.Is(err, io.EOF) {
			s.src = nil
			return nil
		}
		if err == nil && idle > 100 {
			err = io.ErrNoProgress
		}
		if err != nil {
			s.broken = fmt.Errorf("read revocation list: %w", err)
			return s.broken
		}
	}
	return nil
}

// discard drops the octets that were passed, after the digest has taken them.
func (s *scanner) discard() {
	keep := s.pos
	if s.digests {
		if s.digest != nil {
			s.digest.Write(s.buf[s.mark:s.pos]) // a hash never fails
			s.mark = s.pos
		}
		keep = s.mark
	}
	s.buf = s.buf[:copy(s.buf, s.buf[keep:])]
	s.base += int64(keep)
	s.pos -= keep
	s.mark -= keep
}

// startDigest marks the current position as the first that is signed.
func (s *scanner) startDigest() { s.mark, s.digests = s.pos, true }

// endDigest hands the rest of the octets before the current position to the digest.
func (s *scanner) endDigest() {
	if s.digest != nil && s.ahead == nil {
		s.digest.Write(s.buf[s.mark:s.pos])
	}
	s.digests = false
}

// digestAhead digests a list that is in memory in another goroutine while this one walks it: it is half of the work.
// The digest is complete when the channel ahead is closed.
func (s *scanner) digestAhead(end int64) {
	if s.src != nil || s.digest == nil || end > int64(len(s.buf)) || end < digestAheadMin {
		return
	}
	s.ahead = make(chan struct{})
	go func() {
		defer close(s.ahead)
		s.digest.Write(s.buf[s.mark:end])
	}()
}

// digestAheadMin is the size from which a goroutine pays.
const digestAheadMin = 64 << 10

// wait waits for the goroutine of digestAhead.
func (s *scanner) wait() {
	if s.ahead != nil {
		<-s.ahead
	}
}

// ended reports whether the current position is the end.
func (s *scanner) ended() (bool, error) {
	b, err := s.peek(1)
	return len(b) == 0, err
}
