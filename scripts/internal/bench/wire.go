package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// wire is a gRPC connection for unary calls that costs the callers little. It speaks HTTP/2 as the ordinary client
// does, with one connection for all callers and indexed headers, but returns only the length of an answer. grpc-go
// takes four times the processor time for the same octets.
type wire struct {
	conn    *tls.Conn
	written *http2.Framer // into out; used under mu
	headers *hpack.Encoder
	fields  []hpack.HeaderField

	mu      sync.Mutex // guards the rest
	out     bytes.Buffer
	block   bytes.Buffer
	calls   map[uint32]*unary
	next    uint32 // stream
	window  int    // octets that the server takes on the whole connection
	writing bool   // a goroutine is writing the octets in out
	failed  error
}

// unary is a call under way. done is closed when the rest is set.
type unary struct {
	length int
	status string // of gRPC
	err    error
	done   chan struct{}
}

// window is the most octets of an answer, and connectionWindow of all answers together, before they are read.
const (
	window           = 1 << 20
	connectionWindow = 1 << 30
)

func dialWire(ctx context.Context, address string, config *tls.Config, method, token string) (*wire, error) {
	config = config.Clone()
	config.NextProtos = []string{"h2"}
	dialer := tls.Dialer{Config: config}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	w := &wire{conn: conn.(*tls.Conn), calls: map[uint32]*unary{}, next: 1, window: 65535}
	w.written, w.headers = http2.NewFramer(&w.out, nil), hpack.NewEncoder(&w.block)
	for _, field := range [][2]string{{":method", "POST"}, {":scheme", "https"}, {":path", method}, {":authority", address},
		{"content-type", "application/grpc"}, {"user-agent", "signet-bench"}, {"te", "trailers"}, {"authorization", "Bearer " + token}} {
		w.fields = append(w.fields, hpack.HeaderField{Name: field[0], Value: field[1]})
	}
	w.out.WriteString(http2.ClientPreface)
	go w.read()
	return w, w.send(func() error {
		return errors.Join(w.written.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: window}, http2.Setting{ID: http2.SettingEnablePush}),
			w.written.WriteWindowUpdate(0, connectionWindow-65535))
	})
}

// call sends a message, which has its five octets of gRPC before it, and returns the length of the answer.
func (w *wire) call(ctx context.Context, message []byte) (int, error) {
	u := &unary{done: make(chan struct{})}
	if err := w.send(func() error {
		if w.window -= len(message); w.window < 0 {
			return errors.New("the server takes no more") // it has room for twice the requests of 64 callers
		}
		id := w.next
		w.next += 2
		w.calls[id] = u
		w.block.Reset()
		for _, field := range w.fields {
			if err := w.headers.WriteField(field); err != nil {
				return err
			}
		}
		return errors.Join(w.written.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: w.block.Bytes(), EndHeaders: true}),
			w.written.WriteData(id, true, message))
	}); err != nil {
		return 0, err
	}
	select {
	case <-u.done:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	if u.err == nil && u.status != "0" {
		u.err = fmt.Errorf("gRPC status %q", u.status)
	}
	return u.length, u.err
}

// send adds frames to out and has them written, together with those of other callers that send now.
func (w *wire) send(frames func() error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failed != nil {
		return w.failed
	}
	if err := frames(); err != nil {
		return err
	}
	if w.writing {
		return nil
	}
	w.writing = true
	for w.out.Len() > 0 && w.failed == nil {
		w.mu.Unlock()
		runtime.Gosched() // callers that were answered at the same time are about to send
		w.mu.Lock()
		octets := bytes.Clone(w.out.Bytes())
		w.out.Reset()
		w.mu.Unlock()
		_, err := w.conn.Write(octets)
		w.mu.Lock()
		if err != nil {
			w.failed = err
		}
	}
	w.writing = false
	return w.failed
}

// read reads answers until the connection ends, and then ends all calls.
func (w *wire) read() {
	err := w.readFrames()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failed = errors.Join(w.failed, err)
	for _, u := range w.calls {
		u.err = w.failed
		close(u.done)
	}
	clear(w.calls)
}

func (w *wire) readFrames() error {
	frames := http2.NewFramer(nil, bufio.NewReaderSize(w.conn, 64<<10))
	frames.SetReuseFrames()
	var status string
	headers := hpack.NewDecoder(4096, func(f hpack.HeaderField) {
		if f.Name == "grpc-status" {
			status = f.Value
		}
	})
	taken := 0
	for {
		frame, err := frames.ReadFrame()
		if err != nil {
			return err
		}
		switch f := frame.(type) {
		case *http2.DataFrame:
			w.mu.Lock()
			if u := w.calls[f.StreamID]; u != nil {
				u.length += len(f.Data())
			}
			w.mu.Unlock()
			if taken += int(f.Length); taken > connectionWindow/2 {
				err = w.send(func() error { return w.written.WriteWindowUpdate(0, uint32(taken)) })
				taken = 0
			}
		case *http2.HeadersFrame:
			status = ""
			if _, err := headers.Write(f.HeaderBlockFragment()); err != nil || !f.HeadersEnded() {
				return fmt.Errorf("headers in one frame: %w", err)
			}
			if f.StreamEnded() {
				w.end(f.StreamID, status, nil)
			}
		case *http2.RSTStreamFrame:
			w.end(f.StreamID, "", fmt.Errorf("the server ended the call: %s", f.ErrCode))
		case *http2.GoAwayFrame:
			return fmt.Errorf("the server ended the connection: %s %s", f.ErrCode, f.DebugData())
		case *http2.WindowUpdateFrame:
			if f.StreamID == 0 {
				w.mu.Lock()
				w.window += int(f.Increment)
				w.mu.Unlock()
			}
		case *http2.SettingsFrame:
			if !f.IsAck() {
				err = w.send(w.written.WriteSettingsAck)
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				err = w.send(func() error { return w.written.WritePing(true, f.Data) })
			}
		}
		if err != nil {
			return err
		}
	}
}

// end ends a call.
func (w *wire) end(stream uint32, status string, err error) {
	w.mu.Lock()
	u := w.calls[stream]
	delete(w.calls, stream)
	w.mu.Unlock()
	if u != nil {
		u.status, u.err = status, err
		close(u.done)
	}
}

// Close ends the connection.
func (w *wire) Close() error { return w.conn.Close() }

// grpcMessage puts the five octets of gRPC before a message: not compressed, and its length.
func grpcMessage(length int) []byte {
	return binary.BigEndian.AppendUint32(make([]byte, 1, 5+length), uint32(length))
}
