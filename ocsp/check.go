package ocsp

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"signet.example/signet/pki"
)

// Expected is what a responder meant to sign, for Check.
type Expected struct {
	Responder  *x509.Certificate // its key signed, and it is sent along
	Answers    []SingleResponse  // in order
	Nonce      []byte
	MaxLife    time.Duration // bound on nextUpdate - thisUpdate. Zero: 10 days, the most that CA/B BR 4.9.9 allows
	SkipVerify bool          // do not verify the signature, which costs twice as much as making it
}

// Check lints a response of Signet's own responder before it is sent: it parses the response and compares it with what
// was meant and with the rules for the responder. The error says which rule is broken.
func Check(der []byte, want Expected) error {
	r, err := ParseResponse(der)
	if err != nil {
		return fmt.Errorf("check OCSP response: %w", err)
	}
	for _, rule := range [...]func(*Response, Expected) error{
		checkResponderID, checkCertificates, checkAnswers, checkTimesWritten, checkExtensionsWritten, checkSigned,
	} {
		if err := rule(r, want); err != nil {
			return fmt.Errorf("check OCSP response: %w", err)
		}
	}
	return nil
}

// RFC 9919, Section 2.2.1: new responders are named by key.
func checkResponderID(r *Response, want Expected) error {
	issuer, err := IssuerOf(want.Responder)
	if err != nil {
		return err
	}
	if r.Status != Successful || !bytes.Equal(r.ResponderKey, issuer.ResponderKey()) {
		return errors.New("the responder is not named by its key")
	}
	return nil
}

// RFC 6960, Section 4.2.2.2: clients take the delegate's certificate from the response. Further certificates only cost
// space.
func checkCertificates(r *Response, want Expected) error {
	if len(r.Certificates) != 1 || !bytes.Equal(r.Certificates[0], want.Responder.Raw) {
		return errors.New("the responder's certificate is not the one sent along")
	}
	return nil
}

func checkAnswers(r *Response, want Expected) error {
	if len(r.Answers) != len(want.Answers) || len(r.Answers) == 0 {
		return fmt.Errorf("%d answers, and %d were meant", len(r.Answers), len(want.Answers))
	}
	for i := range r.Answers {
		if got, meant := &r.Answers[i], &want.Answers[i]; !got.says(meant) {
			return fmt.Errorf("answer %d is not the one that was meant", i)
		}
	}
	return nil
}

// says reports whether both make the same statement, in whole seconds.
func (a *SingleResponse) says(other *SingleResponse) bool {
	same := func(a, b time.Time) bool { return a.IsZero() == b.IsZero() && a.Unix() == b.Unix() }
	return a.ID.Equal(other.ID) && a.Status == other.Status && a.Reason == other.Reason && same(a.RevokedAt, other.RevokedAt) &&
		same(a.ThisUpdate, other.ThisUpdate) && same(a.NextUpdate, other.NextUpdate) &&
		same(a.ArchiveCutoff, other.ArchiveCutoff) && same(a.InvalidityAt, other.InvalidityAt)
}

// RFC 6960, Section 4.2.2.1, and CA/B BR, Section 4.9.9: nextUpdate is present, after thisUpdate and not too far ahead.
// No time is later than producedAt, and no answer outlives the certificate of the key that signed it.
func checkTimesWritten(r *Response, want Expected) error {
	most := want.MaxLife
	if most == 0 {
		most = 10 * 24 * time.Hour
	}
	for i := range r.Answers {
		a := &r.Answers[i]
		switch {
		case a.NextUpdate.IsZero() || !a.NextUpdate.After(a.ThisUpdate):
			return errors.New("nextUpdate is not after thisUpdate")
		case a.NextUpdate.Sub(a.ThisUpdate) > most:
			return fmt.Errorf("lives %s: at most %s are allowed", a.NextUpdate.Sub(a.ThisUpdate), most)
		case a.ThisUpdate.After(r.ProducedAt) || a.RevokedAt.After(r.ProducedAt):
			return errors.New("is dated after it was produced")
		case a.NextUpdate.After(want.Responder.NotAfter) || r.ProducedAt.Before(want.Responder.NotBefore):
			return errors.New("its responder's certificate is not valid for as long as the answer")
		}
	}
	return nil
}

// RFC 6960, Section 4.4.8: "never issued" requires the extended-revoke extension. RFC 9654: the nonce is the
// requester's. CA/B BR, Section 7.3.2: the reason is in the status, never in an extension.
func checkExtensionsWritten(r *Response, want Expected) error {
	if !bytes.Equal(r.Nonce, want.Nonce) || len(r.Nonce) > MaxNonce {
		return errors.New("the nonce is not that of the request")
	}
	for _, e := range r.Extensions {
		if e.Critical || e.ID != OIDNonce && e.ID != OIDExtendedRevoke {
			return fmt.Errorf("extension %s has no business here", e.ID)
		}
	}
	for i := range r.Answers {
		a := &r.Answers[i]
		if a.neverIssued() && (!r.ExtendedRevoke || len(a.Extensions) > 0) {
			return errors.New("says never issued without saying that it may, or with extensions beside it")
		}
		if _, found := find(a.Extensions, OIDCRLReason); found {
			return errors.New("carries the reason in an extension")
		}
		if a.Reason == pki.RemoveFromCRL {
			return errors.New("gives a reason that only delta CRLs know")
		}
	}
	return nil
}

func checkSigned(r *Response, want Expected) error {
	if want.SkipVerify {
		return nil
	}
	if err := checkSignature(r.Algorithm, r.Signed, r.Signature, want.Responder.PublicKey, false); err != nil {
		return fmt.Errorf("signature %w", err)
	}
	return nil
}
