package wire_test

import (
	"crypto/tls"
	"io"
	"net"
	"os"
	"testing"

	"signet.example/signet/handshake/wire"
)

func TestSmoke(t *testing.T) {
	ca := newCA(t)
	leaf := ca.leaf(t, "server.example", nil)
	for _, v := range []uint16{tls.VersionTLS13, tls.VersionTLS12} {
		ln, _ := net.Listen("tcp", "127.0.0.1:0")
		go func() {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{leaf}, MaxVersion: v})
			io.Copy(s, s)
			s.Close()
		}()
		raw, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		p := wire.Printer{W: os.Stdout}
		tap := wire.NewTap(raw, wire.Config{Step: func(s wire.Step) { p.Step(s) }})
		conn := tls.Client(tap, tap.Watch(&tls.Config{RootCAs: ca.pool(), ServerName: "server.example"}))
		err = conn.Handshake()
		tap.Done(err)
		if err != nil {
			t.Fatal(err)
		}
		conn.Write([]byte("hello"))
		io.ReadFull(conn, make([]byte, 5))
		conn.CloseWrite()
		io.ReadAll(conn)
		conn.Close()
	}
}
