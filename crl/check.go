package crl

import (
	"bytes"
	"crypto"
	"fmt"
	"slices"
	"time"

	"signet.example/signet/pki"
)

// Want is what Check requires of a list before it is published.
type Want struct {
	Template    Template         // the list was made from it
	Key         crypto.PublicKey // of the issuer
	Previous    uint64           // number of the list that it replaces, 0 if it is the first
	Count       int              // entries
	Digest      *Digest          // of the entries, nil if not known (a delta)
	Now         time.Time        // thisUpdate must not be later
	MaxValidity time.Duration    // longest time from thisUpdate to nextUpdate; 0: no limit
}

// CheckError says which rule of Check a list breaks. The list must not be published.
type CheckError struct {
	Rule string // a word for metrics: "signature"
	Err  error
}

func (e *CheckError) Error() string {
	return "check own revocation list: " + e.Rule + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *CheckError) Unwrap() error { return e.Err }

// Check reads a list back before it is published, with the reader that others would use, and compares everything that
// it says with what it should say. It returns the list, in which nothing can be looked up. The error is a *CheckError.
func Check(document Document, want Want) (*List, error) {
	l, err := readSum(document.Reader(), document.Size())
	if err != nil {
		return nil, &CheckError{"parse", err}
	}
	for _, rule := range rules {
		if err := rule.check(l, &want); err != nil {
			return nil, &CheckError{rule.name, err}
		}
	}
	return l, nil
}

// Verdict is the result of one rule of Check.
type Verdict struct {
	Rule string
	Err  error // nil: kept
}

// Verdicts runs every rule of Check, except that of the signature, on a list that is not yet signed, so that people can
// read the results before they sign.
func Verdicts(t *Template, entries Entries, algorithm Algorithm, want Want) ([]Verdict, error) {
	document, err := t.Assemble(entries, Signature{algorithm, make([]byte, 64)})
	if err != nil {
		return nil, err
	}
	l, err := Read(document.Reader(), document.Size())
	if err != nil {
		return nil, &CheckError{"parse", err}
	}
	var verdicts []Verdict
	for _, rule := range rules[:len(rules)-1] {
		verdicts = append(verdicts, Verdict{rule.name, rule.check(l, &want)})
	}
	return verdicts, nil
}

// rules are in the order of Check; the signature is the last.
var rules = []struct {
	name  string
	check func(*List, *Want) error
}{
	{"profile", checkProfile},
	{"issuer", checkIssuer},
	{"number", checkNumber},
	{"times", checkTimes},
	{"scope", checkScope},
	{"entries", checkEntries},
	{"signature", checkSignature},
}

func checkProfile(l *List, _ *Want) error {
	if l.Version != 2 || !l.HasNumber {
		return fmt.Errorf("version %d, number present: %t", l.Version, l.HasNumber)
	}
	return l.Unusable
}

func checkIssuer(l *List, w *Want) error {
	if !bytes.Equal(l.Issuer, w.Template.Issuer) {
		return fmt.Errorf("name is %x", l.Issuer)
	}
	if want := wrap(tagSequence, wrap(0x80, w.Template.KeyID)); !bytes.Equal(l.AuthorityKey, want) {
		return fmt.Errorf("authority key identifier is %x", l.AuthorityKey)
	}
	return nil
}

// checkNumber checks that numbers grow, and that a delta has the base that it should (RFC 5280, Sections 5.2.3 and
// 5.2.4).
func checkNumber(l *List, w *Want) error {
	if l.Number != NumberOf(w.Template.Number) || w.Template.Number <= w.Previous {
		return fmt.Errorf("%s follows %d", l.Number, w.Previous)
	}
	if l.Delta != (w.Template.Base != 0) || l.BaseNumber != NumberOf(w.Template.Base) || l.Delta && !l.critical[oidDelta] {
		return fmt.Errorf("delta %t (critical %t) of base %s", l.Delta, l.critical[oidDelta], l.BaseNumber)
	}
	return nil
}

func checkTimes(l *List, w *Want) error {
	if !l.ThisUpdate.Equal(w.Template.ThisUpdate.Truncate(time.Second)) || !l.NextUpdate.Equal(w.Template.NextUpdate.Truncate(time.Second)) {
		return fmt.Errorf("from %s to %s", l.ThisUpdate, l.NextUpdate)
	}
	if l.ThisUpdate.After(w.Now) || !l.NextUpdate.After(w.Now) {
		return fmt.Errorf("from %s to %s does not hold %s", l.ThisUpdate, l.NextUpdate, w.Now)
	}
	if validity := l.NextUpdate.Sub(l.ThisUpdate); w.MaxValidity > 0 && validity > w.MaxValidity {
		return fmt.Errorf("valid for %s, more than %s", validity, w.MaxValidity)
	}
	return nil
}

// checkScope checks that the issuing distribution point is critical and has the names that are in the certificates (RFC
// 5280, Section 5.2.5).
func checkScope(l *List, w *Want) error {
	t := &w.Template
	if len(t.URLs) == 0 && !t.UserCerts {
		if l.IDP != nil {
			return fmt.Errorf("a complete list has an issuing distribution point")
		}
	} else if l.IDP == nil || !l.critical[oidIDP] || l.IDP.OnlyUserCerts != t.UserCerts || !slices.Equal(l.IDP.URLs(), t.URLs) {
		return fmt.Errorf("issuing distribution point is %+v, critical %t", l.IDP, l.critical[oidIDP])
	}
	var freshest []string
	for _, p := range l.Freshest {
		freshest = append(freshest, p.URLs()...)
	}
	if !slices.Equal(freshest, t.Freshest) {
		return fmt.Errorf("freshest CRL is %q", freshest)
	}
	return nil
}

func checkEntries(l *List, w *Want) error {
	if l.Len() != w.Count {
		return fmt.Errorf("%d, want %d", l.Len(), w.Count)
	}
	if w.Digest != nil && l.Digest() != *w.Digest {
		return fmt.Errorf("they are not those of the ledger")
	}
	return nil
}

func checkSignature(l *List, w *Want) error {
	hash, err := pki.HashPublicKey(w.Key)
	if err != nil {
		return err
	}
	return l.VerifyKey(w.Key, hash)
}
