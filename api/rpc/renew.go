package rpc

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"signet.example/signet/api/signetv1"
	"signet.example/signet/ca"
	"signet.example/signet/ca/inventory"
	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
)

// How often the certificates of one account with the same names can be renewed: ten at once, for machines that share
// names, and then one a minute. This bounds what a thief of a key can add to the inventory.
const (
	renewalRate  = 1.0 / 60
	renewalBurst = 10
)

// RenewCertificate renews the certificate that the caller proves to hold.
func (s *certificateService) RenewCertificate(ctx context.Context, m *signetv1.RenewCertificateRequest) (*signetv1.RenewCertificateResponse, error) {
	const op = "renew certificate"
	nobody := caller(ctx)
	old, csr, err := s.proven(ctx, m)
	if err != nil {
		return nil, s.api.unproven(nobody.Source, err)
	}
	if !s.api.renewals.allow(sameNames(old)) {
		return nil, pki.Errorf(pki.KindExhausted, op, "certificates with these names are renewed too often").
			WithHint("try again in a minute")
	}
	p := auth.Renewal(old.Issuer.String()+"/"+old.Serial.String(), old.Account, old.Profile)
	p.Source, p.RequestID = nobody.Source, nobody.RequestID
	grant, err := p.Authorize(auth.ActionIssue, old.Profile)
	if err != nil {
		return nil, err
	}
	request, err := s.api.config.Authority.Renewal(ctx, grant, old, csr, m.GetRequestId())
	if err != nil {
		return nil, audited{err}
	}
	answer, err := s.api.config.Requests.Issue(ctx, grant, request)
	if err != nil {
		return nil, audited{err}
	}
	if answer.Issued == nil {
		return signetv1.RenewCertificateResponse_builder{Pending: requestTo(answer.Filed)}.Build(), nil
	}
	issued, err := s.api.issued(ctx, answer.Issued)
	if err != nil {
		return nil, err
	}
	return signetv1.RenewCertificateResponse_builder{Certificate: issued.GetCertificate(), Pem: new(issued.GetPem()), Repeated: new(issued.GetRepeated())}.Build(), nil
}

// sameNames returns the key by which renewals are counted.
func sameNames(c inventory.Certificate) string {
	names := append(identifiersTo(c.DER), c.Subject)
	slices.Sort(names)
	digest := sha256.Sum256([]byte(strings.Join(names, "\x00")))
	return c.Account + "/" + hex.EncodeToString(digest[:])
}

// proofsWaiting is how many proofs from one address may be verified or wait for it at once.
const proofsWaiting = 32

// proven returns the recorded certificate, in force, whose private key the caller has proved to hold. The error is of
// KindUnauthenticated, unless a CSR cannot be read, there are too many proofs at once, or the fault is ours.
func (s *certificateService) proven(ctx context.Context, m *signetv1.RenewCertificateRequest) (inventory.Certificate, []byte, error) {
	// Strangers can call this as often as they like, and verifying signatures is expensive.
	leave, err := s.api.proofs.take(ctx, networkOf(caller(ctx).Source))
	if err != nil {
		return inventory.Certificate{}, nil, err
	}
	defer leave()
	leaf, err := claimed(ctx, m) // before anything else: a caller without proof learns nothing
	if err != nil {
		return inventory.Certificate{}, nil, err
	}
	csr, err := csrFrom("renew certificate", m)
	if err != nil {
		return inventory.Certificate{}, nil, err
	}
	issuer, signed := signer(s.api.config.Authority.Issuers(), leaf)
	if !signed { // before its key is used, which may be of any size
		return inventory.Certificate{}, nil, unproven("the certificate is not from an issuer of this server")
	}
	if m.HasProof() {
		renewal := pki.Renewal{CSR: csr, RequestID: m.GetRequestId(), At: m.GetProof().GetSignedAt().AsTime()}
		if err := renewal.Verify(leaf, m.GetProof().GetSignature(), s.api.config.Now()); err != nil {
			return inventory.Certificate{}, nil, unproven("%w", err)
		}
	}
	old, err := s.inForce(ctx, issuer, leaf)
	return old, csr, err
}

// claimed returns the certificate that a proof, or TLS, names.
func claimed(ctx context.Context, m *signetv1.RenewCertificateRequest) (*x509.Certificate, error) {
	if !m.HasProof() {
		return presented(ctx)
	}
	der := m.GetProof().GetCertificateDer()
	if len(der) > maxCertificate {
		return nil, unproven("the certificate has %d octets: at most %d", len(der), maxCertificate)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, unproven("the certificate does not parse: %w", err)
	}
	return leaf, nil
}

func unproven(format string, args ...any) *pki.Error {
	return pki.Errorf(pki.KindUnauthenticated, "renew certificate", format, args...).
		WithHint("prove the renewal by the certificate itself while it is in force, or issue a new one with a credential")
}

// presented returns the TLS client certificate. TLS has proved that the client has its key.
func presented(ctx context.Context) (*x509.Certificate, error) {
	from, ok := peer.FromContext(ctx)
	if !ok {
		return nil, unproven("no proof")
	}
	info, ok := from.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.PeerCertificates) == 0 {
		return nil, unproven("no proof: neither a TLS client certificate nor a signature")
	}
	leaf := info.State.PeerCertificates[0]
	if !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageClientAuth) {
		return nil, unproven("the certificate is not for TLS clients").WithHint("prove the renewal by a signature with its key")
	}
	return leaf, nil
}

// inForce returns the record of a certificate if it is exactly the one issued, valid now and not revoked.
func (s *certificateService) inForce(ctx context.Context, issuer ca.Issuer, leaf *x509.Certificate) (inventory.Certificate, error) {
	serial, err := pki.SerialFromBig(leaf.SerialNumber)
	if err != nil {
		return inventory.Certificate{}, unproven("the serial number is not one of this server")
	}
	if now := s.api.config.Now(); now.Before(leaf.NotBefore) || now.After(leaf.NotAfter) {
		return inventory.Certificate{}, unproven("the certificate is not valid now")
	}
	answer, err := s.api.config.Universe.Lookup(ctx, issuer.ID, serial)
	if err != nil {
		return inventory.Certificate{}, err
	}
	switch {
	case answer.Issuance == revocation.Issued && answer.Status == pki.StatusGood:
	case answer.Status != pki.StatusRevoked:
		return inventory.Certificate{}, unproven("the status of the certificate is %s", answer.Status)
	case answer.Reason == pki.CertificateHold:
		return inventory.Certificate{}, unproven("%w", &pki.Revoked{Reason: answer.Reason, Err: errors.New("the certificate is on hold")}).
			WithHint("have it released first (`signet release`), or issue a new one with a credential")
	default: // permanent: the field tells the caller not to ask again
		since := fmt.Errorf("it is revoked (%s) since %s", answer.Reason, answer.RevokedAt.UTC().Format(time.RFC3339))
		return inventory.Certificate{}, unproven("%w", &pki.Revoked{Reason: answer.Reason, Err: since}).InField("certificate").
			WithHint("issue a new one with a credential")
	}
	grant, err := auth.System("renewal").Authorize(auth.ActionRead, "")
	if err != nil {
		return inventory.Certificate{}, err
	}
	recorded, err := s.api.config.Authority.Get(ctx, grant, issuer.ID, serial)
	if err != nil && pki.KindOf(err) != pki.KindNotFound {
		return inventory.Certificate{}, err
	}
	if err != nil || !bytes.Equal(recorded.DER, leaf.Raw) {
		return inventory.Certificate{}, unproven("the certificate is not what was issued")
	}
	return recorded.Certificate, nil
}
