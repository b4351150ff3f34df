// Package audit holds the audit event and the hash chain that makes a missing or altered event visible.
//
// Every mutation writes its events in its own transaction, as one batch. The chain runs over batches, so that a
// database can extend it in one statement without a round trip in between:
//
//	leaf  = SHA-256("signet audit event 1" || canonical JSON of the event without its sequence)
//	batch = SHA-256("signet audit batch 1" || count (8 octets) || leaf || leaf ...)
//	head  = SHA-256(previous head || batch)        the first previous head is 32 zero octets
package audit

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// Outcome says how an attempt ended. Zero is not an outcome and is refused by the stores.
type Outcome string

// The outcomes.
const (
	OK      Outcome = "ok"
	Refused Outcome = "refused" // by policy, profile or authorisation
	Failed  Outcome = "failed"  // something broke
)

// Event is one entry of the audit log. Secrets never go into one.
type Event struct {
	Seq       uint64            // position, from 1; zero until committed
	At        time.Time         // microseconds count, finer parts are dropped
	Actor     string            // principal: "token:ci", "certificate:agent.example", "system:reconcile"
	Action    string            // noun.verb: "certificate.issue"
	Target    string            // what it was done to: "issuer/…/serial/…"
	Outcome   Outcome           //
	RequestID string            // ties events to log lines; may be empty
	Source    string            // network address of the caller; may be empty
	Detail    map[string]string // facts, flat
}

// Hash is a link of the chain.
type Hash [sha256.Size]byte

// leaf hashes an event whose DetailJSON is known: JSON as encoding/json writes it, the fields in this order.
func (e Event) leaf(detail string) Hash {
	text := append(make([]byte, 0, 768), `signet audit event 1{"at":`...)
	text = strconv.AppendInt(text, e.At.UnixMicro(), 10)
	for _, field := range [...]struct{ name, value string }{{"actor", e.Actor}, {"action", e.Action}, {"target", e.Target}, {"outcome", string(e.Outcome)},
		{"request", e.RequestID}, {"source", e.Source}} {
		text = append(append(append(text, `,"`...), field.name...), `":`...)
		text = appendString(text, field.value)
	}
	return sha256.Sum256(append(append(append(text, `,"detail":`...), detail...), '}'))
}

func (e Event) appendDetail(text []byte) []byte {
	var room [8]string
	keys := room[:0]
	for key := range e.Detail {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	text = append(text, '{')
	for i, key := range keys {
		if i > 0 {
			text = append(text, ',')
		}
		text = append(appendString(text, key), ':')
		text = appendString(text, e.Detail[key])
	}
	return append(text, '}')
}

// appendString appends a JSON string. Most need nothing escaped.
func appendString(text []byte, value string) []byte {
	for i := range len(value) {
		if c := value[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			quoted, err := json.Marshal(value)
			if err != nil {
				panic("audit: a string always encodes: " + err.Error())
			}
			return append(text, quoted...)
		}
	}
	return append(append(append(text, '"'), value...), '"')
}

// Leaf hashes one event; its sequence does not take part.
func (e Event) Leaf() Hash {
	return e.leaf(e.DetailJSON())
}

// BatchHash hashes the events of one transaction in order.
func BatchHash(events []Event) Hash {
	hash, _ := Encode(events)
	return hash
}

// Encode is BatchHash with the DetailJSON of each event, which is part of what is hashed.
func Encode(events []Event) (Hash, []string) {
	details := make([]string, len(events))
	h := sha256.New()
	h.Write([]byte("signet audit batch 1"))
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(events))))
	for i, e := range events {
		details[i] = e.DetailJSON()
		leaf := e.leaf(details[i])
		h.Write(leaf[:])
	}
	return Hash(h.Sum(nil)), details
}

// Next is the head after a batch.
func (head Hash) Next(batch Hash) Hash {
	return sha256.Sum256(append(head[:], batch[:]...))
}

// Chain verifies the log batch by batch, in order from the first. The zero value stands before the first event.
type Chain struct {
	Seq  uint64 // last event verified
	Head Hash   // head after it
}

// Add verifies that the events of one batch follow and reproduce the recorded head.
func (c *Chain) Add(events []Event, recorded Hash) error {
	if len(events) == 0 {
		return fmt.Errorf("audit: an empty batch after event %d", c.Seq)
	}
	for i, e := range events {
		if want := c.Seq + uint64(i) + 1; e.Seq != want {
			return fmt.Errorf("audit: event %d stands where %d should: something was removed or inserted", e.Seq, want)
		}
	}
	head := c.Head.Next(BatchHash(events))
	if head != recorded {
		return fmt.Errorf("audit: events %d to %d do not give the recorded hash: something was altered", events[0].Seq, events[len(events)-1].Seq)
	}
	c.Seq, c.Head = events[len(events)-1].Seq, head
	return nil
}
