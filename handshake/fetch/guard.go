package fetch

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
)

// Cause is why a fetch failed. The zero value is a network failure.
type Cause uint8

// The causes.
const (
	Network    Cause = iota // no connection, or it broke
	NotAllowed              // scheme, address, redirect or URL is refused
	TimedOut                // the time limit, or the caller's patience, ran out
	TooLarge                // more octets than the limit
	BadStatus               // the server answered with another status than 200
)

var causeNames = [...]string{"network", "not-allowed", "timed-out", "too-large", "bad-status"}

// String returns a lower-case word for people and metric labels.
func (c Cause) String() string {
	if int(c) < len(causeNames) {
		return causeNames[c]
	}
	return causeNames[Network]
}

// Error is the error of every failed fetch.
type Error struct {
	URL    string
	Cause  Cause
	Status int  // HTTP status, for BadStatus
	Began  bool // the header of the answer arrived, and the body failed
	Err    error
}

// Error returns a message with the URL, shortened, and the cause.
func (e *Error) Error() string { return fmt.Sprintf("fetch %.200q: %s: %v", e.URL, e.Cause, e.Err) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// AddressError refuses an address that is neither public nor in a network of Config.Allow.
type AddressError struct{ Addr netip.Addr }

// Error returns a message with the address.
func (e *AddressError) Error() string {
	return fmt.Sprintf("address %s is not public, and not allowed", e.Addr)
}

type tooLarge struct{ limit int64 }

func (e *tooLarge) Error() string { return fmt.Sprintf("the answer has more than %d octets", e.limit) }

// errRedirect marks a refused redirect for classify.
type errRedirect struct{ err error }

func (e *errRedirect) Error() string { return e.err.Error() }
func (e *errRedirect) Unwrap() error { return e.err }

func classify(rawURL string, err error) *Error {
	cause := Network
	if _, ok := errors.AsType[*tooLarge](err); ok {
		cause = TooLarge
	} else if _, ok := errors.AsType[*AddressError](err); ok {
		cause = NotAllowed
	} else if _, ok := errors.AsType[*errRedirect](err); ok {
		cause = NotAllowed
	} else if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		cause = TimedOut
	}
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err // url.Error repeats the URL, unbounded
	}
	return &Error{URL: rawURL, Cause: cause, Err: err}
}

func checkParsedURL(u *url.URL) error {
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("scheme %.16q: only http and https are fetched", u.Scheme)
	case u.Host == "" || u.Hostname() == "":
		return errors.New("a URL without a host")
	case u.User != nil:
		return errors.New("a URL with user information")
	}
	return nil
}

func checkRedirect(next *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return &errRedirect{fmt.Errorf("more than %d redirects", maxRedirects)}
	}
	if err := checkParsedURL(next.URL); err != nil {
		return &errRedirect{fmt.Errorf("redirect: %w", err)}
	}
	next.Header.Del("Referer")
	return nil
}

// guardAddress runs after resolution and before connect, so that the address it judges is the address that is used.
func (f *Fetcher) guardAddress(_ context.Context, network, address string, _ syscall.RawConn) error {
	if network != "tcp4" && network != "tcp6" {
		return fmt.Errorf("network %q", network)
	}
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	addr := at.Addr().WithZone("").Unmap()
	for _, prefix := range f.config.Allow {
		if prefix.Contains(addr) {
			return nil
		}
	}
	if !Public(addr) {
		return &AddressError{addr}
	}
	return nil
}

// notPublic lists the networks that the IANA special-purpose address registries exclude from the public network (RFC
// 6890 and its successors), in addition to those that netip knows.
var notPublic = parsePrefixes(
	"0.0.0.0/8",       // this network
	"100.64.0.0/10",   // shared address space of carriers, RFC 6598
	"192.0.0.0/24",    // protocol assignments
	"192.0.2.0/24",    // documentation
	"192.88.99.0/24",  // 6to4 relays, deprecated
	"198.18.0.0/15",   // benchmarks
	"198.51.100.0/24", // documentation
	"203.0.113.0/24",  // documentation
	"240.0.0.0/4",     // reserved, and broadcast
	"2001::/23",       // protocol assignments: Teredo, ORCHID and others
	"2001:db8::/32",   // documentation
	"3fff::/20",       // documentation
	"5f00::/16",       // segment routing
)

var (
	globalIPv6 = netip.MustParsePrefix("2000::/3")
	sixToFour  = netip.MustParsePrefix("2002::/16")
	nat64      = netip.MustParsePrefix("64:ff9b::/96")
)

// Public reports whether an address belongs to the public network. An IPv6 address that carries an IPv4 address
// (mapped, NAT64, 6to4) is public if that one is.
func Public(addr netip.Addr) bool {
	addr = addr.WithZone("").Unmap()
	if !addr.IsValid() || addr.IsUnspecified() || addr.IsLoopback() || addr.IsPrivate() || addr.IsMulticast() || addr.IsLinkLocalUnicast() {
		return false
	}
	for _, prefix := range notPublic {
		if prefix.Contains(addr) {
			return false
		}
	}
	if addr.Is4() {
		return true
	}
	octets := addr.As16()
	switch {
	case nat64.Contains(addr):
		return Public(netip.AddrFrom4([4]byte(octets[12:16])))
	case sixToFour.Contains(addr):
		return Public(netip.AddrFrom4([4]byte(octets[2:6])))
	}
	return globalIPv6.Contains(addr)
}

func parsePrefixes(texts ...string) []netip.Prefix {
	prefixes := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		prefixes[i] = netip.MustParsePrefix(text)
	}
	return prefixes
}
