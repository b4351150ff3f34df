package rpc

import (
	"context"
	"crypto/x509"
	"time"

	"signet.example/signet/api/signetv1"
	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
)

// RevokeCertificate revokes a certificate for good.
func (s *certificateService) RevokeCertificate(ctx context.Context, m *signetv1.RevokeCertificateRequest) (*signetv1.RevokeCertificateResponse, error) {
	const op = "revoke certificate"
	request, err := s.revocationFrom(op, m)
	if err != nil {
		return nil, err
	}
	shown := false
	if m.HasCertificate() { // an expired certificate needs no entry, which would stay on lists for ever
		certificate, err := certificateFrom(op, m)
		shown = err == nil && s.api.config.Now().Before(certificate.NotAfter)
	}
	receipt, published, err := s.change(ctx, op, m.GetWaitFor(), request, func(ctx context.Context, grant auth.Grant, request revocation.Request) (revocation.Receipt, error) {
		return s.revoke(ctx, grant, request, shown)
	})
	if err != nil {
		return nil, err
	}
	status, facts := entryTo(receipt.Entry)
	issuer, err := s.api.config.Authority.Issuer(request.Issuer)
	return signetv1.RevokeCertificateResponse_builder{
		Issuer:      new(request.Issuer.String()),
		Serial:      new(request.Serial.String()),
		Status:      &status,
		Revocation:  facts,
		Repeated:    &receipt.Repeated,
		PublishedAt: timestamp(published),
		// An off-line issuer signs elsewhere.
		IssuedElsewhere: new(err == nil && issuer.KeyURI != "" && receipt.Entry.Foreign),
	}.Build(), nil
}

// revoke revokes a certificate. For key compromise it also changes the reason of one already revoked for another. shown
// says that the caller has the certificate, that the issuer's key signed it, and that it has not expired.
func (s *certificateService) revoke(ctx context.Context, grant auth.Grant, request revocation.Request, shown bool) (revocation.Receipt, error) {
	receipt, err := s.api.config.Ledger.Revoke(ctx, grant, request)
	if err != nil && pki.KindOf(err) == pki.KindConflict && request.Reason == pki.KeyCompromise {
		return s.api.config.Ledger.ChangeReason(ctx, grant, request)
	}
	if err != nil && pki.KindOf(err) == pki.KindNotFound {
		return s.revokeUnknown(ctx, request, shown, err)
	}
	return receipt, err
}

// revokeUnknown lets an administrator revoke a certificate that is in no inventory: one of an off-line issuer, or one
// that an issuer's key signed elsewhere (before the issuer was adopted, or by a thief), if the certificate itself is
// shown. For any other serial it returns cause.
func (s *certificateService) revokeUnknown(ctx context.Context, request revocation.Request, shown bool, cause error) (revocation.Receipt, error) {
	issuer, err := s.api.config.Authority.Issuer(request.Issuer)
	if err != nil || issuer.KeyURI != "" && !shown {
		return revocation.Receipt{}, cause
	}
	manage, err := caller(ctx).Authorize(auth.ActionManage, "")
	if err != nil {
		return revocation.Receipt{}, cause
	}
	if issuer.KeyURI != "" {
		s.api.config.Log.Warn("a certificate that was never issued here, and that the issuer's key signed, is being revoked",
			"issuer", issuer.Label, "serial", request.Serial.String(), "next", "unless it was made before the key came here: the key is in other hands")
	}
	return s.api.config.Ledger.Import(ctx, manage, request)
}

// HoldCertificate puts a certificate on hold.
func (s *certificateService) HoldCertificate(ctx context.Context, m *signetv1.HoldCertificateRequest) (*signetv1.HoldCertificateResponse, error) {
	const op = "hold certificate"
	key, err := keyFrom(op, m)
	if err != nil {
		return nil, err
	}
	receipt, published, err := s.change(ctx, op, m.GetWaitFor(), revocation.Request{Key: key}, s.api.config.Ledger.Hold)
	if err != nil {
		return nil, err
	}
	status, facts := entryTo(receipt.Entry)
	return signetv1.HoldCertificateResponse_builder{
		Issuer:      new(key.Issuer.String()),
		Serial:      new(key.Serial.String()),
		Status:      &status,
		Revocation:  facts,
		Repeated:    &receipt.Repeated,
		PublishedAt: timestamp(published),
	}.Build(), nil
}

// ReleaseCertificate releases a certificate from hold.
func (s *certificateService) ReleaseCertificate(ctx context.Context, m *signetv1.ReleaseCertificateRequest) (*signetv1.ReleaseCertificateResponse, error) {
	const op = "release certificate"
	key, err := keyFrom(op, m)
	if err != nil {
		return nil, err
	}
	receipt, published, err := s.change(ctx, op, m.GetWaitFor(), revocation.Request{Key: key}, s.api.config.Ledger.Release)
	if err != nil {
		return nil, err
	}
	status, _ := entryTo(receipt.Entry)
	return signetv1.ReleaseCertificateResponse_builder{
		Issuer:      new(key.Issuer.String()),
		Serial:      new(key.Serial.String()),
		Status:      &status,
		Sequence:    &receipt.Entry.Seq,
		Repeated:    &receipt.Repeated,
		PublishedAt: timestamp(published),
	}.Build(), nil
}

// change obtains the grant, changes a status, and waits for publication if requested.
func (s *certificateService) change(ctx context.Context, op string, wait signetv1.WaitFor, request revocation.Request,
	verb func(context.Context, auth.Grant, revocation.Request) (revocation.Receipt, error)) (revocation.Receipt, time.Time, error) {
	published, err := s.api.waits(op, wait)
	if err != nil {
		return revocation.Receipt{}, time.Time{}, err
	}
	grant, err := caller(ctx).AuthorizeOwn(auth.ActionRevoke)
	if err != nil {
		return revocation.Receipt{}, time.Time{}, err
	}
	receipt, err := verb(ctx, grant, request)
	if err != nil || !published {
		return receipt, time.Time{}, err
	}
	return receipt, s.api.published(ctx, []pki.IssuerID{receipt.Entry.Issuer}, receipt.Entry.Seq), nil
}

// waits reports whether a call waits for publication.
func (a *API) waits(op string, wait signetv1.WaitFor) (bool, error) {
	published, err := waitFrom(op, wait)
	if err == nil && published && a.config.Publication == nil {
		return false, pki.Errorf(pki.KindFailedPrecondition, op, "this server does not follow publication").InField("wait_for")
	}
	return published, err
}

// published waits until a change is published, of some issuers or (nil) of all. It returns the zero time if that takes
// too long: the change is durable, and the caller must be told while it still listens.
func (a *API) published(ctx context.Context, issuers []pki.IssuerID, seq uint64) time.Time {
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline.Add(-time.Second))
		defer cancel()
	}
	at, err := a.config.Publication.AwaitPublished(ctx, issuers, seq)
	if err != nil {
		a.config.Log.Warn("a change was not published everywhere while its caller waited", "sequence", seq, "error", err)
		return time.Time{}
	}
	return at
}

// revocationFrom returns the certificate to be revoked, the reason, and since when.
func (s *certificateService) revocationFrom(op string, m *signetv1.RevokeCertificateRequest) (revocation.Request, error) {
	var request revocation.Request
	var err error
	if request.Key, err = s.named(op, m); err != nil {
		return request, err
	}
	if request.Reason, err = reasonFrom(op, m.GetReason()); err != nil {
		return request, err
	}
	if request.Reason == pki.CertificateHold {
		return request, invalid(op, "reason", "a hold is not a revocation").WithHint("put the certificate on hold instead")
	}
	if request.InvalidityAt, err = timeFrom(op, "invalidity_at", m.GetInvalidityAt()); err != nil {
		return request, err
	}
	if request.InvalidityAt.After(s.api.config.Now()) {
		return request, invalid(op, "invalidity_at", "it is in the future")
	}
	return request, nil
}

// named returns the certificate that is meant, by issuer and serial or by the certificate itself.
func (s *certificateService) named(op string, m *signetv1.RevokeCertificateRequest) (revocation.Key, error) {
	if !m.HasCertificate() {
		if m.GetIssuer() == "" && m.GetSerial() == "" {
			return revocation.Key{}, invalid(op, "certificate", "no certificate is named").
				WithHint("give issuer and serial, or certificate_pem, or certificate_der")
		}
		return keyFrom(op, m)
	}
	if m.GetIssuer() != "" || m.GetSerial() != "" {
		return revocation.Key{}, invalid(op, "issuer", "want either issuer and serial or the certificate")
	}
	certificate, err := certificateFrom(op, m)
	if err != nil {
		return revocation.Key{}, err
	}
	issuer, signed := signer(s.api.config.Authority.Issuers(), certificate)
	if !signed {
		return revocation.Key{}, pki.Errorf(pki.KindNotFound, op, "the certificate is not from an issuer of this server").InField("certificate").
			WithHint("signet issuer list shows the issuers of this server; ask the one that issued it")
	}
	return keyOf(op, issuer.ID, certificate)
}

func keyOf(op string, issuer pki.IssuerID, certificate *x509.Certificate) (revocation.Key, error) {
	serial, err := pki.SerialFromBig(certificate.SerialNumber)
	if err != nil {
		return revocation.Key{}, invalid(op, "certificate", "%w", err)
	}
	return revocation.Key{Issuer: issuer, Serial: serial}, nil
}

func keyFrom(op string, m interface {
	GetIssuer() string
	GetSerial() string
}) (key revocation.Key, err error) {
	if key.Issuer, err = issuerIDFrom(op, "issuer", m.GetIssuer()); err != nil {
		return key, err
	}
	key.Serial, err = serialFrom(op, m.GetSerial())
	return key, err
}

// entryTo converts a ledger entry to the status after it.
func entryTo(e revocation.Entry) (signetv1.CertificateStatus, *signetv1.Revocation) {
	answer := revocation.Answer{Status: pki.StatusGood, EventSeq: e.Seq}
	if e.Kind.Revokes() {
		answer.Status, answer.Reason, answer.RevokedAt, answer.InvalidityAt = pki.StatusRevoked, e.Reason, e.RevokedAt, e.InvalidityAt
	}
	return statusTo(answer)
}
