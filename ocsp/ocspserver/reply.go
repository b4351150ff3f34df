package ocspserver

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
	"time"

	"signet.example/signet/ocsp"
)

// Reply is an answer that any HTTP server can send. An empty string means that the header is absent. Body is shared and
// must not be changed.
type Reply struct {
	Code         int
	Body         []byte
	ContentType  string
	CacheControl string
	ETag         string // strong, in quotes
	LastModified string
	Expires      string
	RetryAfter   string
	Allow        string

	byDate bool // If-Modified-Since may confirm it
}

// NotModified reports whether a request with these conditional headers gets 304 without the body (RFC 9110, Section
// 13.2.2: If-None-Match comes first, If-Modified-Since counts only without it). Dates count seconds, so a date confirms
// only "good", and only if it is equal: a certificate may be revoked in the second in which a client was told that it
// is good, and a clock may be set back.
func (r *Reply) NotModified(ifNoneMatch, ifModifiedSince string) bool {
	switch {
	case r.ETag == "":
		return false
	case ifNoneMatch != "":
		for tag := range strings.SplitSeq(ifNoneMatch, ",") {
			tag = strings.TrimPrefix(strings.TrimSpace(tag), "W/")
			if tag == r.ETag || tag == "*" {
				return true
			}
		}
		return false
	}
	return r.byDate && ifModifiedSince == r.LastModified
}

// httpTime is the format of dates in HTTP (RFC 9110, Section 5.6.7).
const httpTime = "Mon, 02 Jan 2006 15:04:05 GMT"

const (
	responseType = "application/ocsp-response"
	plainText    = "text/plain; charset=utf-8"
	noStore      = "no-store"
)

// cacheControl returns the header that RFC 9919, Section 7.2, requires.
func cacheControl(maxAge time.Duration) string {
	return "max-age=" + strconv.Itoa(int(maxAge/time.Second)) + ", public, no-transform, must-revalidate"
}

// errorReply is the reply with an unsigned error status. Clients read it only in a reply with code 200, as
// OpenSSL does.
func errorReply(status ocsp.ResponseStatus) Reply {
	return Reply{Code: 200, Body: status.Marshal(), ContentType: responseType, CacheControl: noStore}
}

// The replies that never change.
var (
	malformedReply    = errorReply(ocsp.MalformedRequest)
	unauthorizedReply = errorReply(ocsp.Unauthorized)
	internalReply     = errorReply(ocsp.InternalError)
	tryLaterReply     = errorReply(ocsp.TryLater)

	notFoundReply = Reply{Code: 404, Body: []byte("no issuer of this server has this name\n"), ContentType: plainText, CacheControl: noStore}
	usageReply    = Reply{Code: 400, Body: []byte("this is an OCSP responder: POST a request here, or GET it base64-encoded below this address (RFC 6960, Appendix A)\n"), ContentType: plainText, CacheControl: noStore}
	methodReply   = Reply{Code: 405, Body: []byte("want GET, HEAD or POST\n"), ContentType: plainText, CacheControl: noStore, Allow: "GET, HEAD, POST"}
	tooLongReply  = Reply{Code: 414, Body: []byte("request in the address is too long: send it by POST\n"), ContentType: plainText, CacheControl: noStore}
	tooLargeReply = Reply{Code: 413, Body: []byte("request is too large\n"), ContentType: plainText, CacheControl: noStore}
)

// signed is a response with everything about it that does not change while it is kept.
type signed struct {
	body       []byte
	thisUpdate time.Time
	refresh    time.Time // half-life, at most four days: from here on a fresher one is made in the background
	until      time.Time // nextUpdate
	good       bool      // every certificate in question is good
	by         *Delegate // the delegate that signed it

	etag, lastModified, expires string
}

// oldest is the age at which an answer is replaced even if it is valid for longer (Baseline Requirements, Section
// 4.9.9).
const oldest = 4 * 24 * time.Hour

func newSigned(body []byte, thisUpdate, until time.Time, good bool, by *Delegate) *signed {
	digest := sha256.Sum256(body)
	return &signed{
		body: body, thisUpdate: thisUpdate, refresh: thisUpdate.Add(min(until.Sub(thisUpdate)/2, oldest)), until: until, good: good, by: by,
		etag: `"` + hex.EncodeToString(digest[:]) + `"`, lastModified: thisUpdate.UTC().Format(httpTime), expires: until.UTC().Format(httpTime),
	}
}

// reply returns the reply at now, before the answer expires. No cache may keep it longer than that.
func (s *signed) reply(issuer *issuerState, now time.Time) Reply {
	control := issuer.cacheControl
	if left := s.until.Sub(now); left < issuer.MaxAge {
		control = cacheControl(left)
	}
	return Reply{
		Code: 200, Body: s.body, ContentType: responseType, CacheControl: control,
		ETag: s.etag, LastModified: s.lastModified, Expires: s.expires, byDate: s.good,
	}
}
