package testdb

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// Proxy stands between a program and the database. Frozen, it keeps every connection and says nothing more on it, as a host does that
// vanished or was paused.
type Proxy struct {
	URL string // of the database, through the proxy

	ctx    context.Context // ends with the test
	socket string
	frozen atomic.Int64 // connections made by the time of this count say nothing
	made   atomic.Int64
	all    atomic.Bool
}

// NewProxy listens before a database made by URL or EmptyURL.
func NewProxy(t testing.TB, database string) *Proxy {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	p := &Proxy{ctx: t.Context(), socket: filepath.Join(u.Query().Get("host"), ".s.PGSQL.5432")}
	p.URL = fmt.Sprintf("postgres://postgres@%s/%s?sslmode=disable", l.Addr(), strings.TrimPrefix(u.Path, "/"))
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(conn)
		}
	}()
	return p
}

// Freeze freezes the connections there are; later ones work.
func (p *Proxy) Freeze() { p.frozen.Store(p.made.Load()) }

// FreezeAll freezes later ones too.
func (p *Proxy) FreezeAll() { p.all.Store(true) }

func (p *Proxy) serve(conn net.Conn) {
	defer conn.Close()
	number := p.made.Add(1)
	database, err := net.Dial("unix", p.socket)
	if err != nil {
		return
	}
	defer database.Close()
	ended := make(chan struct{}, 2)
	pass := func(to, from net.Conn) {
		defer func() { ended <- struct{}{} }()
		octets := make([]byte, 32<<10)
		for {
			n, err := from.Read(octets)
			if p.all.Load() || number <= p.frozen.Load() {
				<-p.ctx.Done()
				return
			}
			if n > 0 {
				if _, err := to.Write(octets[:n]); err != nil {
					return
				}
			}
			if err != nil {
				return
			}
		}
	}
	go pass(database, conn)
	go pass(conn, database)
	<-ended
}
