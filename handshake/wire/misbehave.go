package wire

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"sync"

	"signet.example/signet/handshake/wire/protocol"
)

// Misbehaviour is a fault that a server commits on purpose, to test clients with it. The zero value is none.
type Misbehaviour string

// The misbehaviours of a server.
const (
	Silent  Misbehaviour = "silent"         // accepts the connection and never sends anything
	Plain   Misbehaviour = "plain"          // answers in plain text
	Cut     Misbehaviour = "cut"            // ends the connection in the middle of its first flight
	Flip    Misbehaviour = "flip"           // one bit of its first protected record is flipped on the way
	NoClose Misbehaviour = "no-close"       // ends without close_notify
	Lonely  Misbehaviour = "lonely"         // sends its own certificate and no intermediate
	Garbage Misbehaviour = "garbage-staple" // staples octets that are not an OCSP response
)

// Misbehaviours returns all misbehaviours.
func Misbehaviours() []Misbehaviour {
	return []Misbehaviour{Silent, Plain, Cut, Flip, NoClose, Lonely, Garbage}
}

// Does returns one sentence on what goes wrong and one on how a good client must answer.
func (m Misbehaviour) Does() (does, answer string) {
	switch m {
	case Silent:
		return "Takes the connection and never says a word.", "give up in time"
	case Plain:
		return "Answers in plain text.", "say that this is not TLS"
	case Cut:
		return "Ends the connection in the middle of its first flight.", "refuse: cut off"
	case Flip:
		return "One bit of its first protected record is turned over on the way.", "refuse: altered"
	case NoClose:
		return "Ends without close_notify: what came last may have been cut off.", "notice, and refuse what has no length of its own"
	case Lonely:
		return "Sends its own certificate and no intermediate.", "refuse: no trust"
	case Garbage:
		return "Staples octets that are no OCSP response.", "refuse a staple that must not be believed, or ask elsewhere"
	}
	return "", ""
}

// Spoil returns a copy of a server's configuration with the fault in it, or cfg itself if the fault is not in the configuration.
func (m Misbehaviour) Spoil(cfg *tls.Config) *tls.Config {
	if m != Lonely && m != Garbage {
		return cfg
	}
	cfg = cfg.Clone()
	certs := append([]tls.Certificate{}, cfg.Certificates...)
	for i := range certs {
		if m == Lonely {
			certs[i].Certificate = certs[i].Certificate[:min(1, len(certs[i].Certificate))]
		} else {
			certs[i].OCSPStaple = []byte("this is no OCSP response")
		}
	}
	cfg.Certificates = certs
	return cfg
}

// Wrap returns a connection that commits the fault in the server's writes, or conn itself if the fault is not in the octets it sends.
func (m Misbehaviour) Wrap(conn net.Conn) net.Conn {
	switch m {
	case Silent, Plain, Cut, Flip, NoClose:
		return &spoiled{Conn: conn, how: m}
	}
	return conn
}

// spoiled is a connection that commits a fault.
type spoiled struct {
	net.Conn
	how Misbehaviour

	mu      sync.Mutex // guards the fields below
	pending []byte     // octets of a record that is not complete
	done    bool       // the fault was committed
	changed bool       // a change_cipher_spec has passed
}

func (s *spoiled) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch s.how {
	case Silent:
		return len(p), nil
	case Plain:
		if !s.done {
			s.done = true
			if _, err := io.WriteString(s.Conn, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\nthis port speaks plain HTTP\n"); err != nil {
				return 0, err
			}
		}
		return 0, fmt.Errorf("misbehave: %w", s.Conn.Close())
	case Cut:
		if _, err := s.Conn.Write(p[:len(p)/2]); err != nil {
			return 0, err
		}
		return 0, fmt.Errorf("misbehave: %w", s.Conn.Close())
	}
	return len(p), s.records(append(s.pending, p...))
}

// records passes p on record by record.
func (s *spoiled) records(p []byte) error {
	for {
		record, rest, err := protocol.CutRecord(p)
		if err != nil {
			return err
		}
		if s.pending = rest; record == nil {
			return nil
		}
		p = rest
		sealed := s.changed || record[0] == protocol.RecordApplication
		s.changed = s.changed || record[0] == protocol.RecordChangeCipher
		switch {
		case s.how == NoClose && isAlert(record):
			continue
		case s.how == Flip && sealed && !s.done:
			s.done = true
			record = append([]byte{}, record...)
			record[len(record)-1] ^= 1
		}
		if _, err := s.Conn.Write(record); err != nil {
			return err
		}
	}
}

// isAlert reports whether a record is an alert, or in TLS 1.3 a protected record as long as one: two octets, the
// content type and the tag.
func isAlert(record []byte) bool {
	return record[0] == protocol.RecordAlert || record[0] == protocol.RecordApplication && len(record) == protocol.HeaderSize+2+1+16
}
