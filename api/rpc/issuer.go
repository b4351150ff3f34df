package rpc

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/genproto/googleapis/api/httpbody"

	"google.golang.org/protobuf/types/known/durationpb"

	"signet.example/signet/api/signetv1"
	"signet.example/signet/ca"
	"signet.example/signet/ca/keys"
	"signet.example/signet/ca/profile"
	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
)

// issuerService implements signetv1.IssuerServiceServer. Issuers and their lists are public: every credential that may
// read anything may read them.
type issuerService struct {
	signetv1.UnimplementedIssuerServiceServer
	api *API
}

// ListIssuers returns one page of issuers.
func (s *issuerService) ListIssuers(ctx context.Context, m *signetv1.ListIssuersRequest) (*signetv1.ListIssuersResponse, error) {
	if _, err := caller(ctx).AuthorizeOwn(auth.ActionRead); err != nil {
		return nil, err
	}
	issuers, next, err := pageOf("list issuers", s.api.config.Authority.Issuers(), func(i ca.Issuer) string { return i.ID.String() }, m)
	if err != nil {
		return nil, err
	}
	list := make([]*signetv1.Issuer, len(issuers))
	for i, issuer := range issuers {
		if list[i], err = s.show(ctx, issuer); err != nil {
			return nil, err
		}
	}
	return signetv1.ListIssuersResponse_builder{Issuers: list, NextPageToken: next}.Build(), nil
}

// GetIssuer returns one issuer.
func (s *issuerService) GetIssuer(ctx context.Context, m *signetv1.GetIssuerRequest) (*signetv1.GetIssuerResponse, error) {
	issuer, err := s.issuer(ctx, "get issuer", m.GetIssuer())
	if err != nil {
		return nil, err
	}
	message, err := s.show(ctx, issuer)
	if err != nil {
		return nil, err
	}
	return signetv1.GetIssuerResponse_builder{Issuer: message}.Build(), nil
}

// CreateIssuer creates an issuer.
func (s *issuerService) CreateIssuer(ctx context.Context, m *signetv1.CreateIssuerRequest) (*signetv1.CreateIssuerResponse, error) {
	grant, err := caller(ctx).Authorize(auth.ActionManage, "")
	if err != nil {
		return nil, err
	}
	request, err := newIssuerFrom("create issuer", m)
	if err != nil {
		return nil, err
	}
	issuer, err := s.api.config.Authority.CreateIssuer(ctx, grant, request)
	if err != nil {
		return nil, err
	}
	message, err := s.show(ctx, issuer)
	if err != nil {
		return nil, err
	}
	return signetv1.CreateIssuerResponse_builder{Issuer: message}.Build(), nil
}

// ImportIssuerCertificate imports a certificate that was signed elsewhere.
func (s *issuerService) ImportIssuerCertificate(ctx context.Context, m *signetv1.ImportIssuerCertificateRequest) (*signetv1.ImportIssuerCertificateResponse, error) {
	grant, err := caller(ctx).Authorize(auth.ActionManage, "")
	if err != nil {
		return nil, err
	}
	chain, err := chainFrom("import issuer certificate", m.GetPem())
	if err != nil {
		return nil, err
	}
	issuer, err := s.api.config.Authority.ImportIssuerCertificate(ctx, grant, ca.IssuerImport{DER: chain[0], Chain: chain[1:], Wider: m.GetAllowWider()})
	if err != nil {
		return nil, err
	}
	message, err := s.show(ctx, issuer)
	if err != nil {
		return nil, err
	}
	return signetv1.ImportIssuerCertificateResponse_builder{Issuer: message}.Build(), nil
}

// CrossSignIssuer makes one issuer certify another.
func (s *issuerService) CrossSignIssuer(ctx context.Context, m *signetv1.CrossSignIssuerRequest) (*signetv1.CrossSignIssuerResponse, error) {
	const op = "cross-sign issuer"
	grant, err := caller(ctx).Authorize(auth.ActionManage, "")
	if err != nil {
		return nil, err
	}
	subject, err := issuerIDFrom(op, "issuer", m.GetIssuer())
	if err != nil {
		return nil, err
	}
	parent, err := issuerIDFrom(op, "parent", m.GetParent())
	if err != nil {
		return nil, err
	}
	lifetime, err := lifetimeFrom(op, m.GetLifetime())
	if err != nil {
		return nil, err
	}
	issuer, err := s.api.config.Authority.CrossSign(ctx, grant, subject, parent, lifetime)
	if err != nil {
		return nil, err
	}
	message, err := s.show(ctx, issuer)
	if err != nil {
		return nil, err
	}
	return signetv1.CrossSignIssuerResponse_builder{Issuer: message}.Build(), nil
}

// SetIssuerState changes whether an issuer issues.
func (s *issuerService) SetIssuerState(ctx context.Context, m *signetv1.SetIssuerStateRequest) (*signetv1.SetIssuerStateResponse, error) {
	const op = "change issuer"
	grant, err := caller(ctx).Authorize(auth.ActionManage, "")
	if err != nil {
		return nil, err
	}
	id, err := issuerIDFrom(op, "issuer", m.GetIssuer())
	if err != nil {
		return nil, err
	}
	state, err := issuerStateFrom(op, m.GetState())
	if err != nil {
		return nil, err
	}
	issuer, err := s.api.config.Authority.SetIssuerState(ctx, grant, id, state)
	if err != nil {
		return nil, err
	}
	message, err := s.show(ctx, issuer)
	if err != nil {
		return nil, err
	}
	return signetv1.SetIssuerStateResponse_builder{Issuer: message}.Build(), nil
}

// GetCrl returns a published list.
func (s *issuerService) GetCrl(ctx context.Context, m *signetv1.GetCrlRequest) (*httpbody.HttpBody, error) {
	const op = "get CRL"
	if s.api.config.CRLs == nil {
		return nil, pki.Errorf(pki.KindFailedPrecondition, op, "this server publishes no CRLs")
	}
	issuer, err := s.issuer(ctx, op, m.GetIssuer())
	if err != nil {
		return nil, err
	}
	scope := revocation.Whole(issuer.ID)
	if text := m.GetShard(); text != "" {
		shard, err := shardFrom(op, text)
		if err != nil {
			return nil, err
		}
		scope = revocation.OfShard(issuer.ID, shard)
	}
	der, err := s.api.config.CRLs.CRL(ctx, scope)
	if err != nil {
		return nil, err
	}
	return &httpbody.HttpBody{ContentType: "application/pkix-crl", Data: der}, nil
}

func (s *issuerService) issuer(ctx context.Context, op, text string) (ca.Issuer, error) {
	id, err := issuerIDFrom(op, "issuer", text)
	if err != nil {
		return ca.Issuer{}, err
	}
	if _, err := caller(ctx).AuthorizeOwn(auth.ActionRead); err != nil {
		return ca.Issuer{}, err
	}
	return s.api.config.Authority.Issuer(id)
}

// shardFrom converts "{epoch}-{block}", as in URLs.
func shardFrom(op, text string) (pki.Shard, error) {
	first, second, _ := strings.Cut(text, "-")
	epoch, err := pki.ParseEpoch(first)
	block, blockErr := strconv.ParseUint(second, 10, 32)
	shard := pki.Shard{Epoch: epoch, Block: uint32(block)}
	if err != nil || blockErr != nil || shard.String() != text {
		return pki.Shard{}, invalid(op, "shard", "want {epoch}-{block}, two decimal numbers, as in the URL of the list")
	}
	return shard, nil
}

func newIssuerFrom(op string, m *signetv1.CreateIssuerRequest) (ca.NewIssuer, error) {
	n := ca.NewIssuer{Label: m.GetLabel(), Subject: subjectFrom(m.GetSubject()), BaseURL: m.GetBaseUrl(), Offline: m.GetOffline(),
		Permitted: constraintsFrom(m.GetPermitted()), Excluded: constraintsFrom(m.GetExcluded())}
	var err error
	if text := m.GetAlgorithm(); text != "" {
		if n.Algorithm, err = keys.ParseAlgorithm(text); err != nil {
			return n, pki.Errorf(pki.KindOf(err), op, "%w", err).InField("algorithm") // ML-DSA is not in every build
		}
	}
	switch m.GetVisibility() {
	case signetv1.Visibility_VISIBILITY_UNSPECIFIED, signetv1.Visibility_VISIBILITY_PRIVATE:
		n.Visibility = ca.Private
	case signetv1.Visibility_VISIBILITY_PUBLIC:
		n.Visibility = ca.Public
	default:
		return n, invalid(op, "visibility", "%d is no visibility", int32(m.GetVisibility()))
	}
	if n.Lifetime, err = lifetimeFrom(op, m.GetLifetime()); err != nil {
		return n, err
	}
	if text := m.GetParent(); text != "" {
		if n.Parent, err = issuerIDFrom(op, "parent", text); err != nil {
			return n, err
		}
	}
	if text := m.GetSucceeds(); text != "" {
		if n.Succeeds, err = issuerIDFrom(op, "succeeds", text); err != nil {
			return n, err
		}
	}
	if m.HasPathLength() {
		if m.GetPathLength() > 100 {
			return n, invalid(op, "path_length", "%d: at most 100", m.GetPathLength())
		}
		n.PathLength = new(int(m.GetPathLength()))
	}
	return n, nil
}

func constraintsFrom(m *signetv1.NameConstraints) profile.SubtreesConfig {
	return profile.SubtreesConfig{DNS: m.GetDns(), IP: m.GetIp(), Email: m.GetEmail(), URI: m.GetUri()}
}

func issuerStateFrom(op string, s signetv1.IssuerState) (ca.IssuerState, error) {
	switch s {
	case signetv1.IssuerState_ISSUER_STATE_ACTIVE:
		return ca.IssuerActive, nil
	case signetv1.IssuerState_ISSUER_STATE_DISABLED:
		return ca.IssuerDisabled, nil
	case signetv1.IssuerState_ISSUER_STATE_RETIRED:
		return ca.IssuerRetired, nil
	}
	return 0, invalid(op, "state", "%d: want ISSUER_STATE_ACTIVE, ISSUER_STATE_DISABLED or ISSUER_STATE_RETIRED", int32(s))
}

// chainFrom returns the certificates in PEM text, at most ten.
func chainFrom(op, text string) (chain [][]byte, err error) {
	if len(text) > 20*maxCertificate {
		return nil, invalid(op, "pem", "%d octets: at most %d", len(text), 20*maxCertificate)
	}
	if chain = pki.CertificatesInPEM([]byte(text)); len(chain) == 0 || len(chain) > 10 {
		return nil, invalid(op, "pem", "%d certificates: want the certificate and those above it, at most ten", len(chain))
	}
	return chain, nil
}

// show is issuerTo for the present state of an issuer.
func (s *issuerService) show(ctx context.Context, issuer ca.Issuer) (*signetv1.Issuer, error) {
	return issuerTo(issuer, s.api.config.Authority.Standing(ctx, issuer.ID))
}

func issuerTo(issuer ca.Issuer, standing error) (*signetv1.Issuer, error) {
	key, err := x509.ParsePKIXPublicKey(issuer.SPKI)
	if err != nil {
		return nil, pki.Errorf(pki.KindInternal, "read issuer key", "%w", err)
	}
	visibility := signetv1.Visibility_VISIBILITY_PRIVATE
	if issuer.Visibility == ca.Public {
		visibility = signetv1.Visibility_VISIBILITY_PUBLIC
	}
	b := signetv1.Issuer_builder{
		Issuer:     new(issuer.ID.String()),
		Label:      &issuer.Label,
		State:      new(issuerStates[issuer.State]),
		KeyHash:    new(issuer.KeyHash.String()),
		KeyType:    new(keyType(key)),
		Online:     new(issuer.KeyURI != ""),
		Visibility: &visibility,
		BaseUrl:    &issuer.BaseURL,
		Foreign:    &issuer.Foreign,
		Root:       new(false),
	}
	if issuer.Retention.Keep > 0 {
		b.Retention, b.RetainedSince = durationpb.New(issuer.Retention.Keep), timestamp(issuer.Retention.Since)
	}
	if !issuer.Succeeds.IsZero() {
		b.Succeeds = new(issuer.Succeeds.String())
	}
	if e, ok := errors.AsType[*pki.Error](standing); ok && ca.Fallen(standing) {
		b.UnusableReason = new(e.Err.Error())
	} else if standing != nil {
		b.UnusableReason = new("it cannot be determined now: " + standing.Error())
	}
	if len(issuer.CSR) > 0 {
		b.CsrPem = new(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: issuer.CSR})))
	}
	var name pkix.RDNSequence
	if _, err := asn1.Unmarshal(issuer.Subject, &name); err == nil {
		b.Subject = new(name.String())
	}
	for i, certificate := range issuer.Certificates {
		parsed, err := x509.ParseCertificate(certificate.DER)
		if err != nil {
			return nil, pki.Errorf(pki.KindInternal, "read issuer certificate", "%w", err)
		}
		b.Certificates = append(b.Certificates, certificate.DER)
		if len(certificate.Chain) == 0 {
			b.Root = new(true)
		}
		if i == 0 {
			fingerprint := sha256.Sum256(certificate.DER)
			b.Subject = new(pki.NameText(parsed.RawSubject))
			b.NotBefore, b.NotAfter = timestamp(parsed.NotBefore), timestamp(parsed.NotAfter)
			b.Pem = new(pemTo(certificate.DER, certificate.Chain))
			b.Fingerprint = new(hex.EncodeToString(fingerprint[:]))
		}
	}
	return b.Build(), nil
}

// keyType returns the common name of a kind of key.
func keyType(key any) string {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		return "ECDSA " + k.Curve.Params().Name
	case *rsa.PublicKey:
		return "RSA " + strconv.Itoa(k.N.BitLen())
	case ed25519.PublicKey:
		return "Ed25519"
	}
	if set, _ := pki.MLDSAOf(key); set != pki.NoMLDSA {
		return set.String()
	}
	return strings.TrimPrefix(fmt.Sprintf("%T", key), "*")
}

func serialTo(certificate *x509.Certificate) string {
	serial, err := pki.SerialFromBig(certificate.SerialNumber)
	if err != nil {
		return certificate.SerialNumber.Text(16)
	}
	return serial.String()
}
