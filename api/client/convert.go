package client

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"signet.example/signet/api/signetv1"
	"signet.example/signet/pki"
)

// Status is the status of a certificate on the ledger. Zero is unknown, never to be read as good.
type Status uint8

// The statuses.
const (
	StatusUnknown Status = iota
	StatusGood
	StatusRevoked
	StatusOnHold
)

var statusNames = [...]string{"unknown", "good", "revoked", "on-hold"}

// String is a lower-case word.
func (s Status) String() string {
	if int(s) < len(statusNames) {
		return statusNames[s]
	}
	return statusNames[StatusUnknown]
}

// Standing selects certificates by their present standing. Zero is any.
type Standing uint8

// The standings.
const (
	StandingAny Standing = iota
	StandingValid
	StandingRevoked // on hold included
	StandingExpired
)

var standingNames = [...]string{"any", "valid", "revoked", "expired"}

// String is a lower-case word.
func (s Standing) String() string {
	if int(s) < len(standingNames) {
		return standingNames[s]
	}
	return standingNames[StandingAny]
}

// ParseStanding reads "any", "valid", "revoked" or "expired".
func ParseStanding(text string) (Standing, error) {
	for s, name := range standingNames {
		if name == text {
			return Standing(s), nil
		}
	}
	return StandingAny, fmt.Errorf("standing %q: want any, valid, revoked or expired", text)
}

// Verdict is the result of CheckCertificate. Zero is no result, and only VerdictInForce means yes.
type Verdict uint8

// The verdicts.
const (
	VerdictNone Verdict = iota
	VerdictInForce
	VerdictRevoked
	VerdictOnHold
	VerdictExpired
	VerdictNotYetValid
	VerdictForged
	VerdictBadSignature
	VerdictUnknownIssuer
	VerdictCannotTell
)

var verdictNames = [...]string{"none", "in-force", "revoked", "on-hold", "expired", "not-yet-valid", "forged", "bad-signature", "unknown-issuer", "cannot-tell"}

// String is a lower-case word.
func (v Verdict) String() string {
	if int(v) < len(verdictNames) {
		return verdictNames[v]
	}
	return verdictNames[VerdictNone]
}

func optional(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

func issuerText(id pki.IssuerID) *string {
	if id.IsZero() {
		return nil
	}
	return new(id.String())
}

func serialText(s pki.Serial) *string {
	if s.IsZero() {
		return nil
	}
	return new(s.String())
}

func keyHashText(h pki.KeyHash) *string {
	if h == (pki.KeyHash{}) {
		return nil
	}
	return new(h.String())
}

func timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func waitFor(published bool) *signetv1.WaitFor {
	if published {
		return signetv1.WaitFor_WAIT_FOR_PUBLISHED.Enum()
	}
	return nil
}

// instant returns the zero time, not 1970, for an absent timestamp.
func instant(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

// statusFrom and verdict read a number that a newer server may have added as the zero value, which denies.
func statusFrom(s signetv1.CertificateStatus) Status {
	if s < 0 || int(s) >= len(statusNames) {
		return StatusUnknown
	}
	return Status(s)
}

func verdict(v signetv1.Verdict) Verdict {
	if v < 0 || int(v) >= len(verdictNames) {
		return VerdictNone
	}
	return Verdict(v)
}

func revocationFrom(m *signetv1.Revocation) *Revocation {
	if m == nil {
		return nil
	}
	return &Revocation{pki.Reason(m.GetReason()), instant(m.GetRevokedAt()), instant(m.GetInvalidityAt()), m.GetSequence()}
}

func certificateFrom(m *signetv1.Certificate) (Certificate, error) {
	c := Certificate{
		answer:      answer{m},
		Status:      statusFrom(m.GetStatus()),
		Revocation:  revocationFrom(m.GetRevocation()),
		Profile:     m.GetProfile(),
		Account:     m.GetAccount(),
		Subject:     m.GetSubject(),
		NotBefore:   instant(m.GetNotBefore()),
		NotAfter:    instant(m.GetNotAfter()),
		IssuedAt:    instant(m.GetIssuedAt()),
		Fingerprint: m.GetFingerprint(),
		DER:         m.GetDer(),
	}
	var err error
	if c.Issuer, c.Serial, err = names(m); err != nil {
		return Certificate{}, err
	}
	if c.KeyHash, err = pki.ParseKeyHash(m.GetKeyHash()); err != nil {
		return Certificate{}, unreadable(err)
	}
	for _, text := range m.GetIdentifiers() {
		id, err := pki.ParseIdentifier(text)
		if err != nil {
			return Certificate{}, unreadable(err)
		}
		c.Identifiers = append(c.Identifiers, id)
	}
	return c, nil
}

// names reads issuer and serial of an answer.
func names(m interface {
	GetIssuer() string
	GetSerial() string
}) (pki.IssuerID, pki.Serial, error) {
	issuer, err := pki.ParseIssuerID(m.GetIssuer())
	if err != nil {
		return pki.IssuerID{}, pki.Serial{}, unreadable(err)
	}
	serial, err := pki.ParseSerial(m.GetSerial())
	if err != nil {
		return pki.IssuerID{}, pki.Serial{}, unreadable(err)
	}
	return issuer, serial, nil
}

func unreadable(err error) error {
	return pki.Errorf(pki.KindInternal, "read the server's answer", "%w", err)
}

// changed is what the answers to revoke, hold and release share.
type changed interface {
	proto.Message
	GetIssuer() string
	GetSerial() string
	GetStatus() signetv1.CertificateStatus
	GetRepeated() bool
	GetPublishedAt() *timestamppb.Timestamp
}

func changeFrom(m changed, revocation *signetv1.Revocation, sequence uint64) (*Change, error) {
	issuer, serial, err := names(m)
	if err != nil {
		return nil, err
	}
	return &Change{answer: answer{m}, Issuer: issuer, Serial: serial, Status: statusFrom(m.GetStatus()), Revocation: revocationFrom(revocation), Sequence: sequence,
		Repeated: m.GetRepeated(), PublishedAt: instant(m.GetPublishedAt())}, nil
}

func checkFrom(m *signetv1.CheckCertificateResponse) (*Check, error) {
	c := &Check{
		answer:     answer{m},
		Verdict:    verdict(m.GetVerdict()),
		Summary:    m.GetSummary(),
		Serial:     m.GetSerial(),
		Status:     statusFrom(m.GetStatus()),
		Revocation: revocationFrom(m.GetRevocation()),
		Sequence:   m.GetSequence(),
		At:         instant(m.GetAt()),
	}
	var err error
	if c.Issuer, err = given(m.GetIssuer(), pki.ParseIssuerID); err != nil {
		return nil, err
	}
	for _, l := range m.GetChain() {
		issuer, err := given(l.GetIssuer(), pki.ParseIssuerID)
		if err != nil {
			return nil, err
		}
		c.Chain = append(c.Chain, Link{l.GetSubject(), issuer, instant(l.GetNotAfter()), l.GetFingerprint()})
	}
	for _, e := range m.GetEvidence() {
		c.Evidence = append(c.Evidence, Evidence{e.GetSource(), e.GetStatement(), e.GetFavourable()})
	}
	return c, nil
}

// given reads a text of an answer that may be absent, as the zero value.
func given[T any](text string, parse func(string) (T, error)) (value T, err error) {
	if text == "" {
		return value, nil
	}
	if value, err = parse(text); err != nil {
		return value, unreadable(err)
	}
	return value, nil
}
