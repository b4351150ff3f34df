package audit_test

import (
	"crypto/sha256"
	"encoding/json"
	"iter"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"signet.example/signet/internal/audit"
)

// The hashed form is what encoding/json makes of an event: logs are verified for ever, also by others.
func FuzzLeaf(f *testing.F) {
	f.Add("token:ci", "issuer/1/serial/2", "key", "value", "other")
	f.Add("", "a\"b\\c<d>&e", "\u2028", "\x00\x7f\xff", "ä\ufffd\U0001f600")
	f.Fuzz(func(t *testing.T, actor, target, key, value, other string) {
		at := time.UnixMicro(1_795_000_000_123_456).UTC()
		for _, detail := range []map[string]string{nil, {}, {key: value, other: target, "a": "b", "": ""}} {
			e := audit.Event{Seq: 7, At: at, Actor: actor, Action: "certificate.issue", Target: target, Outcome: audit.OK, RequestID: other, Source: value, Detail: detail}
			if detail == nil {
				detail = map[string]string{}
			}
			text, err := json.Marshal(struct {
				At      int64             `json:"at"`
				Actor   string            `json:"actor"`
				Action  string            `json:"action"`
				Target  string            `json:"target"`
				Outcome audit.Outcome     `json:"outcome"`
				Request string            `json:"request"`
				Source  string            `json:"source"`
				Detail  map[string]string `json:"detail"`
			}{at.UnixMicro(), actor, e.Action, target, e.Outcome, other, value, detail})
			if err != nil {
				t.Fatal(err)
			}
			if e.Leaf() != sha256.Sum256(append([]byte("signet audit event 1"), text...)) {
				t.Fatalf("the hashed form is not %s", text)
			}
			if want, err := json.Marshal(detail); err != nil || e.DetailJSON() != string(want) {
				t.Fatalf("detail %s, want %s (%v)", e.DetailJSON(), want, err)
			}
		}
	})
}

// A batch is hashed after it was cleaned; what was clean is not copied, what was not does not change in other hands.
func TestClean(t *testing.T) {
	detail := map[string]string{"k\x00": "v\xff"}
	e := audit.Event{Actor: "a\x00", Detail: detail}.Clean()
	if e.Actor != "a\ufffd" || e.Detail["k\ufffd"] != "v\ufffd" || len(e.Detail) != 1 {
		t.Errorf("got %+v", e)
	}
	if detail["k\x00"] != "v\xff" || len(detail) != 1 {
		t.Errorf("the caller's detail became %q", detail)
	}
	for _, long := range []string{strings.Repeat("x", 1<<20), strings.Repeat("é", audit.MaxText), strings.Repeat("\xff", audit.MaxText), strings.Repeat("\x00", audit.MaxText)} {
		e := audit.Event{Target: long, Detail: map[string]string{"error": long}}.Clean()
		if text := e.Target; len(text) > audit.MaxText || !utf8.ValidString(text) || e.Detail["error"] != text {
			t.Errorf("a text of %d octets that begins with %q is kept as %d", len(long), long[:2], len(text))
		}
		if again := e.Clean(); again.Target != e.Target || again.Leaf() != e.Leaf() {
			t.Errorf("what is clean is not clean: %d octets became %d", len(e.Target), len(again.Target))
		}
	}
	if (audit.Event{}).Clean().Detail == nil {
		t.Error("no detail is not an empty one, which is what is read back")
	}
}

// A log that was cut short or written anew agrees with itself. It does not continue what was kept of the true one.
func TestKept(t *testing.T) {
	written := func(actors ...string) (iter.Seq2[audit.Batch, error], []audit.Chain) {
		var batches []audit.Batch
		var ends []audit.Chain
		var chain audit.Chain
		for i, actor := range actors {
			events := []audit.Event{{Seq: uint64(2*i + 1), Actor: actor}, {Seq: uint64(2*i + 2), Actor: actor}}
			batch := audit.Batch{Events: events, Head: chain.Head.Next(audit.BatchHash(events))}
			if err := chain.Add(events, batch.Head); err != nil {
				t.Fatal(err)
			}
			batches, ends = append(batches, batch), append(ends, chain)
		}
		return func(yield func(audit.Batch, error) bool) {
			for _, batch := range batches {
				if !yield(batch, nil) {
					return
				}
			}
		}, ends
	}
	log, ends := written("a", "b", "c")
	other, others := written("a", "x", "c", "d")
	for _, c := range []struct {
		name  string
		log   iter.Seq2[audit.Batch, error]
		kept  audit.Chain
		whole bool
	}{
		{"nothing kept", log, audit.Chain{}, true},
		{"kept at its beginning", log, ends[0], true},
		{"kept at its end", log, ends[2], true},
		{"written anew behind it", other, ends[0], true},
		{"written anew before it", other, ends[2], false},
		{"the event in question written anew", other, ends[1], false},
		{"cut short", log, others[3], false},
		{"kept in the middle of a batch", log, audit.Chain{Seq: 3, Head: ends[1].Head}, false},
	} {
		if _, err := audit.Verify(c.log, c.kept); (err == nil) != c.whole {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if read, err := audit.ParseChain(ends[1].String()); err != nil || read != ends[1] {
		t.Errorf("%s is read as %s, %v", ends[1], read, err)
	}
	for _, text := range []string{"", "7", "7:", "7:00", "0" + ends[1].String()[1:], "-" + ends[1].String(), ends[1].String() + "00", strings.ReplaceAll(ends[1].String(), ":", "")} {
		if read, err := audit.ParseChain(text); err == nil {
			t.Errorf("%q is read as %s", text, read)
		}
	}
}
