package handshaketest

import (
	"encoding/binary"
	"io"
	"net"
	"sync"
)

// Tamper is the change that a Tamperer makes to one record.
type Tamper uint8

// The ways to tamper. Zero does nothing.
const (
	Forward  Tamper = iota
	FlipBit         // the lowest bit of the middle octet of the record's content
	Truncate        // half of the record is forwarded, then the connection ends
)

// Tamperer is an attacker on the path: it forwards TLS records and tampers with one of them.
type Tamperer struct {
	Address string // where clients connect
	Target  string // where they are forwarded to

	ToServer bool // the record is one that the client sends
	Record   int  // counted from 0
	Do       Tamper

	mu   sync.Mutex
	seen [2]int // records seen from the server and from the client; guarded by mu
}

// Start listens until the test of the PKI ends.
func (m *Tamperer) Start(p *PKI) {
	p.tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	p.check(err)
	m.Address = listener.Addr().String()
	p.tb.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", m.Target)
			if err != nil {
				_ = client.Close()
				continue
			}
			go m.pipe(server, client, false)
			go m.pipe(client, server, true)
		}
	}()
}

// Seen returns the number of records that have passed in a direction.
func (m *Tamperer) Seen(toServer bool) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.seen[index(toServer)]
}

func index(toServer bool) int {
	if toServer {
		return 1
	}
	return 0
}

// pipe forwards record by record and ends both connections when one ends.
func (m *Tamperer) pipe(from, to net.Conn, toServer bool) {
	defer func() { _ = from.Close(); _ = to.Close() }()
	header := make([]byte, 5)
	for {
		if _, err := io.ReadFull(from, header); err != nil {
			return
		}
		record := make([]byte, 5+int(binary.BigEndian.Uint16(header[3:])))
		copy(record, header)
		if _, err := io.ReadFull(from, record[5:]); err != nil {
			return
		}
		m.mu.Lock()
		n := m.seen[index(toServer)]
		m.seen[index(toServer)]++
		m.mu.Unlock()
		if toServer == m.ToServer && n == m.Record {
			switch m.Do {
			case FlipBit:
				record[5+(len(record)-5)/2] ^= 1
			case Truncate:
				_, _ = to.Write(record[:len(record)/2])
				return
			}
		}
		if _, err := to.Write(record); err != nil {
			return
		}
	}
}
