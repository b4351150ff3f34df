package server

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"signet.example/signet/api/rpc"
	"signet.example/signet/ca"
	"signet.example/signet/crl"
	"signet.example/signet/crl/crlserver"
	"signet.example/signet/crl/mirror"
	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
)

// openCRL makes the publisher and loads the lists published so far.
func (s *Server) openCRL(ctx context.Context) (err error) {
	mirrors, err := s.crlMirrors()
	if err != nil {
		return err
	}
	s.publisher, err = crlserver.New(crlserver.Config{
		Publications: s.store, Bases: s.store, Imports: s.store, Universe: s.universe, Issuers: s.publishedIssuers, Instance: s.instance,
		Interval: s.config.CRL.Interval, Validity: s.config.CRL.Lifetime, Mirrors: mirrors, Log: s.log, Now: s.options.Now, Span: s.span,
	})
	if err != nil {
		return err
	}
	return s.publisher.Load(ctx)
}

// crlMirrors returns the places that lists are copied to. The credentials of a bucket come from the environment
// variables that every S3 client uses.
func (s *Server) crlMirrors() (mirrors []crlserver.Mirror, err error) {
	c := s.config.CRL
	if c.Directory != "" {
		mirrors = append(mirrors, mirror.NewDirectory(s.config.Path(c.Directory)))
	}
	if c.S3.Bucket != "" {
		bucket, err := mirror.NewS3(mirror.S3Config{Endpoint: c.S3.Endpoint, Region: c.S3.Region, Bucket: c.S3.Bucket, Prefix: c.S3.Prefix,
			AccessKey: os.Getenv("AWS_ACCESS_KEY_ID"), SecretKey: os.Getenv("AWS_SECRET_ACCESS_KEY"), Session: os.Getenv("AWS_SESSION_TOKEN")})
		if err != nil {
			return nil, err
		}
		mirrors = append(mirrors, bucket)
	}
	return mirrors, nil
}

// publishedIssuers returns the issuers with a certificate, each with its key if this instance has it. Nothing is
// published from a database that went back.
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
		Retention: issuer.Retention, Retired: issuer.State == ca.IssuerRetired, Ended: issuer.Ended(s.options.Now()),
	}
	p.Over = p.Ended
	if issuer.KeyURI == "" || s.authority == nil { // an instance without keys does not know where this one is
		return p
	}
	var err error
	p.Signer, err = s.authority.ReadySigner(context.Background(), issuer.ID)
	// Without its key, an issuer's lists are served as they are, and checkKeys warns. The key of a retired issuer may
	// be gone for good.
	p.Over = p.Over || p.Retired && errors.Is(err, ca.ErrKeyElsewhere)
	if err != nil || s.fallenBack.Load() != nil {
		p.Signer = nil
	}
	return p
}

// ImportCRL implements rpc.CRLs.
func (s *Server) ImportCRL(ctx context.Context, grant auth.Grant, issuer pki.IssuerID, der []byte, expired []pki.Serial) (rpc.ImportedCRL, error) {
	if why := s.fallenBack.Load(); why != nil {
		return rpc.ImportedCRL{}, pki.Errorf(pki.KindFailedPrecondition, "import revocation list", "%s", *why)
	}
	if err := s.loadIssuers(ctx); err != nil { // one may have just been adopted
		return rpc.ImportedCRL{}, err
	}
	if err := s.mergeRevoked(ctx, grant, issuer, der, expired); err != nil {
		return rpc.ImportedCRL{}, err
	}
	head, err := s.publisher.Import(ctx, grant, issuer, der, expired)
	if err != nil {
		return rpc.ImportedCRL{}, err
	}
	imported := rpc.ImportedCRL{Number: head.Number, ThisUpdate: head.ThisUpdate, NextUpdate: head.NextUpdate, Revoked: head.Entries, Sum: sha256.Sum256(der)}
	for _, known := range *s.issuers.known.Load() {
		if known.ID == issuer {
			imported.URL = crlserver.URL(known.BaseURL, head.List)
		}
	}
	return imported, nil
}

// mergeRevoked adds the revocations of a list to the ledger. Then everything that asks the ledger knows of a revoked
// CA, not only clients that fetch the list. It ignores a list that Import will refuse. If it fails, repeating the
// import continues.
func (s *Server) mergeRevoked(ctx context.Context, grant auth.Grant, issuer pki.IssuerID, der []byte, expired []pki.Serial) error {
	list, err := s.publisher.Examine(issuer, der, expired)
	if err != nil {
		return nil
	}
	var revoked []revocation.ListedRevocation
	for e := range list.Entries() {
		serial, err := pki.SerialFromBytes(e.Serial)
		if err != nil || e.Reason == pki.CertificateHold || e.Reason == pki.RemoveFromCRL {
			continue // the ledger cannot hold the serial, or the revocation is not permanent
		}
		request := revocation.Request{Key: revocation.Key{Issuer: issuer, Serial: serial}, Reason: e.Reason, InvalidityAt: e.InvalidityAt}
		revoked = append(revoked, revocation.ListedRevocation{Request: request, RevokedAt: e.RevokedAt})
	}
	last, err := s.ledger.MergeCRL(ctx, grant, revoked)
	if err != nil {
		return err
	}
	return s.publisher.AwaitSeq(ctx, last)
}

// AdoptIssuer implements rpc.Adoptions. The issuer starts once the ledger has everything that its last list has, and
// its lists continue from the number of that list. After a failure, repeating the adoption continues it.
func (s *Server) AdoptIssuer(ctx context.Context, grant auth.Grant, adoption ca.Adoption, last []byte) (ca.Issuer, error) {
	const op = "adopt issuer"
	if why := s.fallenBack.Load(); why != nil {
		return ca.Issuer{}, pki.Errorf(pki.KindFailedPrecondition, op, "%s", *why)
	}
	certificate, err := x509.ParseCertificate(adoption.DER)
	if err != nil {
		return ca.Issuer{}, pki.Errorf(pki.KindInvalid, op, "%w", err).InField("certificate")
	}
	published := crlserver.Issuer{Key: pki.HashSPKI(certificate.RawSubjectPublicKeyInfo), Subject: certificate.RawSubject, Public: certificate.PublicKey}
	list, err := s.publisher.ExamineLast(published, last)
	if err != nil {
		return ca.Issuer{}, err
	}
	said, err := listedBy(list, published.Key.Issuer())
	if err != nil {
		return ca.Issuer{}, err
	}
	issuer, err := s.authority.BeginAdoption(ctx, grant, adoption)
	if err != nil {
		return ca.Issuer{}, err
	}
	if _, err := s.ledger.AdoptCRL(ctx, grant, said); err != nil {
		return ca.Issuer{}, err
	}
	if err := s.publisher.TakeOver(ctx, grant, published, last, s.universe.Seq()); err != nil {
		return ca.Issuer{}, err
	}
	return s.authority.FinishAdoption(ctx, grant, issuer, adoption)
}

// listedBy returns the entries of a list that are about certificates of its issuer.
func listedBy(list *crl.List, issuer pki.IssuerID) (said []revocation.ListedRevocation, err error) {
	for e := range list.Entries() {
		serial, err := pki.SerialFromBytes(e.Serial)
		if err != nil || e.Reason == pki.RemoveFromCRL {
			return nil, pki.Errorf(pki.KindRefused, "adopt issuer",
				"the entry of serial number %x on its last list cannot be kept, and would be lost", e.Serial).InField("crl")
		}
		request := revocation.Request{Key: revocation.Key{Issuer: issuer, Serial: serial}, Reason: e.Reason, InvalidityAt: e.InvalidityAt}
		said = append(said, revocation.ListedRevocation{Request: request, RevokedAt: e.RevokedAt})
	}
	return said, nil
}

// OfflineStatus implements rpc.CRLs.
func (s *Server) OfflineStatus(issuer pki.IssuerID, serial pki.Serial) rpc.OfflineStatus {
	document, head, ok := s.publisher.Document(crlserver.List{Series: crlserver.Series{Issuer: issuer}, Kind: crlserver.KindComplete})
	if !ok {
		return rpc.OfflineStatus{}
	}
	list, err := crl.Read(document.Reader(), document.Size())
	if err != nil {
		return rpc.OfflineStatus{}
	}
	entry, listed := list.Lookup(serial.Integer(), list.Issuer)
	return rpc.OfflineStatus{Number: head.Number, NextUpdate: head.NextUpdate, Revoked: listed && entry.Reason != pki.RemoveFromCRL}
}

// CRL implements rpc.CRLs. It returns the list that is published now.
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

// listEnds says, for each issuer, how many lists are served and when the first of them expires. The last list of a week
// is meant to expire and does not count.
func (s *Server) listEnds(served []crlserver.ListStatus) string {
	type lists struct {
		count int
		first time.Time
	}
	issuers := make(map[pki.IssuerID]lists)
	for _, list := range served {
		if list.Ending {
			continue
		}
		l := issuers[list.Head.List.Issuer]
		if l.count++; l.first.IsZero() || list.Head.NextUpdate.Before(l.first) {
			l.first = list.Head.NextUpdate
		}
		issuers[list.Head.List.Issuer] = l
	}
	var ends []string
	for issuer, l := range issuers {
		ends = append(ends, fmt.Sprintf("%s: %d, until %s at least", s.labelOf(issuer), l.count, l.first.Format(time.RFC3339)))
	}
	slices.Sort(ends)
	return strings.Join(ends, "; ")
}

// OldURLs is the name of the Readiness check made by checkURLs.
const OldURLs = "old URLs"

// checkURLs says until when URLs must be served that no new certificate contains: relying parties use them until the
// last shard that names them has expired.
func (s *Server) checkURLs(add func(name, state, detail string), served []crlserver.ListStatus) {
	issuers := make(map[pki.IssuerID]ca.Issuer)
	for _, issuer := range *s.issuers.known.Load() {
		issuers[issuer.ID] = issuer
	}
	until := make(map[string]time.Time)
	for _, list := range served {
		h := list.Head
		issuer, known := issuers[h.List.Issuer]
		end := h.NextUpdate
		if !list.Ending { // a day after its week the last list is made
			end = time.Unix(h.List.Shard.Epoch.Start(), 0).Add(8*24*time.Hour + issuer.Retention.Keep + s.config.CRL.Lifetime).UTC()
		}
		for _, url := range h.URLs {
			base := strings.TrimSuffix(url, crlserver.URL("", h.List))
			if known && h.List.Sharded && base != issuer.BaseURL && end.After(until[base]) {
				until[base] = end
			}
		}
	}
	var old []string
	for base, end := range until {
		old = append(old, fmt.Sprintf("%s must be served until %s", base, end.Format(time.DateOnly)))
	}
	slices.Sort(old)
	add(OldURLs, "ok", strings.Join(old, "; "))
}
