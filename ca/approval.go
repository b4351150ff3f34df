package ca

import (
	"context"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"time"

	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
)

// ApprovalID names a request that was filed for approval (package ca/approval). Zero names none.
type ApprovalID [16]byte

// String returns lower-case hexadecimal, 32 digits.
func (id ApprovalID) String() string { return hex.EncodeToString(id[:]) }

// IsZero reports whether it names no request.
func (id ApprovalID) IsZero() bool { return id == ApprovalID{} }

// ParseApprovalID reads 32 hexadecimal digits.
func ParseApprovalID(text string) (ApprovalID, error) {
	octets, err := hex.DecodeString(text)
	if err != nil || len(octets) != len(ApprovalID{}) {
		return ApprovalID{}, fmt.Errorf("request %.64q: want 32 hexadecimal digits", text)
	}
	return ApprovalID(octets), nil
}

// Trial is what a request would become if it were issued now.
type Trial struct {
	Profile   string
	Issuer    pki.IssuerID
	Subject   string // RFC 4514
	Names     []pki.Identifier
	KeyHash   pki.KeyHash
	NotBefore time.Time
	NotAfter  time.Time

	// Extensions are those that the profile copies unchanged from the request. Without any, the field is omitted from
	// what is stored, so that an earlier version can read it.
	Extensions []pkix.Extension `json:",omitempty"`
}

// Check does everything to a request that Issue does before it takes an index: it encodes the certificate with a
// placeholder serial and lints it. It writes nothing but refusals, to the audit log. The grant is the same as for
// Issue.
func (a *Authority) Check(ctx context.Context, grant auth.Grant, request Request) (Trial, error) {
	trial, err := a.try(ctx, grant, request)
	if err != nil {
		return Trial{}, a.refused(ctx, grant.Principal(), request, err)
	}
	return trial, nil
}

func (a *Authority) try(ctx context.Context, grant auth.Grant, request Request) (Trial, error) {
	o, err := a.admitted(ctx, grant, request, pki.IssuerID{})
	if err != nil {
		return Trial{}, err
	}
	d, err := a.examine(ctx, o)
	if err != nil {
		return Trial{}, err
	}
	if err := a.lintTrial(o, d); err != nil {
		return Trial{}, err
	}
	return Trial{
		Profile: d.profile.Name, Issuer: d.issuer.ID, Subject: d.subject.text, Names: d.names, KeyHash: d.keyHash,
		NotBefore: d.notBefore, NotAfter: d.notAfter, Extensions: d.copied,
	}, nil
}

// lintTrial lints a draft as it would be encoded, with a placeholder serial.
func (a *Authority) lintTrial(o order, d *draft) error {
	rules, err := a.rulesOf(d.profile)
	if err != nil {
		return err
	}
	position := pki.Position{Epoch: d.epoch}
	_, err = d.lint(rules, o.self, pki.NewSerial(pki.RangeKey{}, d.issuer.KeyHash, position), position, d.issuer.BaseURL)
	return err
}

// admitted returns the order for a request that its caller may make, whether or not it needs an approval.
func (a *Authority) admitted(ctx context.Context, grant auth.Grant, request Request, filed pki.IssuerID) (order, error) {
	if err := checkRequest(request); err != nil {
		return order{}, err
	}
	p, err := a.admit(grant, request.Profile)
	if err != nil {
		return order{}, err
	}
	return a.order(ctx, grant, p, request, filed)
}

// Approved is a request that was approved.
type Approved struct {
	ID      ApprovalID
	Request Request
	Issuer  pki.IssuerID // the issuer it would have had when it was filed, from its Trial
	Known   string       // text of the last failure, which is in the audit log; the same failure is not logged again
}

// IssueApproved issues a certificate for an approved request, once: recording consumes the approval in the same
// transaction, and fails with KindConflict if it was consumed or does not exist. The grant is the requester's. The
// present profile, policy and blocked keys apply. The request id was used when the request was filed.
func (a *Authority) IssueApproved(ctx context.Context, grant auth.Grant, approved Approved) (*Issued, error) {
	if approved.ID.IsZero() {
		return nil, pki.Errorf(pki.KindDenied, "issue certificate", "no approval").InField("request")
	}
	request := approved.Request
	request.RequestID = ""
	o, err := a.admitted(ctx, grant, request, approved.Issuer)
	if err == nil {
		o.approval = approved.ID
		var issued *Issued
		if issued, err = a.issue(ctx, o); err == nil {
			return issued, nil
		}
	}
	if err.Error() == approved.Known {
		return nil, err
	}
	return nil, a.refused(ctx, grant.Principal(), request, err)
}

// NeedsApproval reports whether a profile now requires an approval; KindNotFound if there is no such profile.
func (a *Authority) NeedsApproval(name string) (bool, error) {
	p, err := a.config.Profiles.Get(name)
	if err != nil {
		return false, err
	}
	return p.Approval, nil
}

// Answered returns the earlier answer to a request with the same request id, or nil if there is none. The grant is the
// same as for Issue.
func (a *Authority) Answered(ctx context.Context, grant auth.Grant, request Request) (*Answered, error) {
	err := checkRequest(request)
	if err == nil {
		_, err = a.admit(grant, request.Profile)
	}
	if err != nil {
		return nil, a.refused(ctx, grant.Principal(), request, err)
	}
	if request.RequestID == "" {
		return nil, nil
	}
	answered, err := a.config.Certificates.FindRequest(ctx, grant.Principal().Account, request.RequestID)
	switch {
	case err == nil && answered.Digest != request.Digest():
		return nil, a.refused(ctx, grant.Principal(), request, requestIDUsed(request.RequestID))
	case err == nil:
		return &answered, nil
	case pki.KindOf(err) == pki.KindNotFound:
		return nil, nil
	}
	return nil, err
}
