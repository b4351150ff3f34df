package rest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"

	"signet.example/signet/api/signetv1"
)

// bulk issues certificates for the lines of a body. Each line is a JSON IssueCertificateRequest, answered by a line
// with a JSON IssueCertificatesResponse. The generated handler of the same path would end the stream at the first line
// that is not JSON; here a bad line is answered like any other bad item.
type bulk struct {
	services Services
	mux      *runtime.ServeMux
	client   signetv1.CertificateServiceClient
}

func newBulk(services Services, mux *runtime.ServeMux, client signetv1.CertificateServiceClient) *bulk {
	return &bulk{services, mux, client}
}

func (b *bulk) serve(w http.ResponseWriter, r *http.Request, _ map[string]string) {
	control := http.NewResponseController(w)
	if err := control.EnableFullDuplex(); err != nil && !errors.Is(err, http.ErrNotSupported) { // HTTP/2 needs no call
		writeProblem(w, r, problem{Status: http.StatusInternalServerError, Kind: "internal", Detail: "this connection cannot be read and written at once"})
		return
	}
	_ = control.SetWriteDeadline(time.Time{}) // a stream may take hours: each line has a deadline of its own
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	ctx, err := runtime.AnnotateContext(ctx, b.mux, r, signetv1.CertificateService_IssueCertificates_FullMethodName)
	if err != nil {
		writeError(ctx, b.mux, nil, w, r, err)
		return
	}
	stream, err := b.client.IssueCertificates(ctx)
	if err != nil {
		writeError(ctx, b.mux, nil, w, r, err)
		return
	}
	header, err := stream.Header() // or the error of a call that was not accepted
	if err != nil {
		writeError(ctx, b.mux, nil, w, r, err)
		return
	}
	if ids := header.Get(requestIDHeader); len(ids) > 0 {
		w.Header().Set(requestIDHeader, ids[0])
		r.Header.Set(requestIDHeader, ids[0]) // for lines that cannot be read
	}
	called := presented(r, exchangeOf(r.Context()).peer)
	unread := func(p problem) {
		b.services.Unread(called, signetv1.CertificateService_IssueCertificates_FullMethodName, p.blame())
	}
	out := &lines{w: w, control: control}
	sent := make(chan struct{})
	go func() { defer close(sent); b.send(r.Body, stream, out, unread) }()
	wanted := true
	defer func() { // the body may not be read after this function has returned
		if !wanted {
			_ = control.SetReadDeadline(time.Unix(1, 0)) // the client may stay silent for ever
		}
		<-sent
	}()
	defer cancel()
	for {
		answer, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			wanted = false
			if !out.end(signetv1.IssueCertificatesResponse_builder{Problem: streamProblem(problemOf(status.Convert(err)))}.Build()) {
				writeError(ctx, b.mux, nil, w, r, err)
			}
			return
		}
		out.write(answer)
	}
}

// send passes the lines on. For a line that cannot be read it calls unread and answers the line itself.
func (b *bulk) send(body io.Reader, stream signetv1.CertificateService_IssueCertificatesClient, out *lines, unread func(problem)) {
	defer func() { _ = stream.CloseSend() }() // Recv reports what happened to the stream
	scanner := bufio.NewScanner(body)
	scanner.Buffer(make([]byte, 0, 16<<10), maxLine)
	for n := 1; scanner.Scan(); n++ {
		line := bytes.TrimSpace(scanner.Bytes())
		if len(line) == 0 {
			continue
		}
		request := new(signetv1.IssueCertificateRequest)
		if p := decode(line, request); p != nil {
			p.Detail = "line " + strconv.Itoa(n) + ": " + p.Detail
			unread(*p)
			out.write(signetv1.IssueCertificatesResponse_builder{RequestId: new(request.GetRequestId()), Problem: streamProblem(*p)}.Build())
			continue
		}
		if stream.Send(request) != nil {
			return // Recv reports the reason
		}
	}
	if err := scanner.Err(); err != nil {
		p := problem{Kind: "unavailable", Detail: "the lines end too early: " + err.Error()}
		if errors.Is(err, bufio.ErrTooLong) {
			p.Kind, p.Detail = "invalid", "a line is longer than "+octets(maxLine)+": it and what follows is not read"
			unread(p)
		}
		out.write(signetv1.IssueCertificatesResponse_builder{Problem: streamProblem(p)}.Build())
	}
}

// lineTime is how long a client may take to receive one line.
const lineTime = time.Minute

// lines writes one JSON value per line, one at a time.
type lines struct {
	w       http.ResponseWriter
	control *http.ResponseController

	mu      sync.Mutex
	written bool
	over    bool
}

func (l *lines) write(m *signetv1.IssueCertificatesResponse) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.over {
		l.put(m)
	}
}

// end writes a last line if there were others, and reports whether there were. Lines written later are dropped: they
// would only say that send could no longer read the body, which is how it learns of the end.
func (l *lines) end(last *signetv1.IssueCertificatesResponse) (begun bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over = true; l.written {
		l.put(last)
	}
	return l.written
}

// put writes a line. The caller holds l.mu.
func (l *lines) put(m *signetv1.IssueCertificatesResponse) {
	text, err := protojson.Marshal(m)
	if err != nil {
		return // strings from valid protobuf always encode
	}
	if !l.written {
		l.w.Header().Set("Content-Type", "application/x-ndjson")
		l.written = true
	}
	// After lineTime, writing fails.
	late := time.AfterFunc(lineTime, func() { _ = l.control.SetWriteDeadline(time.Unix(1, 0)) })
	defer late.Stop()
	_, _ = l.w.Write(append(text, '\n')) // if the client has disconnected, the request's context ends
	_ = l.control.Flush()
}
