package ceremony

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"signet.example/signet/pki"
)

// Finding is the result of one check of a record.
type Finding struct {
	What string `json:"what"`
	Good bool   `json:"good"`
	Text string `json:"text"`
}

// Verified is the result of Verify. Good means that every finding is good.
type Verified struct {
	Record    string    `json:"record"`
	Kind      string    `json:"kind"`
	Steps     int       `json:"steps"`
	Digest    string    `json:"digest"` // to be compared with the paper
	Complete  bool      `json:"complete"`
	Rehearsal bool      `json:"rehearsal"`
	Good      bool      `json:"good"`
	Present   []string  `json:"present"`
	Findings  []Finding `json:"findings"`
}

// Verify checks a record: the chain of its steps, the digests of attached octets, and the product, which must hold the
// octets that were shown and verify under the authority's certificate. It also compares the files beside the record,
// pages and product, with it. An error means that the file is not a record; anything wrong with a record is a finding.
func Verify(path string) (*Verified, error) {
	const op = "verify record"
	info, err := os.Stat(path)
	if err != nil {
		kind := pki.KindInvalid
		if errors.Is(err, fs.ErrNotExist) {
			kind = pki.KindNotFound
		}
		return nil, &pki.Error{Kind: kind, Op: op, Err: err}
	}
	if info.Size() > maxRecord {
		return nil, pki.Errorf(pki.KindInvalid, op, "%s is too long for a record", path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, &pki.Error{Kind: pki.KindInvalid, Op: op, Err: err}
	}
	v := &Verified{Good: true}
	steps, last, err := read(text)
	if len(steps) == 0 {
		return nil, pki.Errorf(pki.KindInvalid, op, "%s: %w", path, err)
	}
	v.Record, v.Kind, v.Steps, v.Digest, v.Rehearsal = fact(steps, StepBegin, "record"), fact(steps, StepBegin, "kind"), len(steps), last, rehearsed(steps)
	for _, f := range steps[0].Facts {
		if f.Name == "present" {
			v.Present = append(v.Present, f.Value)
		}
	}
	v.find("chain", err, "every step carries the digest of the one before it, and what is attached has the digests that stand there")
	if err != nil {
		return v, nil
	}
	v.Complete = steps[len(steps)-1].Name == StepEnd
	var unfinished error
	if !v.Complete {
		unfinished = fmt.Errorf("it does not end with an end: the last step is %q, %s", steps[len(steps)-1].Name, steps[len(steps)-1].Text)
	}
	v.find("end", unfinished, "the ceremony ended as it should")
	v.signed(steps)
	v.beside(path, steps, last)
	return v, nil
}

func (v *Verified) find(what string, err error, good string) {
	f := Finding{what, err == nil, good}
	if err != nil {
		f.Text, v.Good = err.Error(), false
	}
	v.Findings = append(v.Findings, f)
}

// signed compares what was signed with what was shown before.
func (v *Verified) signed(steps []Step) {
	shown, wasShown := attached(ofStep(steps, StepProposal), TypeTBSCertificate)
	if list, ok := attached(ofStep(steps, StepProposal), TypeTBSCertList); ok {
		shown, wasShown = list, true
	}
	made := ofStep(steps, StepSign)
	if len(made) == 0 {
		if v.Complete && !v.Rehearsal {
			v.find("signature", errors.New("it ended, and nothing was signed"), "")
		}
		return
	}
	if !wasShown || !before(steps, StepProposal, StepConfirm) || !before(steps, StepConfirm, StepReserve) || !before(steps, StepReserve, StepSign) {
		v.find("order", errors.New("what was signed was not shown, confirmed and reserved before"), "")
		return
	}
	v.find("order", nil, "it was shown, confirmed and reserved before it was signed")
	var issuer *x509.Certificate
	if o, ok := attached(ofStep(steps, StepKey), TypeIssuer); ok {
		var err error
		if issuer, err = x509.ParseCertificate(o.DER); err != nil {
			v.find("signature", fmt.Errorf("the authority's certificate: %w", err), "")
			return
		}
	}
	if o, ok := attached(made, TypeCertificate); ok {
		v.find("signature", checkCertificate(o.DER, shown.DER, issuer), "the certificate holds the octets that were shown, and verifies under the authority")
		return
	}
	o, ok := attached(made, TypeCRL)
	if !ok || issuer == nil {
		v.find("signature", errors.New("what was signed is not in the record"), "")
		return
	}
	v.find("signature", checkList(o.DER, shown.DER, issuer), "the list holds the octets that were shown, and verifies under the authority")
}

// beside compares the pages and the product with the record. A missing file is not a finding.
func (v *Verified) beside(path string, steps []Step, last string) {
	stem := strings.TrimSuffix(path, ".jsonl")
	if text, err := os.ReadFile(stem + ".txt"); err == nil {
		var differs error
		if !bytes.Equal(text, Paper(steps, last)) {
			differs = fmt.Errorf("%s is not what this record prints as", filepath.Base(stem)+".txt")
		}
		v.find("pages", differs, filepath.Base(stem)+".txt is what this record prints as")
	}
	for _, extension := range []string{".pem", ".crl"} {
		data, err := os.ReadFile(stem + extension)
		if err != nil {
			continue
		}
		v.find("product", product(data, steps), filepath.Base(stem)+extension+" is what was signed")
	}
}

// product compares a file with what was signed, and with its digest in the record.
func product(data []byte, steps []Step) error {
	var der []byte
	o, ok := attached(ofStep(steps, StepSign), TypeCertificate)
	if block, _ := pem.Decode(data); block != nil {
		der = block.Bytes
	}
	if list, isList := attached(ofStep(steps, StepSign), TypeCRL); isList {
		o, ok, der = list, true, data
	}
	switch {
	case !ok:
		return errors.New("there is a product, and nothing was signed")
	case !bytes.Equal(o.DER, der):
		return errors.New("the file beside the record is not what was signed")
	case fact(steps, StepProduct, "sha256 of file") != sum(data):
		return errors.New("the file beside the record is not the one that was written")
	}
	return nil
}

func ofStep(steps []Step, name string) (some []Step) {
	for _, s := range steps {
		if s.Name == name {
			some = append(some, s)
		}
	}
	return some
}

// before reports whether the last step of one name comes before the last step of another.
func before(steps []Step, first, second string) bool {
	a, b := -1, -1
	for i, s := range steps {
		switch s.Name {
		case first:
			a = i
		case second:
			b = i
		}
	}
	return a >= 0 && a < b
}
