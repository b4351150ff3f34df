package laboratory

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"signet.example/signet/handshake/wire/protocol"
)

// maxRecording bounds what an eavesdropper keeps of one direction, in octets.
const maxRecording = 1 << 20

// Recording is all that passed on the wire between a client and a server, as an eavesdropper on the way can have it.
type Recording struct {
	Octets [2][]byte // by sender
}

// Record runs one session between a client and a server on the loopback network, with an eavesdropper between them that
// copies every octet. The client sends question, the server answers answer, and both close.
func Record(ctx context.Context, server, client *tls.Config, question, answer string) (*Recording, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("record a session: %w", err)
	}
	defer ln.Close()
	served := make(chan error, 1)
	go func() { served <- serveOne(ctx, ln, server, len(question), answer) }()
	eve := new(eavesdropper)
	err = ask(ctx, ln.Addr().String(), eve, client, question, len(answer))
	if err != nil {
		ln.Close() // the server may never have been reached
	}
	if err := errors.Join(err, <-served); err != nil {
		return nil, fmt.Errorf("record a session: %w", err)
	}
	return &eve.heard, nil
}

// serveOne accepts one connection, reads a question of a known length and answers it.
func serveOne(ctx context.Context, ln net.Listener, cfg *tls.Config, length int, answer string) error {
	raw, err := ln.Accept()
	if err != nil {
		return err
	}
	defer raw.Close()
	defer context.AfterFunc(ctx, func() { raw.Close() })()
	conn := tls.Server(raw, cfg)
	if _, err := io.ReadFull(conn, make([]byte, length)); err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	if _, err := io.WriteString(conn, answer); err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	return conn.Close()
}

func ask(ctx context.Context, addr string, eve *eavesdropper, cfg *tls.Config, question string, length int) error {
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer raw.Close()
	defer context.AfterFunc(ctx, func() { raw.Close() })()
	conn := tls.Client(eve.between(raw), cfg)
	if err := conn.HandshakeContext(ctx); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, question); err != nil {
		return err
	}
	if _, err := io.ReadFull(conn, make([]byte, length)); err != nil {
		return err
	}
	return conn.Close()
}

// eavesdropper copies what passes on a connection.
type eavesdropper struct {
	mu    sync.Mutex
	heard Recording
}

func (e *eavesdropper) between(conn net.Conn) net.Conn { return &overheard{Conn: conn, by: e} }

func (e *eavesdropper) hear(from protocol.Role, p []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	kept := e.heard.Octets[from]
	e.heard.Octets[from] = append(kept, p[:min(len(p), maxRecording-len(kept))]...)
}

type overheard struct {
	net.Conn
	by *eavesdropper
}

func (o *overheard) Read(p []byte) (int, error) {
	n, err := o.Conn.Read(p)
	o.by.hear(protocol.Server, p[:n])
	return n, err
}

func (o *overheard) Write(p []byte) (int, error) {
	o.by.hear(protocol.Client, p)
	return o.Conn.Write(p)
}

// half is one direction of a recording, split into its records and messages.
type half struct {
	messages [][]byte // handshake messages in the clear, headers included
	sealed   [][]byte // protected records, in order
	records  int
}

// cut splits a direction. Records are protected after a change_cipher_spec (TLS 1.2), or if their type is application data
// (TLS 1.3).
func cut(stream []byte) (*half, error) {
	var (
		h         half
		handshake []byte
		changed   bool
	)
	for {
		record, rest, err := protocol.CutRecord(stream)
		if err != nil {
			return nil, err
		}
		if record == nil {
			return &h, nil
		}
		stream = rest
		h.records++
		switch kind := record[0]; {
		case changed, kind == protocol.RecordApplication:
			h.sealed = append(h.sealed, record)
		case kind == protocol.RecordChangeCipher:
			changed = true
		case kind == protocol.RecordHandshake:
			handshake = append(handshake, record[protocol.HeaderSize:]...)
		}
		for {
			message, left, err := protocol.CutMessage(handshake)
			if err != nil {
				return nil, err
			}
			if message == nil {
				break
			}
			h.messages, handshake = append(h.messages, message), left
		}
	}
}

// find returns the body of the first message of a kind, or nil if there is none.
func (h *half) find(kind byte) []byte {
	for _, m := range h.messages {
		if m[0] == kind {
			return m[4:]
		}
	}
	return nil
}

// sight is a recording as an eavesdropper understands it without any key.
type sight struct {
	client, server *half
	hello          *protocol.ClientHello
	choice         *protocol.ServerHello
	octets         int
}

func look(r *Recording) (*sight, error) {
	s := sight{octets: len(r.Octets[protocol.Client]) + len(r.Octets[protocol.Server])}
	var err error
	if s.client, err = cut(r.Octets[protocol.Client]); err != nil {
		return nil, err
	}
	if s.server, err = cut(r.Octets[protocol.Server]); err != nil {
		return nil, err
	}
	if s.hello, err = protocol.ParseClientHello(s.client.find(protocol.MsgClientHello)); err != nil {
		return nil, err
	}
	if s.choice, err = protocol.ParseServerHello(s.server.find(protocol.MsgServerHello)); err != nil {
		return nil, err
	}
	return &s, nil
}
