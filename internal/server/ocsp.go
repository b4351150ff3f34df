package server

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strconv"
	"time"

	"signet.example/signet/ca"
	"signet.example/signet/ca/inventory"
	"signet.example/signet/ca/keys"
	"signet.example/signet/ca/keys/softkey"
	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/auth"
	"signet.example/signet/ocsp/ocspserver"
	"signet.example/signet/pki"
)

// responderKey is the name of this instance's responder key in the key store.
const responderKey = "ocsp-responder"

// openOCSP makes the responder, with a key of its own that the issuers certify.
func (s *Server) openOCSP(ctx context.Context) error {
	if s.options.Role == RolePublic { // it starts without any key, so without a place to store its own
		if err := os.MkdirAll(s.config.State().Keys(), 0o700); err != nil {
			return pki.Errorf(pki.KindFailedPrecondition, "make key directory", "%w", err)
		}
	}
	keyStore, err := softkey.New(softkey.Config{Dir: s.config.State().Keys(), Passphrase: s.options.Passphrase})
	if err != nil {
		return err
	}
	s.responderKeys = s.guard(keyStore)
	responders := responderKeys{store: s.responderKeys, files: keyStore, retired: s.noteRetired}
	key, err := responders.open(ctx, keys.ECDSAP256)
	if err != nil {
		return err
	}
	config := ocspserver.DelegationConfig{Key: key, KeyFor: responders.keyFor, Lost: s.lostKeys, Retire: responders.retire,
		Store: s.store, Issuers: s.onlineIssuers, Now: s.options.Now}
	if s.authority != nil {
		config.Certifier = certifier{s.authority}
	}
	if s.delegation, err = ocspserver.NewDelegation(config); err != nil {
		return err
	}
	if s.responder, err = ocspserver.New(ocspserver.Config{Universe: s.universe, Delegates: s.delegation,
		Now: s.options.Now, Earliest: s.earliest, Report: s.report("OCSP responder")}); err != nil {
		return err
	}
	if err := s.loadIssuers(ctx); err != nil {
		return err
	}
	for _, label := range slices.Sorted(maps.Keys(s.config.OCSP.Issuers)) {
		if !slices.ContainsFunc(*s.issuers.known.Load(), func(issuer ca.Issuer) bool { return issuer.Label == label }) {
			s.log.Warn("ocsp.issuers of the configuration names an issuer that is not there",
				"issuer", label, "next", "signet issuer list shows the labels; one that is made later is found")
		}
	}
	switch err := s.delegation.Round(ctx); {
	case ctx.Err() != nil: // it is to end, and nothing is wrong
		return err
	case err != nil:
		s.report("OCSP delegation")(err) // the other issuers may still certify; Run tries again
	}
	return nil
}

// lostKeys returns those of hashes that are blocked or that have a revoked, unexpired certificate: revoking a
// responder's certificate means that its key is compromised. The database also knows certificates of earlier processes.
func (s *Server) lostKeys(ctx context.Context, hashes []pki.KeyHash) ([]pki.KeyHash, error) {
	lost, err := s.store.BlockedKeys(ctx, hashes)
	if err != nil {
		return nil, err
	}
	for _, hash := range hashes {
		revoked, err := s.store.CountCertificates(ctx, inventory.Filter{KeyHash: hash, Status: inventory.StatusRevoked, ExpiresFrom: s.options.Now()})
		if err != nil {
			return lost, err
		}
		if revoked.N > 0 {
			lost = append(lost, hash)
		}
	}
	return lost, nil
}

// responderKeys are the keys of this instance's responder: one for each algorithm that an issuer requires.
type responderKeys struct {
	store keys.Store     // bounds and counts the use of files
	files *softkey.Store // holds the keys

	// retired is called for each key that was put away, with its new name.
	retired func(ctx context.Context, key pki.KeyHash, name string)
}

// keyFor returns the key that answers for an issuer. For an ML-DSA issuer it has the same parameter set: otherwise an
// attacker who breaks ECDSA could sign "good" in its name. For all others it is ECDSA P-256, which every client
// verifies and which signs fastest.
func (r responderKeys) keyFor(ctx context.Context, issuer *x509.Certificate) (crypto.Signer, error) {
	switch algorithm := keys.AlgorithmOf(issuer.PublicKey); algorithm {
	case keys.MLDSA44, keys.MLDSA65, keys.MLDSA87:
		return r.open(ctx, algorithm)
	}
	return r.open(ctx, keys.ECDSAP256)
}

// open opens the key of an algorithm, or creates it.
func (r responderKeys) open(ctx context.Context, algorithm keys.Algorithm) (crypto.Signer, error) {
	name := responderKeyName(algorithm)
	key, err := r.store.Open(ctx, r.store.URI(name))
	if pki.KindOf(err) == pki.KindNotFound && err != nil {
		key, err = r.store.Create(ctx, name, algorithm)
	}
	if err != nil {
		return nil, err
	}
	return key.For(keys.ForOCSP), nil
}

// retire puts a key of the responder away under an unused name, unless that was already done.
func (r responderKeys) retire(ctx context.Context, key crypto.Signer) error {
	hash, err := pki.HashPublicKey(key.Public())
	if err != nil {
		return err
	}
	name := responderKeyName(keys.AlgorithmOf(key.Public()))
	present, err := r.store.Open(ctx, r.store.URI(name))
	if err != nil && pki.KindOf(err) == pki.KindNotFound {
		return nil
	}
	if err != nil {
		return err
	}
	if presentHash, err := pki.HashPublicKey(present.Public()); err != nil || presentHash != hash {
		return err
	}
	// If the key came back from a backup, a copy with that name exists.
	away := name + "-retired-" + hash.String()[:16]
	err = r.files.Rename(name, away)
	for n, first := 2, away; errors.Is(err, fs.ErrExist); n++ {
		away = first + "-" + strconv.Itoa(n)
		err = r.files.Rename(name, away)
	}
	if err == nil {
		r.retired(ctx, hash, away)
	}
	return err
}

// noteRetired records in the log and in the audit log that a responder key was replaced because it may be compromised.
func (s *Server) noteRetired(ctx context.Context, key pki.KeyHash, name string) {
	s.log.Warn("the key of this OCSP responder is blocked, or a certificate of it revoked: another is made", "key", key.String(), "kept_as", name,
		"next", "find out who else has it: until the certificates of that key expire, it can sign answers in the name of their issuers")
	event := audit.Event{At: s.options.Now(), Actor: auth.System("server").ID, Action: "responder.retire", Target: "key/" + key.String(), Outcome: audit.OK,
		Detail: map[string]string{"kept_as": name}}
	if err := s.store.AppendAudit(ctx, []audit.Event{event}); err != nil {
		s.troubles.once("audit", err) // the key has been put away nevertheless
	}
}

// responderKeyName returns the name of the responder's key for an algorithm.
func responderKeyName(algorithm keys.Algorithm) string {
	if algorithm == keys.ECDSAP256 {
		return responderKey
	}
	return responderKey + "-" + algorithm.String()
}

// onlineIssuers returns the certificates of the issuers that this site can answer for.
func (s *Server) onlineIssuers() []*x509.Certificate {
	var all []*x509.Certificate
	for _, issuer := range *s.issuers.known.Load() {
		if certificate, err := chosenCertificate(issuer); err == nil && certificate != nil && s.hasOCSP(issuer) {
			all = append(all, certificate)
		}
	}
	return all
}

// hasOCSP reports whether this site can answer for an issuer with a certificate. An off-line issuer has no OCSP, and no
// AIA promises it. Once the chosen certificate has expired, it cannot certify a responder, and no client would accept
// one (RFC 6960, Section 4.2.2.2).
func (s *Server) hasOCSP(issuer ca.Issuer) bool {
	return issuer.KeyURI != "" && !issuer.ChosenEnded(s.options.Now())
}

// certifier has the ca sign certificates of responders, by the same pipeline as any other certificate.
type certifier struct{ authority *ca.Authority }

// CertifyResponder implements ocspserver.Certifier.
func (c certifier) CertifyResponder(ctx context.Context, issuer pki.IssuerID, csr []byte) ([]byte, error) {
	grant, err := auth.System("ocsp-delegation").Authorize(auth.ActionIssue, responderKey)
	if err != nil {
		return nil, err
	}
	issued, err := c.authority.Issue(ctx, grant, ca.Request{Profile: responderKey, Issuer: issuer, CSR: csr})
	if err != nil {
		return nil, err
	}
	return issued.DER, nil
}

// Lacks implements ocspserver.Certifier.
func (c certifier) Lacks(ctx context.Context, issuer pki.IssuerID) bool {
	_, err := c.authority.ReadySigner(ctx, issuer)
	return errors.Is(err, ca.ErrKeyElsewhere)
}

// delegates returns the state of each issuer's responder. If this instance issues but lacks the key of a retired
// issuer, its responder is meant to expire: the key may be gone for good.
func (s *Server) delegates() []ocspserver.DelegateStatus {
	all := s.delegation.Status()
	for i := range all {
		if s.authority != nil && s.isRetired(all[i].Issuer) && (certifier{s.authority}).Lacks(context.Background(), all[i].Issuer) {
			all[i].Last, all[i].Alarm = true, false
		}
	}
	return all
}

func (s *Server) isRetired(id pki.IssuerID) bool {
	return slices.ContainsFunc(*s.issuers.known.Load(), func(i ca.Issuer) bool { return i.ID == id && i.State == ca.IssuerRetired })
}

// responderAlarm says what is wrong with a responder's certificate, "" for nothing, and whether there is none.
func responderAlarm(delegate ocspserver.DelegateStatus) (why string, none bool) {
	switch {
	case !delegate.Alarm:
		return "", false
	case delegate.NotAfter.IsZero():
		return "no issuing instance has certified this responder: is one running?", true
	}
	return "the responder's certificate ends at " + delegate.NotAfter.UTC().Format(time.RFC3339) + " and was not renewed", false
}

// checkResponders reports the state of each issuer's responder. missing is the state of one that was never certified.
func (s *Server) checkResponders(add func(name, state, detail string), missing string) {
	for _, delegate := range s.delegates() {
		name := "ocsp/" + delegate.Issuer.String()
		switch why, none := responderAlarm(delegate); {
		// This instance does not know whether another has its key.
		case none && s.authority == nil && s.isRetired(delegate.Issuer):
			add(name, "warning", why)
		case none:
			add(name, missing, why)
		case why != "":
			add(name, "warning", why)
		case delegate.NotAfter.IsZero():
			add(name, "ok", "its issuer is retired and the key is not at this instance: there is no responder's certificate")
		default:
			add(name, "ok", "responder's certificate until "+delegate.NotAfter.UTC().Format(time.RFC3339))
		}
	}
}
