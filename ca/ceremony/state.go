package ceremony

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"signet.example/signet/internal/durable"
	"signet.example/signet/pki"
)

const stateFormat = "signet ceremony state 1"

// state is what the next ceremonies need to know. It is written ahead: a serial number or CRL number in it counts as
// used, whether or not it was.
type state struct {
	Format    string    `json:"format"`
	Label     string    `json:"label"`
	KeyURI    string    `json:"key"`
	BaseURL   string    `json:"base_url"`
	CRLNumber uint64    `json:"crl_number"` // of the last CRL that was about to be signed
	Issued    []issued  `json:"issued"`
	Revoked   []revoked `json:"revoked"`
	Records   []ended   `json:"records"`

	path string
	read []byte // the file as read, to notice changes by another ceremony
}

// issued is a certificate. If it has no fingerprint, its ceremony broke off when it was about to be signed. A
// signature may exist, so the next CRL revokes it.
type issued struct {
	Serial   string    `json:"serial"`
	Subject  string    `json:"subject"`
	Key      string    `json:"key,omitempty"` // pki.KeyHash; empty: the ceremony is older than this field
	SHA256   string    `json:"sha256,omitempty"`
	NotAfter time.Time `json:"not_after"`
	Record   string    `json:"record"`
}

type revoked struct {
	Serial string    `json:"serial"`
	Key    string    `json:"key,omitempty"` // pki.KeyHash; empty: not known
	At     time.Time `json:"at"`
	Reason string    `json:"reason"`
	Record string    `json:"record"`
}

// ended is a record and the digest of its last line.
type ended struct {
	Record string `json:"record"`
	SHA256 string `json:"sha256"`
}

// openState reads the state of a directory. If there is no file, the state is empty.
func openState(dir string) (*state, error) {
	const op = "read ceremony state"
	s := &state{Format: stateFormat, path: filepath.Join(dir, "ceremony.json")}
	text, err := os.ReadFile(s.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return s, nil
	case err != nil:
		return nil, &pki.Error{Kind: pki.KindInvalid, Op: op, Err: err}
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(s); err != nil {
		return nil, pki.Errorf(pki.KindInvalid, op, "%s: %w", s.path, err)
	}
	if s.Format != stateFormat {
		return nil, pki.Errorf(pki.KindInvalid, op, "%s is not of the format %q", s.path, stateFormat)
	}
	s.read = text
	return s, nil
}

// save writes the state durably, unless another ceremony wrote it meanwhile.
func (s *state) save() error {
	const op = "write ceremony state"
	present, err := os.ReadFile(s.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return &pki.Error{Kind: pki.KindInternal, Op: op, Err: err}
	}
	if !bytes.Equal(present, s.read) {
		return pki.Errorf(pki.KindConflict, op, "another ceremony changed %s meanwhile", s.path).WithHint("run one ceremony after the other")
	}
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return pki.Errorf(pki.KindInternal, op, "%w", err)
	}
	text = append(text, '\n')
	if err := durable.Replace(s.path, text, 0o600); err != nil {
		return writeError(err)
	}
	s.read = text
	return nil
}

// find returns the certificate with a serial number, or nil.
func (s *state) find(serial string) *issued {
	for i := range s.Issued {
		if s.Issued[i].Serial == serial {
			return &s.Issued[i]
		}
	}
	return nil
}

// compromised returns the keys of certificates that were revoked for keyCompromise or cACompromise.
func (s *state) compromised() (map[pki.KeyHash]bool, error) {
	keys := make(map[pki.KeyHash]bool)
	for _, r := range s.Revoked {
		if r.Key == "" || r.Reason != pki.KeyCompromise.String() && r.Reason != pki.CACompromise.String() {
			continue
		}
		hash, err := pki.ParseKeyHash(r.Key)
		if err != nil {
			return nil, pki.Errorf(pki.KindInvalid, "read ceremony state", "%s: %w", s.path, err)
		}
		keys[hash] = true
	}
	return keys, nil
}
