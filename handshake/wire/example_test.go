package wire_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"time"

	"signet.example/signet/handshake/wire"
	"signet.example/signet/handshake/wire/laboratory"
)

// A client that tells its handshake while it happens. wire.Printer writes the steps for people.
func ExampleTap() {
	address, roots := exampleServer()
	raw, err := net.Dial("tcp", address)
	if err != nil {
		fmt.Println(err)
		return
	}
	tap := wire.NewTap(raw, wire.Config{Step: func(s wire.Step) { fmt.Println(s.Number, s.Title) }})
	conn := tls.Client(tap, tap.Watch(&tls.Config{RootCAs: roots.Pool(), ServerName: "app.example"}))
	err = conn.HandshakeContext(context.Background())
	tap.Done(err)
	conn.Close()
	// Output:
	// 1 ClientHello: what we offer
	// 2 ServerHello: what the server picked
	// 3 Certificate: who the server says it is
	// 6 Key exchange: a shared secret
	// 7 Key derivation: from the secret to the keys
	// 8 Finished: both saw the same handshake
	// 9 Application data: what it was all for
	// 10 Close: how it ended
}

// exampleServer accepts one connection.
func exampleServer() (address string, roots *laboratory.Authority) {
	roots, err := laboratory.NewAuthority(time.Now())
	if err != nil {
		panic(err)
	}
	cert, err := roots.Server("app.example")
	if err != nil {
		panic(err)
	}
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		panic(err)
	}
	go func() {
		defer ln.Close()
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = conn.Read(make([]byte, 1)) // until the client leaves
	}()
	return ln.Addr().String(), roots
}
