package rpc

import (
	"context"
	"crypto/x509"

	"signet.example/signet/api/signetv1"
	"signet.example/signet/ca"
	"signet.example/signet/revocation"
)

// AuthorityVerdict is what a check says whose only question left is the status of an authority.
func AuthorityVerdict(ctx context.Context, universe *revocation.Universe, above ca.Issuer, authority *x509.Certificate) signetv1.Verdict {
	c := &check{api: &API{config: Config{Universe: universe}}, issuers: []ca.Issuer{above}}
	c.authority(ctx, authority)
	c.decide(signetv1.Verdict_VERDICT_IN_FORCE, "authentic and in force")
	return c.verdict
}

// The border between protobuf and domain, for its tests.
var (
	CertificateTo    = certificateTo
	CredentialTo     = credentialTo
	AuditEventTo     = auditEventTo
	IssuerTo         = issuerTo
	AuditPage        = auditPage
	StatusTo         = statusTo
	RoleTo           = roleTo
	IssueRequestFrom = issueRequestFrom
	FilterFrom       = filterFrom
	SpecFrom         = specFrom
	ReasonFrom       = reasonFrom
	RoleFrom         = roleFrom
	StandingFrom     = standingFrom
	WaitFrom         = waitFrom
	IssuerStates     = issuerStates
	IdentifiersTo    = identifiersTo
	PEMTo            = pemTo
	StatusError      = statusError
	NetworkOf        = networkOf
)

// Turns is the pool in which strangers have their proofs verified.
type Turns = turns

// NewTurns makes one.
var NewTurns = newTurns

// Take waits for a place.
func (t *Turns) Take(ctx context.Context, source string) (func(), error) { return t.take(ctx, source) }
