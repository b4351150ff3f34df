package rpc

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/genproto/googleapis/api/httpbody"

	"signet.example/signet/api/signetv1"
	"signet.example/signet/ca"
	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
)

// issuerService implements signetv1.IssuerServiceServer. Issuers and their lists are public: every credential may read
// them.
type issuerService struct {
	signetv1.UnimplementedIssuerServiceServer
	api *API
}

// ListIssuers returns every issuer.
func (s *issuerService) ListIssuers(ctx context.Context, _ *signetv1.ListIssuersRequest) (*signetv1.ListIssuersResponse, error) {
	if _, err := caller(ctx).AuthorizeOwn(auth.ActionRead); err != nil {
		return nil, err
	}
	issuers, err := s.api.config.Issuers.Issuers(ctx)
	if err != nil {
		return nil, err
	}
	list := make([]*signetv1.Issuer, len(issuers))
	for i, issuer := range issuers {
		if list[i], err = issuerTo(issuer); err != nil {
			return nil, err
		}
	}
	return signetv1.ListIssuersResponse_builder{Issuers: list}.Build(), nil
}

// GetIssuer returns one issuer.
func (s *issuerService) GetIssuer(ctx context.Context, m *signetv1.GetIssuerRequest) (*signetv1.GetIssuerResponse, error) {
	issuer, err := s.issuer(ctx, "get issuer", m.GetIssuer())
	if err != nil {
		return nil, err
	}
	message, err := issuerTo(issuer)
	if err != nil {
		return nil, err
	}
	return signetv1.GetIssuerResponse_builder{Issuer: message}.Build(), nil
}

// GetCrl returns what is published.
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
	id, err := issuerIDFrom(op, text)
	if err != nil {
		return ca.Issuer{}, err
	}
	if _, err := caller(ctx).AuthorizeOwn(auth.ActionRead); err != nil {
		return ca.Issuer{}, err
	}
	issuers, err := s.api.config.Issuers.Issuers(ctx)
	if err != nil {
		return ca.Issuer{}, err
	}
	for _, issuer := range issuers {
		if issuer.ID == id {
			return issuer, nil
		}
	}
	return ca.Issuer{}, pki.Errorf(pki.KindNotFound, op, "no issuer %s", id).InField("issuer").WithHint("list issuers to see their ids")
}

// shardFrom reads "{epoch}-{block}" as it stands in URLs.
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

func issuerTo(issuer ca.Issuer) (*signetv1.Issuer, error) {
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
			b.Subject = new(parsed.Subject.String())
			b.NotBefore, b.NotAfter = timestamp(parsed.NotBefore), timestamp(parsed.NotAfter)
			b.Pem = new(pemTo(certificate.DER, certificate.Chain))
			b.Fingerprint = new(hex.EncodeToString(fingerprint[:]))
		}
	}
	return b.Build(), nil
}

// keyType names a key as people do.
func keyType(key any) string {
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		return "ECDSA " + k.Curve.Params().Name
	case *rsa.PublicKey:
		return "RSA " + strconv.Itoa(k.N.BitLen())
	case ed25519.PublicKey:
		return "Ed25519"
	}
	return strings.TrimPrefix(fmt.Sprintf("%T", key), "*")
}

// algorithmOf is what crypto/x509 calls the algorithm of a key.
func algorithmOf(key any) x509.PublicKeyAlgorithm {
	switch key.(type) {
	case *ecdsa.PublicKey:
		return x509.ECDSA
	case *rsa.PublicKey:
		return x509.RSA
	case ed25519.PublicKey:
		return x509.Ed25519
	}
	return x509.UnknownPublicKeyAlgorithm
}

func serialTo(certificate *x509.Certificate) string {
	serial, err := pki.SerialFromBig(certificate.SerialNumber)
	if err != nil {
		return certificate.SerialNumber.Text(16)
	}
	return serial.String()
}
