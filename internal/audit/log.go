package audit

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Filter selects events; zero fields select everything.
type Filter struct {
	Target string    // exactly this
	Actor  string    // exactly this
	Action string    // exactly this
	From   time.Time // at or after
	Until  time.Time // before
	Before uint64    // only events before this position; 0: any
	Newest bool      // the newest first, instead of the oldest
}

// Order returns the ORDER BY expression of the filter, in SQL.
func (f Filter) Order() string {
	if f.Newest {
		return "seq DESC"
	}
	return "seq"
}

// Batch is the events of one transaction, with the head of the chain after them.
type Batch struct {
	Events []Event
	Head   Hash
}

// MaxText is the longest text of an event, in octets. Events quote what callers sent, and are kept for ever.
const MaxText = 8 << 10

// Clean returns the event as every database can hold it: valid UTF-8 without NUL, no text longer than MaxText, time in UTC
// and whole microseconds. Stores clean before they hash, so what is read back gives the same leaf.
func (e Event) Clean() Event {
	e.At = e.At.UTC().Truncate(time.Microsecond)
	for _, text := range []*string{&e.Actor, &e.Action, &e.Target, &e.RequestID, &e.Source} {
		*text = clean(*text)
	}
	if e.Detail == nil {
		e.Detail = map[string]string{} // as it is read back
	}
	for key, value := range e.Detail {
		if clean(key) != key || clean(value) != value {
			e.Detail = cleanDetail(e.Detail)
			break
		}
	}
	return e
}

// cleanDetail returns a cleaned copy, because the caller may still use the original.
func cleanDetail(dirty map[string]string) map[string]string {
	detail := make(map[string]string, len(dirty))
	for key, value := range dirty {
		detail[clean(key)] = clean(value)
	}
	return detail
}

// DetailJSON returns the canonical form of Detail: an object of strings with sorted keys, never null.
func (e Event) DetailJSON() string { return string(e.appendDetail(make([]byte, 0, 256))) }

// ParseDetail reads DetailJSON.
func ParseDetail(text string) (map[string]string, error) {
	var detail map[string]string
	if err := json.Unmarshal([]byte(text), &detail); err != nil {
		return nil, fmt.Errorf("audit: detail: %w", err)
	}
	return detail, nil
}

// Verify runs the whole log through a chain and returns its end. kept is the end that was noted at an earlier check, or
// zero if there is none: a log that was cut short or rewritten is consistent in itself, but does not continue kept.
func Verify(batches iter.Seq2[Batch, error], kept Chain) (Chain, error) {
	var chain Chain
	for batch, err := range batches {
		if err != nil {
			return chain, err
		}
		before := chain.Seq
		if err := chain.Add(batch.Events, batch.Head); err != nil {
			return chain, err
		}
		if before < kept.Seq && kept.Seq <= chain.Seq && chain != kept {
			return chain, fmt.Errorf("audit: event %d does not end what was kept as %s: the log was written anew since", kept.Seq, kept)
		}
	}
	if chain.Seq < kept.Seq {
		return chain, fmt.Errorf("audit: the log ends at event %d, before event %d that was kept: it was cut short", chain.Seq, kept.Seq)
	}
	return chain, nil
}

// String returns the form in which a head is kept, "EVENT:HASH", which ParseChain reads.
func (c Chain) String() string {
	return strconv.FormatUint(c.Seq, 10) + ":" + hex.EncodeToString(c.Head[:])
}

// ParseChain reads "EVENT:HASH", the hash in 64 hexadecimal digits.
func ParseChain(text string) (Chain, error) {
	event, head, _ := strings.Cut(text, ":")
	seq, err := strconv.ParseUint(event, 10, 64)
	octets, hexErr := hex.DecodeString(head)
	if err != nil || hexErr != nil || seq == 0 || len(octets) != len(Hash{}) {
		return Chain{}, fmt.Errorf("audit: %q: want EVENT:HASH, a number from 1 and 64 hexadecimal digits", text)
	}
	return Chain{Seq: seq, Head: Hash(octets)}, nil
}

func clean(text string) string {
	text = strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
	if len(text) <= MaxText {
		return text
	}
	end := MaxText - len("…")
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + "…"
}
