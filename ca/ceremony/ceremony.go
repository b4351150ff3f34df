package ceremony

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"signet.example/signet/ca"
	"signet.example/signet/ca/keys"
	"signet.example/signet/ca/policy"
	"signet.example/signet/ca/profile"
	"signet.example/signet/internal/durable"
	"signet.example/signet/pki"
)

// Program describes the program that runs the ceremony, for the record.
type Program struct {
	Version  string
	Commit   string
	Go       string
	Platform string
	SHA256   string // of the running binary, hexadecimal
}

// Config configures a Ceremony.
type Config struct {
	Dir      string       // see the package documentation; must exist
	Keys     keys.Store   // required
	Profiles *profile.Set // required
	WeakKeys Input        // keys that are never certified, in the format of policy.ReadWeakKeys; zero: none
	Program  Program
	Present  []string // the people present, such as "Ada Lovelace, key holder"; at least one
	Place    string   // empty: not recorded
	Rehearse bool     // show every step, but make, sign and remember nothing

	// Confirm is called before each signature and before a key is made. It returns how a person agreed, for the
	// record. An error ends the ceremony. Required.
	Confirm func(question string) (how string, err error)

	Tell func(Step)       // called with each step once it is on disk; nil: not called
	Now  func() time.Time // nil: time.Now
}

// Ceremony runs one ceremony in one directory. It must be used once, by one goroutine.
type Ceremony struct {
	config    Config
	authority *ca.Offline
	weak      policy.WeakKeys // of Config.WeakKeys
	state     *state
	record    *record
	name      string // of the record

	pending []revoked // revoked in this ceremony; they enter the state when the CRL is about to be signed
}

// Result describes what a ceremony produced.
type Result struct {
	Record      string    `json:"record"`            // path of the JSON lines
	Paper       string    `json:"paper"`             // path of the pages
	Digest      string    `json:"digest"`            // SHA-256 of the last line, which is signed on paper
	Steps       int       `json:"steps"`             //
	Rehearsal   bool      `json:"rehearsal"`         //
	Product     string    `json:"product,omitempty"` // path of what was signed
	Fingerprint string    `json:"fingerprint,omitempty"`
	Serial      string    `json:"serial,omitempty"`
	Number      uint64    `json:"number,omitempty"` // of a CRL
	NotAfter    time.Time `json:"not_after,omitzero"`
}

// New checks the configuration and reads the state that earlier ceremonies left.
func New(config Config) (*Ceremony, error) {
	const op = "begin ceremony"
	if config.Dir == "" || config.Keys == nil || config.Profiles == nil || config.Confirm == nil {
		return nil, pki.Errorf(pki.KindInternal, op, "Dir, Keys, Profiles and Confirm are required")
	}
	if len(config.Present) == 0 {
		return nil, pki.Errorf(pki.KindInvalid, op, "no one is named as present").InField("--present").
			WithHint(`name each person: --present "Ada Lovelace, key holder"`)
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	s, err := openState(config.Dir)
	if err != nil {
		return nil, err
	}
	weak, err := policy.ReadWeakKeys(bytes.NewReader(config.WeakKeys.Data))
	if err != nil {
		return nil, pki.Errorf(pki.KindInvalid, op, "%s: %w", config.WeakKeys.Name, err).InField("--weak-keys")
	}
	compromised, err := s.compromised()
	if err != nil {
		return nil, err
	}
	authority, err := ca.NewOffline(ca.OfflineConfig{Profiles: config.Profiles, WeakKeys: weak, Blocked: compromised, Now: config.Now})
	if err != nil {
		return nil, err
	}
	return &Ceremony{config: config, authority: authority, weak: weak, state: s}, nil
}

// hold runs a ceremony: the first and last steps, which are the same for all kinds, and steps between them. If steps
// fails, the record ends with the reason.
func (c *Ceremony) hold(kind, purpose string, steps func(*Result) error) (*Result, error) {
	result := &Result{Rehearsal: c.config.Rehearse}
	if err := c.begin(kind, purpose); err != nil {
		return nil, err
	}
	result.Record, result.Paper = c.record.path+".jsonl", c.record.path+".txt"
	err := steps(result)
	if err != nil {
		broken := c.record.add(StepBroken, "The ceremony ends here: "+err.Error(), nil)
		return nil, errors.Join(err, broken, c.remember())
	}
	text := "The ceremony is over."
	if c.config.Rehearse {
		text = "The rehearsal is over. Nothing was made, signed or remembered."
	}
	if err := c.record.add(StepEnd, text, nil); err != nil {
		return nil, err
	}
	result.Digest, result.Steps = c.record.last, len(c.record.steps)
	return result, c.remember()
}

// remember binds the record of the next ceremony to this one's.
func (c *Ceremony) remember() error {
	if c.config.Rehearse || c.state.KeyURI == "" {
		return nil
	}
	c.state.Records = append(c.state.Records, ended{c.name, c.record.last})
	return c.state.save()
}

// begin opens the record and writes its first steps: purpose, people, program, earlier state and the list of weak
// keys.
func (c *Ceremony) begin(kind, purpose string) error {
	if c.config.Rehearse {
		kind += "-rehearsal"
	}
	if err := c.openRecord(kind); err != nil {
		return err
	}
	if err := c.record.add(StepBegin, purpose, func(s *Step) {
		s.Facts = append(s.Facts, Fact{"record", c.name}, Fact{"kind", kind})
		if c.config.Rehearse {
			s.Facts = append(s.Facts, Fact{"rehearsal", "yes: nothing will be made, signed or remembered"})
		}
		if c.config.Place != "" {
			s.Facts = append(s.Facts, Fact{"place", c.config.Place})
		}
		for _, name := range c.config.Present {
			s.Facts = append(s.Facts, Fact{"present", name})
		}
	}); err != nil {
		return err
	}
	p := c.config.Program
	if err := c.record.add(StepProgram, "This program speaks, and will sign.", func(s *Step) {
		s.Facts = []Fact{{"signet", p.Version}}
		if p.Commit != "" {
			s.Facts = append(s.Facts, Fact{"commit", p.Commit})
		}
		s.Facts = append(s.Facts, Fact{"built with", p.Go}, Fact{"platform", p.Platform}, Fact{"sha256 of binary", p.SHA256})
	}); err != nil {
		return err
	}
	if err := c.record.add(StepState, "What earlier ceremonies in this directory left.", func(s *Step) {
		s.Facts = []Fact{
			{"certificates", strconv.Itoa(len(c.state.Issued))}, {"revoked", strconv.Itoa(len(c.state.Revoked))},
			{"last list number", strconv.FormatUint(c.state.CRLNumber, 10)},
		}
		if n := len(c.state.Records); n > 0 {
			s.Facts = append(s.Facts, Fact{"last record", c.state.Records[n-1].Record}, Fact{"its digest", c.state.Records[n-1].SHA256})
		}
	}); err != nil {
		return err
	}
	list := c.config.WeakKeys
	if list.Name == "" {
		return nil
	}
	return c.record.add(StepInput, "A list of keys was brought that are not certified.", func(s *Step) {
		s.Facts = []Fact{
			{"file", list.Name}, {"sha256 of file", sum(list.Data)}, {"octets", strconv.Itoa(len(list.Data))}, {"keys", strconv.Itoa(len(c.weak))},
		}
	})
}

// openRecord creates the record under a name that no other record has.
func (c *Ceremony) openRecord(kind string) error {
	const op = "open record"
	dir := filepath.Join(c.config.Dir, "records")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return &pki.Error{Kind: pki.KindInvalid, Op: op, Err: err}
	}
	for n := 1; n < 1000; n++ {
		name := fmt.Sprintf("%s-%s-%d", c.config.Now().UTC().Format(time.DateOnly), kind, n)
		f, err := os.OpenFile(filepath.Join(dir, name+".jsonl"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		switch {
		case errors.Is(err, fs.ErrExist):
			continue
		case err != nil:
			return &pki.Error{Kind: pki.KindInvalid, Op: op, Err: err}
		}
		if err := f.Close(); err != nil {
			return &pki.Error{Kind: pki.KindInternal, Op: op, Err: err}
		}
		c.name = name
		c.record = &record{path: filepath.Join(dir, name), now: c.config.Now, last: zeroDigest, tell: c.config.Tell}
		return nil
	}
	return pki.Errorf(pki.KindConflict, op, "there are a thousand records of today in %s", dir)
}

// confirm asks a question and records that a person agreed. A rehearsal records the question only.
func (c *Ceremony) confirm(question string) error {
	if c.config.Rehearse {
		return c.record.add(StepConfirm, "Here somebody would be asked: "+question, nil)
	}
	how, err := c.config.Confirm(question)
	if err != nil {
		return err
	}
	return c.record.add(StepConfirm, question, func(s *Step) { s.Facts = []Fact{{"answer", how}} })
}

// signer is the authority of this directory.
type signer struct {
	key         *keys.Key
	certificate *x509.Certificate
}

// open opens the key and the certificate that the first ceremony left, and records them.
func (c *Ceremony) open(ctx context.Context) (*signer, error) {
	const op = "open off-line authority"
	text, err := os.ReadFile(c.rootFile())
	if c.state.KeyURI == "" || errors.Is(err, fs.ErrNotExist) {
		return nil, pki.Errorf(pki.KindNotFound, op, "there is no authority in %s", c.config.Dir).InField("--dir").WithHint("make one: signet ceremony root")
	}
	if err != nil {
		return nil, &pki.Error{Kind: pki.KindInvalid, Op: op, Err: err}
	}
	certificate, err := parseFirst(text)
	if err != nil {
		return nil, pki.Errorf(pki.KindInvalid, op, "%s: %w", c.rootFile(), err)
	}
	key, err := c.config.Keys.Open(ctx, c.state.KeyURI)
	if e, ok := errors.AsType[*pki.Error](err); ok && e.Kind == pki.KindFailedPrecondition && strings.HasPrefix(c.state.KeyURI, "pkcs11:") {
		return nil, e.WithHint("the key is in a token: name it with --module, --token and --pin-file")
	}
	if err != nil {
		return nil, err
	}
	if hash, err := pki.HashPublicKey(key.Public()); err != nil || hash != pki.HashSPKI(certificate.RawSubjectPublicKeyInfo) {
		return nil, pki.Errorf(pki.KindFailedPrecondition, op, "%s is not the key of %s", c.state.KeyURI, c.rootFile()).InField("key")
	}
	return &signer{key, certificate}, c.sayKey("The key of the authority was opened.", key, func(s *Step) {
		s.Facts = append(s.Facts, Fact{"authority", pki.NameText(certificate.RawSubject)}, Fact{"its certificate", sum(certificate.Raw)},
			Fact{"its end", on(certificate.NotAfter)})
		s.Attached = []Octets{octets("certificate of the authority", TypeIssuer, certificate.Raw)}
	})
}

func (c *Ceremony) rootFile() string { return filepath.Join(c.config.Dir, "root.pem") }

func parseFirst(text []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("no PEM certificate")
	}
	return x509.ParseCertificate(block.Bytes)
}

// sayKey records where a key is and its public half.
func (c *Ceremony) sayKey(text string, key *keys.Key, more func(*Step)) error {
	hash, err := pki.HashPublicKey(key.Public())
	if err != nil {
		return pki.Errorf(pki.KindInternal, "describe key", "%w", err)
	}
	return c.record.add(StepKey, text, func(s *Step) {
		s.Facts = []Fact{
			{"where", key.URI}, {"type", keys.AlgorithmOf(key.Public()).String()}, {"sha256 of key", hash.String()}, {"issuer id", hash.Issuer().String()},
		}
		if more != nil {
			more(s)
		}
	})
}

// write writes the product to a file beside its record.
func (c *Ceremony) write(result *Result, extension string, data []byte) error {
	result.Product = c.record.path + extension
	if err := durable.Replace(result.Product, data, 0o644); err != nil {
		return writeError(err)
	}
	return c.record.add(StepProduct, "What was signed was written to a file beside this record.", func(s *Step) {
		s.Facts = []Fact{{"file", filepath.Base(result.Product)}, {"octets", strconv.Itoa(len(data))}, {"sha256 of file", sum(data)}}
	})
}
