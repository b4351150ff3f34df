package ocspserver

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"signet.example/signet/ocsp"
)

// Server is a public listener: OCSP on fasthttp and everything else on net/http, at one address. The first request of a
// connection decides which side serves it. The plain side answers every later request too; the fast side hands the
// connection over with the first request that is not for OCSP. For the reason see the decision page
// 0300-two-http-servers.
type Server struct {
	fast  *fasthttp.Server
	plain *http.Server
	moved *half // the plain server's; set by Serve before the first request
}

// Limits of connections.
const (
	requestTimeout = 10 * time.Second // to send a request, and to receive a small answer
	idleTimeout    = 2 * time.Minute  // between requests
	listTimeout    = 5 * time.Minute  // to receive a CRL over a slow line
	headerLimit    = 8 << 10
	backlog        = 128 // classified connections that wait for their server
)

// NewServer returns a server that answers OCSP requests with the handler's responder and passes the rest to next.
func NewServer(handler *Handler, next http.Handler) *Server {
	s := &Server{
		fast: &fasthttp.Server{
			KeepHijackedConns: true, // the plain server owns them afterwards
			ReadTimeout:       requestTimeout, WriteTimeout: requestTimeout, IdleTimeout: idleTimeout,
			ReadBufferSize: headerLimit, MaxRequestBodySize: ocsp.MaxRequest, CloseOnShutdown: true,
			ErrorHandler: fastError, NoDefaultServerHeader: true, NoDefaultContentType: true, Logger: silent{},
		},
		plain: &http.Server{
			Handler:           handler.Before(next),
			ReadHeaderTimeout: requestTimeout, ReadTimeout: requestTimeout, WriteTimeout: listTimeout,
			IdleTimeout: idleTimeout, MaxHeaderBytes: headerLimit,
		},
	}
	s.fast.Handler = handler.Fast(s.handOver)
	return s
}

// handOver gives a connection to the plain server, with the request as received. The answer may be a long list, which
// must be neither held in memory as a whole nor cut off after the time for a small answer.
func (s *Server) handOver(ctx *fasthttp.RequestCtx) {
	request := &ctx.Request
	if !ctx.IsGet() && !ctx.IsHead() || len(request.Body()) > 0 {
		// Only OCSP accepts a body.
		ctx.Response.Header.Set("Allow", "GET, HEAD")
		ctx.SetStatusCode(fasthttp.StatusMethodNotAllowed)
		ctx.SetConnectionClose()
		return
	}
	if conn, ok := ctx.Conn().(*patientConn); ok {
		conn.exact = true
	}
	head := bytes.Clone(request.Header.Header())
	ctx.HijackSetNoResponse(true)
	ctx.Hijack(func(conn net.Conn) { s.moved.give(&replayedConn{conn, head}) })
}

// replayedConn is a connection from which a request was already read.
type replayedConn struct {
	net.Conn
	head []byte // what Read returns first
}

// Read implements net.Conn.
func (c *replayedConn) Read(p []byte) (int, error) {
	if len(c.head) > 0 {
		n := copy(p, c.head)
		c.head = c.head[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}

// Serve answers on a listener until Shutdown and then returns http.ErrServerClosed. It closes the listener.
func (s *Server) Serve(listener net.Listener) error {
	split := newSplitter(listener)
	s.moved = split.plain
	ended := make(chan error, 3)
	go func() { ended <- s.fast.Serve(split.fast) }()
	go func() { ended <- s.plain.Serve(split.plain) }()
	go func() { ended <- split.accept() }()
	err := <-ended
	split.close()
	for range 2 {
		<-ended
	}
	if err == nil || errors.Is(err, net.ErrClosed) || errors.Is(err, http.ErrServerClosed) {
		return http.ErrServerClosed
	}
	return err
}

// Shutdown stops accepting connections and waits for requests in progress until ctx ends.
func (s *Server) Shutdown(ctx context.Context) error {
	return errors.Join(s.plain.Shutdown(ctx), s.fast.ShutdownWithContext(ctx))
}

// Close stops accepting connections and does not wait.
func (s *Server) Close() error {
	now, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.fast.ShutdownWithContext(now); err != nil && !errors.Is(err, context.Canceled) {
		return errors.Join(err, s.plain.Close())
	}
	return s.plain.Close()
}

// fastError replies to requests that fasthttp itself refuses.
func fastError(ctx *fasthttp.RequestCtx, err error) {
	reply := usageReply
	if errors.Is(err, fasthttp.ErrBodyTooLarge) {
		reply = tooLargeReply
	}
	if _, ok := errors.AsType[*fasthttp.ErrSmallBuffer](err); ok {
		reply = tooLongReply
	}
	reply.writeFast(ctx)
	ctx.SetConnectionClose()
}

// silent is a fasthttp.Logger that discards: libraries do not log, and what clients do to connections is not a fault.
type silent struct{}

func (silent) Printf(string, ...any) {}

// splitter accepts connections and decides by their first octets which server they are for.
type splitter struct {
	net.Listener
	fast, plain *half
	once        sync.Once
	done        chan struct{} // closed by close
}

func newSplitter(listener net.Listener) *splitter {
	s := &splitter{Listener: listener, done: make(chan struct{})}
	s.fast, s.plain = &half{s, make(chan net.Conn, backlog)}, &half{s, make(chan net.Conn, backlog)}
	return s
}

func (s *splitter) close() {
	s.once.Do(func() {
		close(s.done)
		_ = s.Listener.Close() // no error could be acted on
	})
}

// accept runs until the listener is closed. A silent client occupies a goroutine until its time is over.
func (s *splitter) accept() error {
	for {
		conn, err := s.Listener.Accept()
		switch {
		case err == nil:
			go s.sort(conn)
		case errors.Is(err, net.ErrClosed):
			return err
		default: // out of descriptors, or the client disconnected at once: temporary
			select {
			case <-s.done:
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
}

// asks are the beginnings of connections whose first request is for OCSP.
var asks = [...][]byte{[]byte("GET " + Prefix), []byte("POST " + Prefix), []byte("HEAD " + Prefix)}

// sort reads enough of a connection to decide which server it is for, and passes it on.
func (s *splitter) sort(conn net.Conn) {
	begun := &begunConn{Conn: conn}
	deadline := time.AfterFunc(requestTimeout, func() { _ = conn.Close() })
	var is bool
	for sure := false; ; {
		if sure, is = looksLikeOCSP(begun.head()); sure {
			break
		}
		n, err := conn.Read(begun.room[begun.filled:])
		begun.filled += n
		if err != nil {
			deadline.Stop()
			_ = conn.Close() // the client sent nothing that could be answered
			return
		}
	}
	if !deadline.Stop() {
		return // the deadline has closed the connection
	}
	if is {
		s.fast.give(&patientConn{Conn: begun})
		return
	}
	s.plain.give(begun)
}

// looksLikeOCSP reports whether a connection begins like a request for OCSP (is), and whether more octets could not
// change that (sure).
func looksLikeOCSP(head []byte) (sure, is bool) {
	sure = true
	for _, ask := range asks {
		if bytes.HasPrefix(head, ask) {
			return true, true
		}
		if bytes.HasPrefix(ask, head) {
			sure = false
		}
	}
	return sure, false
}

// begunConn is a connection whose beginning was already read.
type begunConn struct {
	net.Conn
	room   [16]byte
	filled int // octets of room read from Conn
	taken  int // octets of room returned by Read
}

func (c *begunConn) head() []byte { return c.room[:c.filled] }

// Read implements net.Conn.
func (c *begunConn) Read(p []byte) (int, error) {
	if c.taken < c.filled {
		n := copy(p, c.room[c.taken:c.filled])
		c.taken += n
		return n, nil
	}
	return c.Conn.Read(p)
}

// patientConn delays setting deadlines. fasthttp sets three with every request, which costs a twentieth of an answer
// from memory. patientConn sets them only before a read or write that may wait, and not again for a change of less than
// a second. So a deadline may be up to a second early and is never late. One goroutine may read and write, which is how
// fasthttp uses it; others may close it.
type patientConn struct {
	net.Conn
	read, write patience
	// exact makes it set deadlines as asked for: another server has the connection and may move them during a read.
	exact bool
}

// patience is one of the two deadlines.
type patience struct{ wanted, set time.Time }

// slack is how much earlier than asked for a deadline may be.
const slack = time.Second

// apply sets the deadline if necessary.
func (p *patience) apply(set func(time.Time) error) error {
	if early := p.wanted.Sub(p.set); !p.wanted.IsZero() && !p.set.IsZero() && early >= 0 && early < slack {
		return nil
	}
	p.set = p.wanted
	return set(p.wanted)
}

// Read implements net.Conn.
func (c *patientConn) Read(b []byte) (int, error) {
	if !c.exact {
		if err := c.read.apply(c.Conn.SetReadDeadline); err != nil {
			return 0, err
		}
	}
	return c.Conn.Read(b)
}

// Write implements net.Conn.
func (c *patientConn) Write(b []byte) (int, error) {
	if !c.exact {
		if err := c.write.apply(c.Conn.SetWriteDeadline); err != nil {
			return 0, err
		}
	}
	return c.Conn.Write(b)
}

// SetReadDeadline implements net.Conn.
func (c *patientConn) SetReadDeadline(at time.Time) error {
	if c.exact {
		return c.Conn.SetReadDeadline(at)
	}
	c.read.wanted = at
	return nil
}

// SetWriteDeadline implements net.Conn.
func (c *patientConn) SetWriteDeadline(at time.Time) error {
	if c.exact {
		return c.Conn.SetWriteDeadline(at)
	}
	c.write.wanted = at
	return nil
}

// SetDeadline implements net.Conn.
func (c *patientConn) SetDeadline(at time.Time) error {
	return errors.Join(c.SetReadDeadline(at), c.SetWriteDeadline(at))
}

// half is the listener of one of the two servers.
type half struct {
	*splitter
	conns chan net.Conn
}

// give passes a connection to the server.
func (h *half) give(conn net.Conn) {
	select {
	case h.conns <- conn:
	case <-h.done:
		_ = conn.Close()
	}
}

// Accept implements net.Listener.
func (h *half) Accept() (net.Conn, error) {
	select {
	case conn := <-h.conns:
		return conn, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener: when one server stops, the other is stopping too.
func (h *half) Close() error {
	h.close()
	return nil
}
