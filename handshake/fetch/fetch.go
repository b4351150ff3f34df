// Package fetch gets CRLs and OCSP responses from URLs that strangers wrote into certificates, without letting those
// strangers reach into the network of whoever asks, and keeps what it got.
//
// Five things are guarded:
//
//   - Where to. Only http and https, no user information, at most three redirects (or none), and every address is judged when the
//     connection is made, after name resolution, so that a name which resolves to a public address first and to a
//     private one later gains nothing. Addresses that are not public (loopback, private, link-local, shared, multicast,
//     reserved, and IPv6 forms that embed such an IPv4 address) are refused unless Config.Allow lists them. Proxies of
//     the environment are not used: behind one, the address that counts would be out of sight.
//   - How much. Every request names its limit in octets and in time; headers are bounded, compression is off.
//   - How often. Many callers that want the same thing at once share one fetch, and what failed is not tried again for
//     a while.
//   - What is kept. Objects are kept on disk by the digest of their content, written to a temporary file, synced and
//     renamed, so that several processes can share a directory and a crash leaves nothing half written. A key never goes back
//     to a smaller version (a CRL number and time). What is read back is data of a stranger still: whoever loads it
//     verifies it again. Facts (a revocation that was seen) are the exception, and can only make a reader stricter.
//   - Which secrets leave: none. No cookies, no credentials, no referrer.
package fetch

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

// Config says what a Fetcher may do. The zero Config fetches from public addresses and keeps nothing on disk.
type Config struct {
	// Dir is where objects are kept, shared between processes. It is made if it does not exist. Empty means no disk.
	Dir string

	// MaxDirBytes bounds what is kept in Dir, with the blocks of a file system that it takes: a small response has 12 KiB. What was fetched longest
	// ago goes first. Zero means 1 GiB.
	MaxDirBytes int64

	// MaxFacts bounds the facts in Dir (see Remember). Zero means 65,536.
	MaxFacts int

	// Allow lists networks that may be asked although they are not public: loopback, private, link-local.
	Allow []netip.Prefix

	// NoRedirects refuses every redirect, for who asks one place and no other. Zero follows three.
	NoRedirects bool

	// Resolver resolves names. Nil means net.DefaultResolver. Addresses are judged after it.
	Resolver *net.Resolver

	// Now is the clock. Nil means time.Now.
	Now func() time.Time
}

const (
	maxRedirects     = 3
	maxHeaderBytes   = 64 << 10
	maxURLBytes      = 4 << 10
	defaultMaxDir    = 1 << 30
	maxConnsPerHost  = 8
	idleConnTimeout  = 30 * time.Second
	connectTimeout   = 5 * time.Second // for the name and the connection, and again for the TLS handshake
	firstRetry       = 10 * time.Second
	longestRetry     = 5 * time.Minute
	maxFailuresKept  = 4096
	failuresLookedAt = 64      // to make room for one more
	trustedLength    = 1 << 20 // octets that are allocated on a server's word
)

// Fetcher fetches and keeps. It is safe for concurrent use.
type Fetcher struct {
	config Config
	client *http.Client
	disk   *disk // nil without a directory
	flight singleflight.Group

	mu       sync.Mutex
	failures map[string]failure // by request key; guarded by mu
}

// failure is the negative cache: what failed and when it may be tried again.
type failure struct {
	err   error
	until time.Time
	wait  time.Duration
}

// New validates a Config and opens the directory.
func New(config Config) (*Fetcher, error) {
	if config.Now == nil {
		config.Now = time.Now
	}
	config.MaxDirBytes = cmp.Or(config.MaxDirBytes, defaultMaxDir)
	for _, prefix := range config.Allow {
		if !prefix.IsValid() {
			return nil, fmt.Errorf("configure fetcher: a network to allow is not valid")
		}
	}
	f := &Fetcher{config: config, failures: make(map[string]failure)}
	f.client = &http.Client{Transport: f.transport(), CheckRedirect: checkRedirect}
	if config.NoRedirects {
		f.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse } // a status, and not 200
	}
	if config.Dir != "" {
		disk, err := openDisk(config.Dir, config.MaxDirBytes, cmp.Or(config.MaxFacts, defaultMaxFacts), config.Now)
		if err != nil {
			return nil, fmt.Errorf("open cache directory: %w", err)
		}
		f.disk = disk
	}
	return f, nil
}

// transport has limits of its own for connecting: http.Transport goes on connecting when the request that wanted it has ended, in one
// of the places that MaxConnsPerHost leaves, and a server that is silent would keep them all.
func (f *Fetcher) transport() *http.Transport {
	dialer := &net.Dialer{Timeout: connectTimeout, Resolver: f.config.Resolver, ControlContext: f.guardAddress}
	return &http.Transport{
		DialContext:            dialer.DialContext,
		TLSHandshakeTimeout:    connectTimeout,
		Proxy:                  nil,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHeaderBytes,
		MaxConnsPerHost:        maxConnsPerHost,
		IdleConnTimeout:        idleConnTimeout,
		ForceAttemptHTTP2:      true,
	}
}

// Request is one thing to fetch.
type Request struct {
	URL      string
	Body     []byte        // sent with POST; nil means GET
	Type     string        // content type of the body
	Accept   string        // content type wanted; empty says nothing
	MaxBytes int64         // of the answer; must be positive
	Timeout  time.Duration // for everything, redirects and body included; must be positive. Connecting that goes on after it ends by itself

	// ETag and LastModified make a GET conditional. Both come from an earlier Response.
	ETag, LastModified string

	// Fresh asks the network now: even if the same request failed a moment ago, and without joining a fetch that has begun
	// before, which would bring an answer of before.
	Fresh bool
}

// Response is what came back. Body is shared between callers and must not be changed.
type Response struct {
	URL          string // after redirects
	Body         []byte
	NotModified  bool // the object that ETag and LastModified describe is still current; Body is empty
	ETag         string
	LastModified string
	Date         time.Time // as the server says; zero if it does not
}

// Do fetches, once for all callers that ask for the same at the same time. The error is an *Error, or that of ctx. A
// caller that gives up does not end the fetch for the others.
func (f *Fetcher) Do(ctx context.Context, request Request) (*Response, error) {
	if request.MaxBytes <= 0 || request.Timeout <= 0 {
		return nil, &Error{URL: request.URL, Why: NotAllowed, Err: errors.New("a request without limits")}
	}
	if err := checkURL(request.URL); err != nil {
		return nil, &Error{URL: request.URL, Why: NotAllowed, Err: err}
	}
	key := request.key()
	if err := f.recentFailure(key); err != nil && !request.Fresh {
		return nil, err
	}
	if request.Fresh {
		alone, cancel := context.WithTimeout(ctx, request.Timeout)
		defer cancel()
		response, err := f.once(alone, request)
		if ctx.Err() == nil { // that the caller has gone says nothing of the server
			f.remember(key, err)
		}
		return response, err
	}
	ch := f.flight.DoChan(key, func() (any, error) {
		shared, cancel := context.WithTimeout(context.WithoutCancel(ctx), request.Timeout)
		defer cancel()
		response, err := f.once(shared, request)
		f.remember(key, err)
		return response, err
	})
	select {
	case <-ctx.Done():
		return nil, &Error{URL: request.URL, Why: TimedOut, Err: ctx.Err()}
	case result := <-ch:
		if result.Err != nil {
			return nil, result.Err
		}
		return result.Val.(*Response), nil
	}
}

// key names what two requests must agree in to share one fetch.
func (r Request) key() string {
	h := sha256.New()
	for _, part := range []string{r.URL, r.Type, r.Accept, r.ETag, r.LastModified, string(r.Body)} {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	fmt.Fprintf(h, "%d", r.MaxBytes)
	return hex.EncodeToString(h.Sum(nil))
}

func (f *Fetcher) once(ctx context.Context, request Request) (*Response, error) {
	httpRequest, err := request.http(ctx)
	if err != nil {
		return nil, &Error{URL: request.URL, Why: NotAllowed, Err: err}
	}
	answer, err := f.client.Do(httpRequest)
	if err != nil {
		return nil, classify(request.URL, err)
	}
	defer answer.Body.Close()
	response := &Response{
		URL: answer.Request.URL.String(), ETag: clip(answer.Header.Get("ETag")), LastModified: clip(answer.Header.Get("Last-Modified")),
	}
	if date, err := http.ParseTime(answer.Header.Get("Date")); err == nil {
		response.Date = date.UTC()
	}
	switch {
	case answer.StatusCode == http.StatusNotModified && request.conditional():
		response.NotModified = true
		return response, nil
	case answer.StatusCode != http.StatusOK:
		return nil, &Error{URL: request.URL, Why: BadStatus, Status: answer.StatusCode, Err: fmt.Errorf("the server answered %d", answer.StatusCode)}
	}
	response.Body, err = readBounded(answer.Body, answer.ContentLength, request.MaxBytes)
	if err != nil {
		failed := classify(request.URL, err)
		failed.Began = true
		return nil, failed
	}
	return response, nil
}

func (r Request) conditional() bool { return r.ETag != "" || r.LastModified != "" }

func (r Request) http(ctx context.Context) (*http.Request, error) {
	method, body := http.MethodGet, io.Reader(nil)
	if r.Body != nil {
		method, body = http.MethodPost, bytes.NewReader(r.Body)
	}
	httpRequest, err := http.NewRequestWithContext(ctx, method, r.URL, body)
	if err != nil {
		return nil, err
	}
	for name, value := range map[string]string{
		"User-Agent": "signet-handshake", "Content-Type": r.Type, "Accept": r.Accept, "If-None-Match": r.ETag, "If-Modified-Since": r.LastModified,
	} {
		if value != "" {
			httpRequest.Header.Set(name, value)
		}
	}
	return httpRequest, nil
}

// readBounded reads at most limit octets and refuses more, before reading them if the server says how many it has.
func readBounded(body io.Reader, announced, limit int64) ([]byte, error) {
	if announced > limit {
		return nil, &tooLarge{limit: limit}
	}
	var buffer bytes.Buffer
	if announced > 0 {
		buffer.Grow(int(min(announced, trustedLength)) + bytes.MinRead) // what is announced has not come yet
	}
	if _, err := buffer.ReadFrom(io.LimitReader(body, limit+1)); err != nil {
		return nil, err
	}
	if int64(buffer.Len()) > limit {
		return nil, &tooLarge{limit: limit}
	}
	if announced >= 0 && int64(buffer.Len()) != announced {
		return nil, io.ErrUnexpectedEOF
	}
	return buffer.Bytes(), nil
}

// recentFailure returns what a request that failed a moment ago failed with.
func (f *Fetcher) recentFailure(key string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	past, failed := f.failures[key]
	if !failed || !f.config.Now().Before(past.until) {
		return nil
	}
	return past.err
}

// remember keeps a failure for a time that doubles with every repetition, and forgets it with the first success.
func (f *Fetcher) remember(key string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		delete(f.failures, key)
		return
	}
	now := f.config.Now()
	wait := firstRetry
	if past, again := f.failures[key]; again {
		wait = min(2*past.wait, longestRetry)
	}
	if len(f.failures) >= maxFailuresKept {
		f.forgetSome(now)
	}
	f.failures[key] = failure{err: err, until: now.Add(wait), wait: wait}
}

// forgetSome makes room: of a few what may be tried again, or one of them. To look at all with every failure more would hold up everybody when a
// responder is down. The caller holds mu.
func (f *Fetcher) forgetSome(now time.Time) {
	var last string
	looked := 0
	for key, past := range f.failures {
		if !now.Before(past.until) {
			delete(f.failures, key)
		}
		last = key
		if looked++; looked == failuresLookedAt {
			break
		}
	}
	if len(f.failures) >= maxFailuresKept {
		delete(f.failures, last)
	}
}

// clip drops a validator that is longer than any honest one.
func clip(header string) string {
	if len(header) > 256 {
		return ""
	}
	return header
}

// checkURL refuses what must not even be looked up.
func checkURL(text string) error {
	if len(text) > maxURLBytes {
		return fmt.Errorf("a URL of %d octets", len(text))
	}
	u, err := url.Parse(text)
	if err != nil {
		return errors.New("not a URL")
	}
	return checkParsedURL(u)
}
