package crlserver

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"signet.example/signet/pki"
)

// Handler serves GET and HEAD of
//
//	/crl/{issuer}.crl                     the complete list
//	/crl/{issuer}/{epoch}-{block}.crl     a shard; 410 once its week has passed and its last list has ended
//	/crl/{issuer}/delta.crl               the delta
//	/crl/{issuer}/index.json              an array of the URLs of all shards
//
// from memory, with strong validators, conditional requests and ranges (RFC 9110). Each path has one spelling, so that
// caches hold each list once.
func (p *Publisher) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "only GET and HEAD are served here", http.StatusMethodNotAllowed)
			return
		}
		rest, ok := strings.CutPrefix(r.URL.Path, "/crl/")
		if !ok {
			http.NotFound(w, r)
			return
		}
		if text, ok := strings.CutSuffix(rest, "/index.json"); ok {
			p.serveIndex(w, r, text)
			return
		}
		list, err := ParseList(rest)
		if err != nil {
			http.NotFound(w, r)
			return
		}
		p.serveList(w, r, list)
	})
}

// ParseList reads the result of List.String.
func ParseList(text string) (List, error) {
	bare, ok := strings.CutSuffix(text, ".crl")
	if !ok {
		return List{}, fmt.Errorf("list %.64q: want a name that ends in .crl", text)
	}
	name, shard, sharded := strings.Cut(bare, "/")
	issuer, err := pki.ParseIssuerID(name)
	if err != nil {
		return List{}, fmt.Errorf("list %.64q: %w", text, err)
	}
	series := Series{Issuer: issuer}
	switch {
	case !sharded:
		return List{series, KindComplete}, nil
	case shard == "delta":
		return List{series, KindDelta}, nil
	}
	epochText, blockText, _ := strings.Cut(shard, "-")
	epoch, err := pki.ParseEpoch(epochText)
	if err != nil {
		return List{}, fmt.Errorf("list %.64q: %w", text, err)
	}
	block, err := strconv.ParseUint(blockText, 10, 32)
	if err != nil || strconv.FormatUint(block, 10) != blockText {
		return List{}, fmt.Errorf("list %.64q: want a block without leading zeros", text)
	}
	series.Shard, series.Sharded = pki.Shard{Epoch: epoch, Block: uint32(block)}, true
	return List{series, KindShard}, nil
}

func (p *Publisher) serveList(w http.ResponseWriter, r *http.Request, list List) {
	served, found := p.find(list)
	if found == unheard {
		served, found = p.soon(r.Context(), list, p.unheard)
	}
	if found == comes {
		served, found = p.soon(r.Context(), list, patience)
	}
	switch found {
	case passed:
		http.Error(w, "every certificate of this shard has expired", http.StatusGone)
	case absent, unheard:
		http.NotFound(w, r)
	case comes:
		w.Header().Set("Retry-After", "1")
		http.Error(w, "this list is not published yet", http.StatusServiceUnavailable)
	case present:
		header := w.Header()
		header.Set("Content-Type", "application/pkix-crl") // RFC 2585, Section 4.2
		header.Set("ETag", served.etag)
		p.cacheFor(header, served.head.NextUpdate)
		date := lastModified(served.head, p.config.Now())
		http.ServeContent(w, ofDate(r, date), "", date, served.document.Reader())
	}
}

// lastModified returns the end of the second in which a list was made, or zero while the clock of some instance may
// still be in it. HTTP dates count seconds and several lists may be made in one: a client that asks by date alone must
// not miss the last (RFC 9110, Section 8.8.2.1).
func lastModified(h Head, now time.Time) time.Time {
	end := h.ThisUpdate.Truncate(time.Second).Add(time.Second)
	if now.Before(end.Add(skewMax)) {
		return time.Time{}
	}
	return end
}

// ofDate removes If-Modified-Since from a request unless it is exactly the date of the list that is served. After a
// clock was set back, a newer list has an earlier date, and "not modified since" would keep clients on the older one.
func ofDate(r *http.Request, date time.Time) *http.Request {
	since := r.Header.Get("If-Modified-Since")
	if since == "" || since == date.Format(http.TimeFormat) {
		return r
	}
	r = r.Clone(r.Context())
	r.Header.Del("If-Modified-Since")
	return r
}

// whether says if a list can be served, or may be soon.
type whether uint8

const (
	absent  whether = iota // there is no such list
	present                // it is served
	comes                  // its shard was reserved, or its issuer created, and its first list is on the way
	unheard                // its shard may have been reserved, but this instance has not heard of it
	passed                 // its week has passed
)

func (p *Publisher) find(list List) (*listState, whether) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	b, ok := p.issuers[list.Issuer]
	if !ok {
		return nil, absent
	}
	switch served := b.lists[list]; {
	case served != nil:
		return served, present
	case !list.Sharded && b.issuer.Key != (pki.KeyHash{}) && !b.issuer.Offline && slices.Contains(b.listsOf(list.Series), list):
		return nil, comes // the issuer is new
	case !list.Sharded:
		return nil, absent
	case b.passed(list.Shard.Epoch, p.config.Now()):
		return nil, passed
	case p.config.Universe.HasShard(list.Issuer, list.Shard):
		return nil, comes
	case b.issuer.Key != (pki.KeyHash{}) && p.follows(list): // the first or next block of a week may just have been reserved
		return nil, unheard
	}
	return nil, absent
}

// follows reports whether a shard is the first of its week, or directly follows one that exists.
func (p *Publisher) follows(list List) bool {
	before := pki.Shard{Epoch: list.Shard.Epoch, Block: list.Shard.Block - 1}
	return list.Shard.Block == 0 || p.config.Universe.HasShard(list.Issuer, before)
}

// patience is how long a request waits for the first list of a shard. shortPatience is how long it waits if the shard
// is unknown to this instance. waiters bounds the requests that wait.
const (
	patience      = 3 * time.Second
	shortPatience = 200 * time.Millisecond
	waiters       = 128
)

// soon waits for the first list of a shard. The first certificate of a shard is issued some milliseconds before its
// list, and a client that checks it at once must not get "not found".
func (p *Publisher) soon(ctx context.Context, list List, patience time.Duration) (*listState, whether) {
	select {
	case p.waiters <- struct{}{}:
		defer func() { <-p.waiters }()
	default:
		return nil, comes
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		p.mu.RLock()
		changed := p.changed
		p.mu.RUnlock()
		served, found := p.find(list)
		if found != comes && found != unheard {
			return served, found
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return p.find(list)
		}
	}
}

// cacheFor lets caches keep an answer for at most MaxAge, and never beyond the end of the list.
func (p *Publisher) cacheFor(header http.Header, end time.Time) {
	now := p.config.Now()
	age := min(p.config.MaxAge, end.Sub(now))
	if age < time.Second {
		header.Set("Cache-Control", "no-cache")
		return
	}
	header.Set("Cache-Control", fmt.Sprintf("public, max-age=%d, must-revalidate", int(age/time.Second)))
	header.Set("Expires", now.Add(age).UTC().Format(http.TimeFormat))
}

// indexed returns the URL by which an index names the list of a shard: the last, which new certificates have.
func (b *books) indexed(list List) string {
	if served, ok := b.lists[list]; ok && len(served.head.URLs) > 0 {
		return served.head.URLs[len(served.head.URLs)-1]
	}
	return URL(b.issuer.BaseURL, list)
}

// encodeIndex returns an index of URLs, sorted.
func encodeIndex(urls []string) ([]byte, error) {
	slices.Sort(urls)
	return json.Marshal(urls)
}

// serveIndex lists the shards of an issuer.
func (p *Publisher) serveIndex(w http.ResponseWriter, r *http.Request, text string) {
	issuer, err := pki.ParseIssuerID(text)
	p.mu.RLock()
	b, ok := p.issuers[issuer]
	urls := []string{}
	if ok && err == nil {
		ok = b.issuer.Key != (pki.KeyHash{})
		for list := range b.lists {
			if list.Sharded {
				urls = append(urls, b.indexed(list))
			}
		}
	}
	p.mu.RUnlock()
	if err != nil || !ok {
		http.NotFound(w, r)
		return
	}
	body, err := encodeIndex(urls)
	if err != nil {
		http.Error(w, "the index cannot be written", http.StatusInternalServerError)
		return
	}
	sum := sha256.Sum256(body)
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("ETag", `"`+hex.EncodeToString(sum[:16])+`"`)
	p.cacheFor(header, p.config.Now().Add(p.config.MaxAge))
	http.ServeContent(w, r, "", time.Time{}, io.NewSectionReader(bytes.NewReader(body), 0, int64(len(body))))
}
