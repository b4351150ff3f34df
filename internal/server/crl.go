package server

import (
	"context"
	"crypto/x509"

	"signet.example/signet/ca"
	"signet.example/signet/crl/crlserver"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
)

// openCRL makes the publisher and loads what was published.
func (s *Server) openCRL(ctx context.Context) (err error) {
	s.publisher, err = crlserver.New(crlserver.Config{
		Publications: s.store, Bases: s.store, Universe: s.universe, Issuers: s.publishedIssuers, Instance: s.instance,
		Interval: s.config.CRL.Interval, Validity: s.config.CRL.Lifetime, Directory: s.config.crlDirectory(), Log: s.log, Now: s.options.Now,
	})
	if err != nil {
		return err
	}
	return s.publisher.Load(ctx)
}

func (c *Config) crlDirectory() string {
	if c.CRL.Directory == "" {
		return ""
	}
	return c.Path(c.CRL.Directory)
}

// publishedIssuers are the issuers with a certificate, each with its key where this instance has it. A database that
// went back is not published from.
func (s *Server) publishedIssuers() []crlserver.Issuer {
	var all []crlserver.Issuer
	for _, issuer := range *s.issuers.known.Load() {
		certificate, err := chosenCertificate(issuer)
		if err != nil || certificate == nil {
			continue
		}
		all = append(all, s.published(issuer, certificate))
	}
	return all
}

func (s *Server) published(issuer ca.Issuer, certificate *x509.Certificate) crlserver.Issuer {
	p := crlserver.Issuer{
		Key: issuer.KeyHash, Subject: issuer.Subject, KeyID: certificate.SubjectKeyId, Public: certificate.PublicKey, BaseURL: issuer.BaseURL,
		Delta: issuer.Visibility == ca.Private, Offline: issuer.KeyURI == "",
	}
	if s.authority == nil || issuer.KeyURI == "" || s.fallenBack.Load() != nil {
		return p
	}
	_, signer, err := s.authority.IssuerSigner(context.Background(), issuer.ID)
	if err != nil {
		s.report("CRL signing key")(err)
		return p
	}
	p.Signer = signer
	return p
}

// CRL implements rpc.CRLs: what is published now.
func (s *Server) CRL(_ context.Context, scope revocation.Scope) ([]byte, error) {
	list := crlserver.List{Series: crlserver.Series{Issuer: scope.Issuer, Shard: scope.Shard, Sharded: scope.Sharded}, Kind: crlserver.KindComplete}
	if scope.Sharded {
		list.Kind = crlserver.KindShard
	}
	document, _, ok := s.publisher.Document(list)
	if !ok {
		return nil, pki.Errorf(pki.KindNotFound, "get CRL", "no list %s is published", list)
	}
	return document.Bytes(), nil
}
