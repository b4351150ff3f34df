package crlserver

import (
	"bytes"
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

// ParseList reads what List.String writes.
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
	p.mu.RLock()
	var served *listState
	gone := false
	if b, ok := p.issuers[list.Issuer]; ok {
		served = b.lists[list]
		gone = served == nil && list.Sharded && b.passed(list.Shard.Epoch, p.config.Now())
	}
	p.mu.RUnlock()
	switch {
	case gone:
		http.Error(w, "every certificate of this shard has expired", http.StatusGone)
		return
	case served == nil:
		http.NotFound(w, r)
		return
	}
	header := w.Header()
	header.Set("Content-Type", "application/pkix-crl") // RFC 2585, Section 4.2
	header.Set("ETag", served.etag)
	p.cacheFor(header, served.head.NextUpdate)
	http.ServeContent(w, r, "", served.head.ThisUpdate, served.document.Reader())
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

// serveIndex lists the shards of an issuer by the URL that its certificates carry now: the last one.
func (p *Publisher) serveIndex(w http.ResponseWriter, r *http.Request, text string) {
	issuer, err := pki.ParseIssuerID(text)
	p.mu.RLock()
	b, ok := p.issuers[issuer]
	urls, changed := []string{}, time.Time{}
	if ok && err == nil {
		ok = b.issuer.Key != (pki.KeyHash{})
		for list, served := range b.lists {
			if list.Sharded && len(served.head.URLs) > 0 {
				urls = append(urls, served.head.URLs[len(served.head.URLs)-1])
			}
		}
	}
	p.mu.RUnlock()
	if err != nil || !ok {
		http.NotFound(w, r)
		return
	}
	slices.Sort(urls)
	body, err := json.Marshal(urls)
	if err != nil {
		http.Error(w, "the index cannot be written", http.StatusInternalServerError)
		return
	}
	sum := sha256.Sum256(body)
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("ETag", `"`+hex.EncodeToString(sum[:16])+`"`)
	p.cacheFor(header, p.config.Now().Add(p.config.MaxAge))
	http.ServeContent(w, r, "", changed, io.NewSectionReader(bytes.NewReader(body), 0, int64(len(body))))
}
