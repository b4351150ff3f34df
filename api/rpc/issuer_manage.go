package rpc

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"

	"signet.example/signet/api/signetv1"
	"signet.example/signet/ca"
	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
)

// AdoptIssuer adopts an existing CA.
func (s *issuerService) AdoptIssuer(ctx context.Context, m *signetv1.AdoptIssuerRequest) (*signetv1.AdoptIssuerResponse, error) {
	const op = "adopt issuer"
	grant, err := caller(ctx).Authorize(auth.ActionManage, "")
	if err != nil {
		return nil, err
	}
	chain, err := chainFrom(op, m.GetPem())
	if err != nil {
		return nil, err
	}
	adoption := ca.Adoption{Label: m.GetLabel(), KeyURI: m.GetKeyUri(), BaseURL: m.GetBaseUrl(), DER: chain[0], Chain: chain[1:]}
	online, list := m.GetKeyUri() != "", len(m.GetCrl()) > 0
	var issuer ca.Issuer
	switch {
	case list && (!online || m.GetNoCrl()):
		return nil, invalid(op, "crl", "the last list is of a CA whose key comes here and that signed one; those of an off-line one are imported")
	case list && s.api.config.Adoptions == nil:
		return nil, pki.Errorf(pki.KindFailedPrecondition, op, "this server publishes no CRLs")
	case list:
		issuer, err = s.api.config.Adoptions.AdoptIssuer(ctx, grant, adoption, m.GetCrl())
	case online && !m.GetNoCrl():
		// Without it, the first list made here would reinstate everything that was revoked, under number 1.
		return nil, pki.Errorf(pki.KindInvalid, op, "the last list that it signed is missing").InField("crl").
			WithHint("give it: signet issuer adopt --crl FILE; only for a CA that never signed one: --no-crl")
	default:
		issuer, err = s.api.config.Authority.AdoptIssuer(ctx, grant, adoption)
	}
	if err != nil {
		return nil, err
	}
	message, err := s.show(ctx, issuer)
	if err != nil {
		return nil, err
	}
	return signetv1.AdoptIssuerResponse_builder{Issuer: message}.Build(), nil
}

// RenewIssuer makes a new certificate for an issuer's name and key.
func (s *issuerService) RenewIssuer(ctx context.Context, m *signetv1.RenewIssuerRequest) (*signetv1.RenewIssuerResponse, error) {
	const op = "renew issuer"
	grant, id, err := s.manage(ctx, op, m.GetIssuer())
	if err != nil {
		return nil, err
	}
	lifetime, err := lifetimeFrom(op, m.GetLifetime())
	if err != nil {
		return nil, err
	}
	issuer, err := s.api.config.Authority.RenewIssuer(ctx, grant, id, lifetime)
	if err != nil {
		return nil, err
	}
	message, err := s.show(ctx, issuer)
	if err != nil {
		return nil, err
	}
	return signetv1.RenewIssuerResponse_builder{Issuer: message}.Build(), nil
}

// ChooseIssuerCertificate chooses the certificate that is served first.
func (s *issuerService) ChooseIssuerCertificate(ctx context.Context, m *signetv1.ChooseIssuerCertificateRequest) (*signetv1.ChooseIssuerCertificateResponse, error) {
	const op = "choose issuer certificate"
	grant, id, err := s.manage(ctx, op, m.GetIssuer())
	if err != nil {
		return nil, err
	}
	fingerprint, err := hex.DecodeString(m.GetFingerprint())
	if err != nil || len(fingerprint) != sha256.Size {
		return nil, invalid(op, "fingerprint", "want a SHA-256, 64 hexadecimal digits")
	}
	issuer, err := s.api.config.Authority.ChooseIssuerCertificate(ctx, grant, id, [sha256.Size]byte(fingerprint))
	if err != nil {
		return nil, err
	}
	message, err := s.show(ctx, issuer)
	if err != nil {
		return nil, err
	}
	return signetv1.ChooseIssuerCertificateResponse_builder{Issuer: message}.Build(), nil
}

// UpdateIssuer changes where an issuer's products are served, or which issuer it succeeds.
func (s *issuerService) UpdateIssuer(ctx context.Context, m *signetv1.UpdateIssuerRequest) (*signetv1.UpdateIssuerResponse, error) {
	const op = "update issuer"
	grant, id, err := s.manage(ctx, op, m.GetIssuer())
	if err != nil {
		return nil, err
	}
	var change ca.IssuerChange
	if m.HasBaseUrl() {
		change.BaseURL = new(m.GetBaseUrl())
	}
	if m.HasSucceeds() {
		change.Succeeds = new(pki.IssuerID)
		if text := m.GetSucceeds(); text != "" {
			if *change.Succeeds, err = issuerIDFrom(op, "succeeds", text); err != nil {
				return nil, err
			}
		}
	}
	issuer, err := s.api.config.Authority.UpdateIssuer(ctx, grant, id, change)
	if err != nil {
		return nil, err
	}
	message, err := s.show(ctx, issuer)
	if err != nil {
		return nil, err
	}
	return signetv1.UpdateIssuerResponse_builder{Issuer: message}.Build(), nil
}

// DeleteIssuer deletes an issuer that waits for its first certificate.
func (s *issuerService) DeleteIssuer(ctx context.Context, m *signetv1.DeleteIssuerRequest) (*signetv1.DeleteIssuerResponse, error) {
	grant, id, err := s.manage(ctx, "delete issuer", m.GetIssuer())
	if err != nil {
		return nil, err
	}
	issuer, err := s.api.config.Authority.DeleteIssuer(ctx, grant, id)
	if err != nil {
		return nil, err
	}
	return signetv1.DeleteIssuerResponse_builder{KeyUri: &issuer.KeyURI}.Build(), nil
}

// GetIssuerBundle returns the chains and roots of a date.
func (s *issuerService) GetIssuerBundle(ctx context.Context, m *signetv1.GetIssuerBundleRequest) (*signetv1.GetIssuerBundleResponse, error) {
	const op = "get bundle"
	issuer, err := s.issuer(ctx, op, m.GetIssuer())
	if err != nil {
		return nil, err
	}
	at := s.api.config.Now()
	if m.HasAt() {
		if err := m.GetAt().CheckValid(); err != nil {
			return nil, invalid(op, "at", "%w", err)
		}
		at = m.GetAt().AsTime()
	}
	pool, err := s.api.config.Authority.CertificatesInForce(ctx)
	if err != nil {
		return nil, err
	}
	return bundleTo(ca.BundleAt(ca.Paths(issuer, pool), at)), nil
}

// ImportCrl publishes the list of an off-line issuer.
func (s *issuerService) ImportCrl(ctx context.Context, m *signetv1.ImportCrlRequest) (*signetv1.ImportCrlResponse, error) {
	const op = "import revocation list"
	grant, id, err := s.manage(ctx, op, m.GetIssuer())
	if err != nil {
		return nil, err
	}
	if s.api.config.CRLs == nil {
		return nil, pki.Errorf(pki.KindFailedPrecondition, op, "this server publishes no CRLs")
	}
	if len(m.GetCrl()) == 0 {
		return nil, invalid(op, "crl", "there is none")
	}
	var expired []pki.Serial
	for _, text := range m.GetExpiredSerials() {
		serial, err := pki.ParseSerial(text)
		if err != nil {
			return nil, invalid(op, "expired_serials", "%w", err)
		}
		expired = append(expired, serial)
	}
	made, err := s.api.config.CRLs.ImportCRL(ctx, grant, id, m.GetCrl(), expired)
	if err != nil {
		return nil, err
	}
	return signetv1.ImportCrlResponse_builder{
		Number: &made.Number, ThisUpdate: timestamp(made.ThisUpdate), NextUpdate: timestamp(made.NextUpdate), Revoked: new(uint32(made.Revoked)),
		Fingerprint: new(hex.EncodeToString(made.Sum[:])), Url: &made.URL,
	}.Build(), nil
}

// manage returns the grant to change one issuer.
func (s *issuerService) manage(ctx context.Context, op, text string) (auth.Grant, pki.IssuerID, error) {
	grant, err := caller(ctx).Authorize(auth.ActionManage, "")
	if err != nil {
		return grant, pki.IssuerID{}, err
	}
	id, err := issuerIDFrom(op, "issuer", text)
	return grant, id, err
}

func bundleTo(b ca.Bundle) *signetv1.GetIssuerBundleResponse {
	out := signetv1.GetIssuerBundleResponse_builder{At: timestamp(b.At), ChainPem: new(string(ca.PEM(b.Chain))), RootsPem: new(string(ca.PEM(b.Roots)))}
	for _, p := range b.Paths {
		path := signetv1.IssuerPath_builder{NotBefore: timestamp(p.From), NotAfter: timestamp(p.Until), Valid: new(p.ValidAt(b.At))}
		for _, c := range p.Certificates {
			path.Certificates = append(path.Certificates, pathCertificateTo(c))
		}
		out.Paths = append(out.Paths, path.Build())
	}
	return out.Build()
}

func pathCertificateTo(c *x509.Certificate) *signetv1.PathCertificate {
	fingerprint := sha256.Sum256(c.Raw)
	return signetv1.PathCertificate_builder{
		Subject: new(pki.NameText(c.RawSubject)), Fingerprint: new(hex.EncodeToString(fingerprint[:])), NotBefore: timestamp(c.NotBefore), NotAfter: timestamp(c.NotAfter),
	}.Build()
}
