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

// format is the "format" of the first line. Records of other formats are refused.
const format = "signet ceremony 1"

// Step is one line of a record, in JSON. It carries the SHA-256 of the line before it. So the digest of the last line,
// on paper with signatures, vouches for every line.
type Step struct {
	Format   string    `json:"format,omitempty"` // in the first step only
	N        int       `json:"n"`                // from 1
	Previous string    `json:"previous"`         // SHA-256 of the line before without its newline, hexadecimal; zeros in the first step
	At       time.Time `json:"at"`               // UTC, seconds
	Name     string    `json:"step"`             // one of the names below
	Text     string    `json:"text"`             // a sentence for people
	Facts    []Fact    `json:"facts,omitempty"`
	Rules    []Rule    `json:"rules,omitempty"`
	Attached []Octets  `json:"attached,omitempty"`
}

// The names of steps, in their order. A kind of ceremony leaves out the steps it does not need.
const (
	StepBegin    = "begin"    // purpose, place and people
	StepProgram  = "program"  // the program that signs
	StepState    = "state"    // what earlier ceremonies left
	StepKey      = "key"      // the key that signs
	StepInput    = "input"    // a file that was brought
	StepRevoke   = "revoke"   // a certificate that enters the CRL
	StepProposal = "proposal" // the octets that will be signed
	StepRules    = "rules"    // the verdict of every rule on them
	StepConfirm  = "confirm"  // a person agreed
	StepReserve  = "reserve"  // the serial or CRL number was written before its use
	StepSign     = "sign"     // what was signed
	StepCheck    = "check"    // it was read again and verified
	StepProduct  = "product"  // where it was written
	StepBroken   = "broken"   // the ceremony ended early, and why
	StepEnd      = "end"      // the ceremony ended as it should
)

// Fact is a name and a value. Facts are shown in their order.
type Fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Rule is the verdict of one rule on the octets to be signed.
type Rule struct {
	Rule     string `json:"rule"`
	Citation string `json:"citation,omitempty"`
	Outcome  string `json:"outcome"`
	Details  string `json:"details,omitempty"`
}

// Octets is DER that is attached to a step in full.
type Octets struct {
	Name   string `json:"name"`
	Type   string `json:"type"` // one of the types below
	SHA256 string `json:"sha256"`
	DER    []byte `json:"der"` // base64
}

// The types of Octets.
const (
	TypeTBSCertificate = "TBSCertificate"
	TypeTBSCertList    = "TBSCertList"
	TypeCertificate    = "CERTIFICATE"
	TypeCRL            = "X509 CRL"
	TypeRequest        = "CERTIFICATE REQUEST"
	TypeIssuer         = "ISSUER CERTIFICATE" // of the key that signs
)

func octets(name, kind string, der []byte) Octets { return Octets{name, kind, sum(der), der} }

// sum returns the SHA-256 in hexadecimal.
func sum(data []byte) string {
	digest := sha256.Sum256(data)
	return hex.EncodeToString(digest[:])
}

// record is a record that is being written. Each step replaces the whole file, durably: records are small.
type record struct {
	path  string // without extension
	now   func() time.Time
	lines bytes.Buffer
	steps []Step
	last  string // SHA-256 of the last line
	tell  func(Step)
}

// zeroDigest is Step.Previous of the first step.
var zeroDigest = strings.Repeat("0", 2*sha256.Size)

// add writes one step. When it returns, the step is durable, as JSON and as pages.
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
	return (&pki.Error{Kind: pki.KindFailedPrecondition, Op: "write record", Err: err}).
		WithHint("is there room on the disk, and may you write there? nothing is signed before it is recorded")
}

// maxRecord bounds the length of a record, in octets.
const maxRecord = 64 << 20

// read parses a record and verifies its chain of digests. It returns the digest of the last line. With an error, it
// returns the steps before the fault.
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
				return steps, last, fmt.Errorf("step %d: the octets of %s do not have their digest", n, o.Name)
			}
		}
		steps, last = append(steps, s), sum(line)
	}
	if len(steps) == 0 {
		return nil, "", fmt.Errorf("it has no steps")
	}
	return steps, last, nil
}

// attached returns the last octets of a type.
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

// fact returns the value of the first fact with a name, among the steps with a name, or "".
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
