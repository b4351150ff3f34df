package ceremony

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"signet.example/signet/internal/durable"
	"signet.example/signet/pki"
)

// format is the first line's "format". A record of another format is not read.
const format = "signet ceremony 1"

// Step is one line of a record: JSON, and the SHA-256 of the line before it. So whoever holds the digest of the last line,
// on paper with signatures, holds every line.
type Step struct {
	Format   string    `json:"format,omitempty"` // of the first step
	N        int       `json:"n"`                // from 1
	Previous string    `json:"previous"`         // SHA-256 of the line before without its end, hexadecimal; zeros for the first
	At       time.Time `json:"at"`               // UTC, seconds
	Name     string    `json:"step"`             // one of the names below
	Text     string    `json:"text"`             // a sentence for people
	Facts    []Fact    `json:"facts,omitempty"`
	Rules    []Rule    `json:"rules,omitempty"`
	Attached []Octets  `json:"attached,omitempty"`
}

// The names of steps, in the order they happen. What a kind of ceremony does not need is left out.
const (
	StepBegin    = "begin"    // what is going to happen, where, and who is there
	StepProgram  = "program"  // what does it
	StepState    = "state"    // what earlier ceremonies left
	StepKey      = "key"      // the key that signs
	StepInput    = "input"    // what was brought
	StepRevoke   = "revoke"   // a certificate that goes onto the list
	StepProposal = "proposal" // the octets that will be signed
	StepRules    = "rules"    // what every rule says of them
	StepConfirm  = "confirm"  // somebody said yes
	StepReserve  = "reserve"  // serial or list number written down before it is used
	StepSign     = "sign"     // what was signed
	StepCheck    = "check"    // what was signed, looked at again
	StepProduct  = "product"  // where it was written
	StepBroken   = "broken"   // it ended early, and why
	StepEnd      = "end"      // it ended as it should
)

// Fact is a name and a value; their order is that in which they are read.
type Fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Rule is what one rule said of what is to be signed.
type Rule struct {
	Rule     string `json:"rule"`
	Citation string `json:"citation,omitempty"`
	Outcome  string `json:"outcome"`
	Details  string `json:"details,omitempty"`
}

// Octets are attached in full.
type Octets struct {
	Name   string `json:"name"`
	Type   string `json:"type"` // one of the types below
	SHA256 string `json:"sha256"`
	DER    []byte `json:"der"` // base64
}

// The types of what is attached.
const (
	TypeTBSCertificate = "TBSCertificate"
	TypeTBSCertList    = "TBSCertList"
	TypeCertificate    = "CERTIFICATE"
	TypeCRL            = "X509 CRL"
	TypeRequest        = "CERTIFICATE REQUEST"
	TypeIssuer         = "ISSUER CERTIFICATE" // of the key that signs
)

func octets(name, kind string, der []byte) Octets { return Octets{name, kind, sum(der), der} }

// sum is the SHA-256 in hexadecimal.
func sum(data []byte) string {
	digest := sha256.Sum256(data)
	return hex.EncodeToString(digest[:])
}

// record is a record that is being written. After each step the whole file is replaced, durably: they are small.
type record struct {
	path  string // without extension
	now   func() time.Time
	lines bytes.Buffer
	steps []Step
	last  string // SHA-256 of the last line
	tell  func(Step)
}

// zeroDigest stands before the first step.
var zeroDigest = strings.Repeat("0", 2*sha256.Size)

// add writes one step. When it returns, the step is on the disk, as JSON and on paper.
func (r *record) add(name, text string, change func(*Step)) error {
	s := Step{N: len(r.steps) + 1, Previous: r.last, At: r.now().UTC().Truncate(time.Second), Name: name, Text: text}
	if s.N == 1 {
		s.Format, s.Previous = format, zeroDigest
	}
	if change != nil {
		change(&s)
	}
	line, err := json.Marshal(s)
	if err != nil {
		return pki.Errorf(pki.KindInternal, "write record", "%w", err)
	}
	r.lines.Write(append(line, '\n'))
	r.steps, r.last = append(r.steps, s), sum(line)
	if err := durable.Replace(r.path+".jsonl", r.lines.Bytes(), 0o644); err != nil {
		return writeError(err)
	}
	if err := durable.Replace(r.path+".txt", Paper(r.steps, r.last), 0o644); err != nil {
		return writeError(err)
	}
	if r.tell != nil {
		r.tell(s)
	}
	return nil
}

func writeError(err error) error {
	return (&pki.Error{Kind: pki.KindFailedPrecondition, Op: "write record", Err: err}).WithHint("is there room on the disk, and may you write there? what was not written down is not signed")
}

// maxRecord bounds a record that is read, in octets.
const maxRecord = 64 << 20

// read parses a record and recomputes its chain. It returns the digest of the last line.
func read(text []byte) (steps []Step, last string, err error) {
	if len(text) > maxRecord {
		return nil, "", fmt.Errorf("%d octets are more than a record has", len(text))
	}
	last = zeroDigest
	for line := range bytes.Lines(text) {
		n := len(steps) + 1
		line, whole := bytes.CutSuffix(line, []byte("\n"))
		if !whole {
			return steps, last, fmt.Errorf("step %d is cut off", n)
		}
		var s Step
		dec := json.NewDecoder(bytes.NewReader(line))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&s); err != nil || dec.More() {
			return steps, last, fmt.Errorf("step %d is not a step of a record", n)
		}
		switch {
		case n == 1 && s.Format != format:
			return nil, "", fmt.Errorf("it is not a record of the format %q", format)
		case s.N != n:
			return steps, last, fmt.Errorf("step %d stands where %d should: something was removed or inserted", s.N, n)
		case s.Previous != last:
			return steps, last, fmt.Errorf("step %d does not carry the digest of the one before it: something was altered", n)
		case n > 1 && s.At.Before(steps[n-2].At):
			return steps, last, fmt.Errorf("step %d is earlier than the one before it", n)
		}
		for _, o := range s.Attached {
			if sum(o.DER) != o.SHA256 {
				return steps, last, fmt.Errorf("step %d: the octets of %s do not have the digest that stands there", n, o.Name)
			}
		}
		steps, last = append(steps, s), sum(line)
	}
	if len(steps) == 0 {
		return nil, "", fmt.Errorf("it has no steps")
	}
	return steps, last, nil
}

// attached finds the last octets of a type.
func attached(steps []Step, kind string) (Octets, bool) {
	for i := len(steps) - 1; i >= 0; i-- {
		for _, o := range steps[i].Attached {
			if o.Type == kind {
				return o, true
			}
		}
	}
	return Octets{}, false
}

// fact finds the first value of a name in the steps of a name.
func fact(steps []Step, step, name string) string {
	for _, s := range steps {
		for _, f := range s.Facts {
			if s.Name == step && f.Name == name {
				return f.Value
			}
		}
	}
	return ""
}
