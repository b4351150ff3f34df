// Package fetch gets CRLs and OCSP responses from URLs in the certificates of strangers, without letting those
// strangers reach into the caller's network, and keeps what it got.
//
// It guards five things:
//
//   - Where requests go. Only http and https, no user information, at most three redirects (or none). Every address is
//     judged when the connection is made, after name resolution, so a name that first resolves to a public address and
//     later to a private one gains nothing. Addresses that are not public (loopback, private, link-local, shared,
//     multicast, reserved, and IPv6 forms that embed such an IPv4 address) are refused unless Config.Allow lists them.
//     Proxies of the environment are not used, because they would hide the address that counts.
//   - How much is read. Every request names its limits in octets and time; headers are bounded, compression is off.
//   - How often. Callers that want the same thing at the same time share one fetch. What failed is not tried again for
//     a while.
//   - What is kept. Objects are kept on disk by the digest of their content, written to a temporary file, synced and
//     renamed, so that several processes can share a directory and a crash leaves nothing half written. A key never
//     goes back to a smaller version (a CRL number and time). What is read back is still a stranger's data: the reader
//     must verify it again. Facts (a revocation that was seen) are the exception, and can only make a reader stricter.
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
	// Dir is where objects are kept. Processes may share it. It is created if it does not exist. Empty means no disk
	// cache.
	Dir string

	// MaxDirBytes is the largest size of Dir in octets, counted in blocks of the file system: a small response takes 12
	// KiB. The objects fetched longest ago are removed first. Zero means 1 GiB.
	MaxDirBytes int64

	// MaxFacts is the largest number of facts in Dir (see Remember). Zero means 65,536.
	MaxFacts int

	// Allow lists networks that may be asked although they are not public: loopback, private, link-local.
	Allow []netip.Prefix

	// NoRedirects refuses every redirect, for callers that want one place and no other. Zero follows at most three.
	NoRedirects bool

	// Resolver resolves names. Nil means net.DefaultResolver. Addresses are judged after resolution.
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
	connectTimeout   = 5 * time.Second // for the name and the connection, and once more for the TLS handshake
	firstRetry       = 10 * time.Second
	longestRetry     = 5 * time.Minute
	maxFailuresKept  = 4096
	failuresLookedAt = 64      // examined to make room for one more
	trustedLength    = 1 << 20 // octets allocated on a server's word
)

// Fetcher fetches and keeps objects. It is safe for concurrent use.
type Fetcher struct {
	config Config
	client *http.Client
	disk   *disk // nil without a directory
	flight singleflight.Group

	mu       sync.Mutex
	failures map[string]failure // by request key; guarded by mu
}

// failure is an entry of the negative cache: what failed, and when it may be tried again.
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
		// Returns the redirect's status, which is not 200.
		f.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
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

// transport has limits of its own for connecting. http.Transport continues to connect after the request that wanted the
// connection has ended, in one of the places of MaxConnsPerHost, and a silent server would occupy them all. It speaks
// only HTTP/1.1: net/http closes a body of HTTP/2 without a limit of time if the server reads nothing.
func (f *Fetcher) transport() *http.Transport {
	dialer := &net.Dialer{Timeout: connectTimeout, Resolver: f.config.Resolver, ControlContext: f.guardAddress}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	return &http.Transport{
		DialContext:            dialer.DialContext,
		TLSHandshakeTimeout:    connectTimeout,
		Proxy:                  nil,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHeaderBytes,
		MaxConnsPerHost:        maxConnsPerHost,
		IdleConnTimeout:        idleConnTimeout,
		Protocols:              &protocols,
	}
}

// Request is one thing to fetch.
type Request struct {
	URL      string
	Body     []byte // sent with POST; nil means GET
	Type     string // content type of the body
	Accept   string // content type wanted; empty: none is stated
	MaxBytes int64  // of the answer; must be positive
	// Timeout is the limit for everything, redirects and body included; it must be positive. A connection attempt that
	// continues afterwards ends by itself.
	Timeout time.Duration

	// ETag and LastModified make a GET conditional. Both come from an earlier Response.
	ETag, LastModified string

	// Fresh asks the network now: even if the same request failed a moment ago, and without joining a fetch in
	// progress, which may bring an older answer.
	Fresh bool
}

// Response is the result of a fetch. Body is shared between callers and must not be changed.
type Response struct {
	URL          string // after redirects
	Body         []byte
	NotModified  bool // the object that ETag and LastModified describe is still current; Body is empty
	ETag         string
	LastModified string
	Date         time.Time // as stated by the server; zero if absent
}

// Do performs a request, once for all callers that make the same one at the same time. The error is an *Error, or that
// of ctx. If one caller gives up, the fetch continues for the others.
func (f *Fetcher) Do(ctx context.Context, request Request) (*Response, error) {
	if request.MaxBytes <= 0 || request.Timeout <= 0 {
		return nil, &Error{URL: request.URL, Cause: NotAllowed, Err: errors.New("a request without limits")}
	}
	if err := checkURL(request.URL); err != nil {
		return nil, &Error{URL: request.URL, Cause: NotAllowed, Err: err}
	}
	key := request.key()
	if err := f.recentFailure(key); err != nil && !request.Fresh {
		return nil, err
	}
	if request.Fresh {
		alone, cancel := context.WithTimeout(ctx, request.Timeout)
		defer cancel()
		response, err := f.once(alone, request)
		if ctx.Err() == nil { // if the caller gave up, the server is not at fault
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
		return nil, &Error{URL: request.URL, Cause: TimedOut, Err: ctx.Err()}
	case result := <-ch:
		if result.Err != nil {
			return nil, result.Err
		}
		return result.Val.(*Response), nil
	}
}

// key returns what two requests must have in common to share one fetch.
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
		return nil, &Error{URL: request.URL, Cause: NotAllowed, Err: err}
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
		return nil, &Error{URL: request.URL, Cause: BadStatus, Status: answer.StatusCode, Err: fmt.Errorf("the server answered %d", answer.StatusCode)}
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

// readBounded reads at most limit octets. A longer body is refused, before reading if the server announces its length.
func readBounded(body io.Reader, announced, limit int64) ([]byte, error) {
	if announced > limit {
		return nil, &tooLarge{limit: limit}
	}
	var buffer bytes.Buffer
	if announced > 0 {
		buffer.Grow(int(min(announced, trustedLength)) + bytes.MinRead) // what is announced has not arrived yet
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

// recentFailure returns the error of a request that failed a moment ago.
func (f *Fetcher) recentFailure(key string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	past, failed := f.failures[key]
	if !failed || !f.config.Now().Before(past.until) {
		return nil
	}
	return past.err
}

// remember records a failure, for a time that doubles with every repetition, and forgets it after the first success.
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

// forgetSome makes room: of a few failures it drops those that may be tried again, or else one. Examining all of them
// at every further failure would delay everyone while a responder is down. The caller holds mu.
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

// clip drops a validator that is longer than an honest one.
func clip(header string) string {
	if len(header) > 256 {
		return ""
	}
	return header
}

// checkURL refuses URLs that must not even be resolved.
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
