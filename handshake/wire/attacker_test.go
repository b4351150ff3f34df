package wire_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"

	"signet.example/signet/handshake/wire"
	"signet.example/signet/handshake/wire/protocol"
)

// attacker sits between the ends and passes on record by record.
type attacker struct {
	from   wire.Role
	record int // number of the record from that side, from 0, that is attacked; -1 none
	attack func(record []byte) (forward []byte, cut bool)

	mu      sync.Mutex
	passed  [2]int
	kinds   [2][]byte // content types as they stood in the headers
	lengths [2][]int
}

// between returns the two connections that the ends use. The attacker passes on until one side ends.
func (a *attacker) between(t testing.TB) (client, server net.Conn) {
	client, left := loopback(t)
	right, server := loopback(t)
	go a.relay(wire.Client, left, right)
	go a.relay(wire.Server, right, left)
	return client, server
}

func (a *attacker) relay(from wire.Role, src, dst net.Conn) {
	defer dst.(*net.TCPConn).CloseWrite()
	var pending []byte
	buffer, cut := make([]byte, 4096), false
	for {
		n, err := src.Read(buffer)
		if err != nil {
			return
		}
		pending = append(pending, buffer[:n]...)
		for {
			record, rest, err := protocol.CutRecord(pending)
			if record == nil || err != nil {
				break
			}
			forward := append([]byte{}, record...)
			pending = rest
			if a.isTarget(from, record) {
				forward, cut = a.attack(forward)
			}
			if _, err := dst.Write(forward); err != nil {
				return
			}
			if cut {
				dst.(*net.TCPConn).CloseWrite()
				drain(src) // closing with octets unread would reset the connection, which is another attack
				return
			}
		}
	}
}

func drain(conn net.Conn) {
	buffer := make([]byte, 4096)
	for {
		if _, err := conn.Read(buffer); err != nil {
			return
		}
	}
}

func (a *attacker) isTarget(from wire.Role, record []byte) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	number := a.passed[from]
	a.passed[from]++
	a.kinds[from] = append(a.kinds[from], record[0])
	a.lengths[from] = append(a.lengths[from], len(record))
	return a.attack != nil && from == a.from && number == a.record
}

// flip is one bit of a record to be turned over.
type flip struct {
	name  string
	where func(length int) (octet int)
	bit   byte
}

var flips = []flip{
	{"content type", func(int) int { return 0 }, 0x01},
	{"content type, high bit", func(int) int { return 0 }, 0x80},
	{"length, high bit", func(int) int { return 3 }, 0x40},
	{"length, low bit", func(int) int { return 4 }, 0x01},
	{"first octet", func(int) int { return protocol.HeaderSize }, 0x10},
	{"first third", func(n int) int { return protocol.HeaderSize + (n-protocol.HeaderSize)/3 }, 0x01},
	{"middle", func(n int) int { return protocol.HeaderSize + (n-protocol.HeaderSize)/2 }, 0x80},
	{"last octet", func(n int) int { return n - 1 }, 0x01},
}

// scene is a kind of handshake to attack.
type scene struct {
	name   string
	server *tls.Config
	client *tls.Config
}

func scenes(t *testing.T) []scene {
	ca := newCA(t)
	ecdsaCert, rsaCert, clientCert := ca.leaf(t, "server.example", nil), ca.leaf(t, "server.example", rsaKey(t)), ca.leaf(t, "client.example", nil)
	client := func() *tls.Config { return &tls.Config{RootCAs: ca.pool(), ServerName: "server.example"} }
	classical := func(suite uint16) scene {
		s, c := wire.Classical(&tls.Config{Certificates: []tls.Certificate{rsaCert}}), wire.Classical(client())
		s.CipherSuites = []uint16{suite}
		return scene{tls.CipherSuiteName(suite), s, c}
	}
	mutual := func(version uint16) scene {
		c := client()
		c.Certificates = []tls.Certificate{clientCert}
		return scene{tls.VersionName(version) + ", mutual", &tls.Config{Certificates: []tls.Certificate{ecdsaCert}, MaxVersion: version,
			ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.pool()}, c}
	}
	retry := scene{"TLS 1.3, HelloRetryRequest", &tls.Config{Certificates: []tls.Certificate{ecdsaCert}, CurvePreferences: []tls.CurveID{tls.CurveP256}}, client()}
	return []scene{mutual(tls.VersionTLS13), retry, mutual(tls.VersionTLS12), classical(tls.TLS_RSA_WITH_AES_128_GCM_SHA256), classical(tls.TLS_RSA_WITH_AES_128_CBC_SHA)}
}

// eachRecord calls attack for every record that passes in a scene, with the content type in its header and whether it is
// protected.
func eachRecord(t *testing.T, sc scene, attack func(from wire.Role, record int, sealed bool)) {
	quiet := &attacker{record: -1}
	client, server := quiet.between(t)
	s := runOn(t, client, server, sc.server, sc.client)
	if s.clientErr != nil || s.serverErr != nil {
		t.Fatalf("without attack: client %v, server %v", s.clientErr, s.serverErr)
	}
	for _, from := range []wire.Role{wire.Client, wire.Server} {
		changed := false
		for record, kind := range quiet.kinds[from] {
			attack(from, record, changed || kind == protocol.RecordApplication)
			changed = changed || kind == protocol.RecordChangeCipher && s.clientState.Version < tls.VersionTLS13
		}
	}
}

// TestEveryBitCounts turns over bits of every record of a connection, one at a time, in both directions, and demands that
// the handshake or what follows fails with an error that says what happened. Only the version in the header of a record
// in the clear is left alone: it means nothing and nothing protects it (RFC 8446, Section 5.1).
func TestEveryBitCounts(t *testing.T) {
	for _, sc := range scenes(t) {
		t.Run(sc.name, func(t *testing.T) {
			eachRecord(t, sc, func(from wire.Role, record int, sealed bool) {
				list := flips
				if sealed {
					list = append(list[:len(list):len(list)], flip{"version", func(int) int { return 2 }, 0x01})
				}
				for _, f := range list {
					a := &attacker{from: from, record: record, attack: func(r []byte) ([]byte, bool) {
						octet := f.where(len(r))
						r[octet] ^= f.bit
						return r, isLength(octet, sealed) // a receiver that waits for more would wait for ever
					}}
					checkAttack(t, sc, a, fmt.Sprintf("%s's record %d, %s", from, record, f.name), func(receiver wire.Class) bool {
						return !sealed || f.where(100) < protocol.HeaderSize || receiver == wire.ClassAltered
					})
				}
			})
		})
	}
}

// isLength reports whether an octet is part of a length that the receiver believes before it checks anything: that of the
// record, and in the clear that of the handshake message.
func isLength(octet int, sealed bool) bool {
	return octet == 3 || octet == 4 || !sealed && octet > protocol.HeaderSize && octet < protocol.HeaderSize+4
}

// TestTruncation ends the connection before every record and in the middle of it.
func TestTruncation(t *testing.T) {
	for _, sc := range scenes(t) {
		t.Run(sc.name, func(t *testing.T) {
			eachRecord(t, sc, func(from wire.Role, record int, _ bool) {
				for name, keep := range map[string]func(int) int{"before": func(int) int { return 0 }, "in the header of": func(int) int { return 3 }, "in the middle of": func(n int) int { return n - 1 }} {
					a := &attacker{from: from, record: record, attack: func(r []byte) ([]byte, bool) { return r[:keep(len(r))], true }}
					checkAttack(t, sc, a, fmt.Sprintf("cut off %s %s's record %d", name, from, record), func(receiver wire.Class) bool {
						return receiver == wire.ClassTruncated
					})
				}
			})
		})
	}
}

// checkAttack runs a scene under attack. Somebody must notice, and say it right; nobody may take what was altered.
func checkAttack(t *testing.T, sc scene, a *attacker, what string, right func(receiver wire.Class) bool) {
	t.Helper()
	client, server := a.between(t)
	s := runOn(t, client, server, sc.server, sc.client)
	if errors.Is(s.clientErr, errOther) {
		t.Fatalf("%s: other data arrived than was sent", what)
	}
	classes := [2]wire.Class{classOf(s.clientTap, s.clientErr), classOf(s.serverTap, s.serverErr)}
	noticed := false
	for _, c := range classes {
		switch c {
		case wire.ClassAltered, wire.ClassMalformed, wire.ClassTruncated, wire.ClassCertificate, wire.ClassMismatch, wire.ClassNotTLS:
			noticed = true
		}
	}
	if !noticed {
		t.Errorf("%s: nobody noticed: client %q (%v), server %q (%v)", what, classes[0], s.clientErr, classes[1], s.serverErr)
	}
	if receiver := classes[a.from.Peer()]; !right(receiver) {
		t.Errorf("%s: the receiver says %q: client %v, server %v", what, receiver, s.clientErr, s.serverErr)
	}
}

func classOf(tap *wire.Tap, err error) wire.Class {
	if err == nil {
		return ""
	}
	return tap.Explain(err).Class
}
