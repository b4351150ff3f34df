package handshaketest

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"sync/atomic"
)

// rebinding is a name that moves: it resolves to the status service for the first query, and to a private address from
// then on.
const rebinding = "rebind.test"

// resolver is a name server that knows the name that moves and no other.
func (p *PKI) resolver() *net.Resolver {
	asked := &atomic.Int32{}
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		go serveNames(server, asked)
		return client, nil
	}}
}

// serveNames answers one question at a time, as over TCP (RFC 1035, Section 4.2.2), until the other side closes.
func serveNames(conn net.Conn, asked *atomic.Int32) {
	defer conn.Close()
	for {
		var size [2]byte
		if _, err := io.ReadFull(conn, size[:]); err != nil {
			return
		}
		query := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(conn, query); err != nil {
			return
		}
		answer := answerName(query, asked)
		if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...)); err != nil {
			return
		}
	}
}

// answerName answers the one question of a query (RFC 1035, Section 4.1): with an address if the question is for the
// address of the name that moves, without an answer if it is for another record of that name, and else that there is no
// such name.
func answerName(query []byte, asked *atomic.Int32) []byte {
	const header, typeA = 12, 1
	var labels []string
	end := header
	for query[end] != 0 {
		next := end + 1 + int(query[end])
		labels = append(labels, string(query[end+1:next]))
		end = next
	}
	question := query[header : end+5]
	known := strings.EqualFold(strings.Join(labels, "."), rebinding)
	flags, answers := byte(0x83), byte(0) // no such name
	if known {
		flags = 0x80
		if binary.BigEndian.Uint16(query[end+1:]) == typeA {
			answers = 1
		}
	}
	out := append([]byte{query[0], query[1], 0x81, flags, 0, 1, 0, answers, 0, 0, 0, 0}, question...)
	if answers == 0 {
		return out
	}
	address := []byte{10, 0, 0, 1}
	if asked.Add(1) == 1 {
		address = []byte{127, 0, 0, 1}
	}
	return append(append(out, 0xc0, header, 0, typeA, 0, 1, 0, 0, 0, 0, 0, 4), address...)
}
