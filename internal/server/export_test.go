package server

import (
	"context"
	"crypto/x509"
	"log/slog"
	"time"

	"signet.example/signet/ca"
	"signet.example/signet/crl/crlserver"
	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
)

// TestingOnlyCanWait is what a start goes on beside.
func TestingOnlyCanWait(err error) bool { return canWait(err) }

// TestingOnlyCompare compares every list that is served with the ledger now: the self-monitor takes one in ten seconds.
func (s *Server) TestingOnlyCompare(ctx context.Context) {
	for _, list := range s.publisher.Lists() {
		s.compareList(ctx, list.Head.List)
	}
}

// TestingOnlyTellFreshness has alarms looked at twice, as they are every ten seconds: what holds is in the log then,
// and what is over.
func (s *Server) TestingOnlyTellFreshness() {
	s.tellFreshness()
	s.tellFreshness()
}

// TestingOnlyLookAtAPICertificate is Look of the API's certificate, with the certificate that is served then and what
// /readyz says of it.
func (s *Server) TestingOnlyLookAtAPICertificate(ctx context.Context, tried time.Time) (_ time.Time, served *x509.Certificate, said string) {
	tried = s.certificate.Look(ctx, tried)
	s.certificate.Check(func(_, state, detail string) { said = state + ": " + detail })
	current, _ := s.certificate.Get(nil) // there always is one
	return tried, current.Leaf, said
}

// TestingOnlyRevoke revokes what an issuer signed, without the API.
func (s *Server) TestingOnlyRevoke(ctx context.Context, issuer pki.IssuerID, signed *x509.Certificate) error {
	grant, err := auth.System("test").Authorize(auth.ActionRevoke, "")
	if err != nil {
		return err
	}
	serial, err := pki.SerialFromBig(signed.SerialNumber)
	if err != nil {
		return err
	}
	_, err = s.ledger.Revoke(ctx, grant, revocation.Request{Key: revocation.Key{Issuer: issuer, Serial: serial}, Reason: pki.Superseded})
	return err
}

// TestingOnlyExpiry is whether the lists of an issuer are over at a time, where no keys are, and what /readyz says of
// its certificates.
func TestingOnlyExpiry(issuer ca.Issuer, now time.Time) (over bool, said string, err error) {
	s := &Server{options: Options{Now: func() time.Time { return now }}}
	certificate, err := chosenCertificate(issuer)
	if err != nil {
		return false, "", err
	}
	s.checkExpiry(func(_, state, detail string) { said = state + ": " + detail }, issuer)
	return s.published(issuer, certificate).Over, said, nil
}

// TestingOnlyAgreement is what comparisons came to.
type TestingOnlyAgreement struct{ agreement }

// Note is note.
func (a *TestingOnlyAgreement) Note(list crlserver.List, err error) { a.note(list, err) }

// Forget is forget.
func (a *TestingOnlyAgreement) Forget(served []crlserver.ListStatus) { a.forget(served) }

// Check is check, and count.
func (a *TestingOnlyAgreement) Check() (state, detail string, count uint64) {
	a.check(func(_, s, d string) { state, detail = s, d })
	return state, detail, a.count()
}

// TestingOnlyFirstEnd is firstEnd.
func TestingOnlyFirstEnd(lists []crlserver.ListStatus) (end float64, ok bool) { return firstEnd(lists) }

// TestingOnlyHinting is the log that a server writes.
func TestingOnlyHinting(handler slog.Handler) *slog.Logger { return slog.New(hinting{handler}) }
