package ca

import (
	"context"
	"crypto/x509"
	"errors"
	"math"
	"slices"

	"signet.example/signet/ca/profile"
	"signet.example/signet/pki"
)

// link is a certificate that the validity of an issuer's signatures depends on.
type link struct {
	issuer pki.IssuerID // who signed it
	serial pki.Serial
	own    bool // of the issuer itself, not of an authority above it
	spare  bool // not in the chosen chain: only a compromise of its key counts
}

// linksOf returns the chosen certificate of an issuer and those above it, and then the issuer's others. It leaves out
// certificates whose serial number the ledger could not hold.
func linksOf(issuer Issuer) ([]link, error) {
	var links []link
	for i, own := range issuer.Certificates {
		chain, err := linksOfChain(append([][]byte{own.DER}, own.Chain...))
		if err != nil {
			return nil, err
		}
		for _, l := range chain {
			if l.spare = i > 0; l.own || !l.spare { // of a chain that is not shown only the issuer's own certificate matters
				links = append(links, l)
			}
		}
	}
	return links, nil
}

// linksOfChain returns the certificates of a chain that ends in a root, each with its signer.
func linksOfChain(ders [][]byte) ([]link, error) {
	chain, err := parseAll(ders)
	if err != nil {
		return nil, err
	}
	var links []link
	for i, c := range chain {
		if serial, err := pki.SerialFromBig(c.SerialNumber); err == nil {
			links = append(links, link{issuer: signerIn(chain, i), serial: serial, own: i == 0})
		}
	}
	return links, nil
}

// signerIn returns the signer of one certificate of a chain that ends in a root, which signed itself.
func signerIn(chain []*x509.Certificate, i int) pki.IssuerID {
	return pki.HashSPKI(chain[min(i+1, len(chain)-1)].RawSubjectPublicKeyInfo).Issuer()
}

func parseAll(ders [][]byte) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	for _, der := range ders {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
}

// judge refuses an issuer that must not sign now under a profile, and returns what the judgement rests on.
func (a *Authority) judge(ctx context.Context, k *issuerKey, p *profile.Profile) (Footing, error) {
	if err := k.usable(a.config.Now(), p); err != nil || forResponder(p) {
		return Footing{}, err
	}
	footing := Footing{Seq: math.MaxInt64, Key: k.KeyHash}
	if a.config.Status != nil {
		footing.Seq, footing.Serials = a.config.Status.Seq(), k.serials
	}
	return footing, a.standing(ctx, k.Issuer, k.ancestry.links)
}

// judgeAgain is judge after reading everything that is written by now.
func (a *Authority) judgeAgain(ctx context.Context, k *issuerKey, p *profile.Profile) (Footing, error) {
	if err := a.catchUp(ctx); err != nil {
		return Footing{}, err
	}
	issuer, err := a.issuers.find(k.ID)
	if err != nil {
		return Footing{}, err
	}
	if k, err = a.issuers.open(ctx, issuer); err != nil {
		return Footing{}, err
	}
	return a.judge(ctx, k, p)
}

func (a *Authority) catchUp(ctx context.Context) error {
	if a.config.Status != nil {
		if err := a.config.Status.CatchUp(ctx); err != nil {
			return err
		}
	}
	return a.refresh(ctx)
}

// StandingByNow is Standing after reading everything that any instance has written by now.
func (a *Authority) StandingByNow(ctx context.Context, id pki.IssuerID) error {
	if err := a.catchUp(ctx); err != nil {
		return err
	}
	return a.Standing(ctx, id)
}

// Standing returns nil if an issuer's signatures can be valid, as far as this instance knows: neither its chosen
// certificate nor one above it is revoked or on hold, and its key was not compromised. Otherwise it returns an error
// for which Fallen is true, and Issue refuses; CRLs and the certificates of OCSP responders go on. Any other error
// means that the answer is not known now.
func (a *Authority) Standing(ctx context.Context, id pki.IssuerID) error {
	issuer, ancestry, err := a.issuers.ancestry(id)
	if err != nil {
		return err
	}
	return a.standing(ctx, issuer, ancestry.links)
}

// Fallen reports whether an error of Standing says that the issuer's signatures cannot be valid. Any other error means
// that the answer is not known now.
func Fallen(err error) bool {
	e, ok := errors.AsType[*pki.Error](err)
	return ok && e.Kind == pki.KindFailedPrecondition && e.Field == "issuer"
}

// CertificatesInForce is the function CertificatesInForce for all issuers.
func (a *Authority) CertificatesInForce(ctx context.Context) ([]*x509.Certificate, error) {
	return CertificatesInForce(ctx, a.Issuers(), a.config.Status, func(_ context.Context, hashes []pki.KeyHash) ([]pki.KeyHash, error) {
		return slices.DeleteFunc(hashes, func(hash pki.KeyHash) bool { return !a.KeyBlocked(hash) }), nil
	})
}

// CertificatesInForce returns every certificate of the issuers, and those above them, except those that are revoked or
// on hold on the ledger and those whose key was reported as compromised. The keys count because the ledger does not
// have what another authority signed, and the thief of the key of such an authority could issue certificates with any
// serial number. blocked returns the subset of the keys that are blocked; status may be nil. An error means that the
// answer is not known now.
func CertificatesInForce(
	ctx context.Context, issuers []Issuer, status Statuses, blocked func(context.Context, []pki.KeyHash) ([]pki.KeyHash, error),
) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	var keys []pki.KeyHash
	for _, issuer := range issuers {
		for _, own := range issuer.Certificates {
			chain, err := parseAll(append([][]byte{own.DER}, own.Chain...))
			if err != nil {
				return nil, pki.Errorf(pki.KindInternal, "read issuer certificate", "issuer %s: %w", issuer.Label, err)
			}
			for i, c := range chain {
				in, err := inForce(ctx, status, signerIn(chain, i), c)
				if err != nil {
					return nil, err
				}
				if in {
					all, keys = append(all, c), append(keys, pki.HashSPKI(c.RawSubjectPublicKeyInfo))
				}
			}
		}
	}
	gone, err := blocked(ctx, keys)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(c *x509.Certificate) bool { return slices.Contains(gone, pki.HashSPKI(c.RawSubjectPublicKeyInfo)) }), nil
}

func inForce(ctx context.Context, status Statuses, signer pki.IssuerID, c *x509.Certificate) (bool, error) {
	serial, err := pki.SerialFromBig(c.SerialNumber)
	if err != nil || status == nil {
		return true, nil // another authority's, which no ledger of ours can hold
	}
	said, _, err := status.StatusOf(ctx, signer, serial)
	return said != pki.StatusRevoked, err
}

// KeyBlocked reports whether a key was reported as compromised, as far as this instance knows: a block at another
// instance is known at most two seconds later. The hash is that of the SubjectPublicKeyInfo or of the key material.
func (a *Authority) KeyBlocked(hash pki.KeyHash) bool {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.blocked[hash]
}

// ErrOnHold is wrapped by errors about a hold, which may be released: it may help to try later.
var ErrOnHold = errors.New("on hold")

// OnHold reports whether a certificate is on hold, as far as this instance knows. An error means that the answer is
// not known now.
func (a *Authority) OnHold(ctx context.Context, issuer pki.IssuerID, serial pki.Serial) (bool, error) {
	if a.config.Status == nil {
		return false, nil
	}
	status, reason, err := a.config.Status.StatusOf(ctx, issuer, serial)
	return status == pki.StatusRevoked && reason == pki.CertificateHold, err
}

// couldSign refuses an issuer that is not to be chosen: its certificate has ended, its signatures cannot be valid, or
// its chain does not allow what is requested. If its standing is not known now, that is no reason to choose another,
// whose standing may be unknown too.
func (a *Authority) couldSign(ctx context.Context, id pki.IssuerID, p *profile.Profile, names []pki.Identifier) error {
	issuer, ancestry, err := a.issuers.ancestry(id)
	if err != nil {
		return err
	}
	if issuer.ChosenEnded(a.config.Now()) {
		return ended(issuer.Label, issuer.certificate().NotAfter)
	}
	if err := a.standing(ctx, issuer, ancestry.links); Fallen(err) {
		return err
	}
	return ancestry.gives(issuer.Label, p, names, false)
}

func (a *Authority) standing(ctx context.Context, issuer Issuer, links []link) error {
	const op = "use issuer"
	if a.KeyBlocked(issuer.KeyHash) {
		return pki.Errorf(pki.KindFailedPrecondition, op, "the key of issuer %s is blocked: it was reported as compromised", issuer.Label).InField("issuer").
			WithHint("%s", replace(issuer))
	}
	if a.config.Status == nil {
		return nil
	}
	for _, l := range links {
		status, reason, err := a.config.Status.StatusOf(ctx, l.issuer, l.serial)
		if err != nil {
			return err
		}
		if status != pki.StatusRevoked || l.spare && reason != pki.KeyCompromise && reason != pki.CACompromise {
			continue
		}
		return revokedIssuer(issuer, l, reason)
	}
	return nil
}

// replace returns the hint about a key that must no longer be used.
func replace(issuer Issuer) string {
	if issuer.SelfSigned() {
		return "make another root and have clients trust it instead of this one: signet issuer rollover " + issuer.Label
	}
	return "replace it by an issuer with a new key and name: signet issuer rollover " + issuer.Label
}

func revokedIssuer(issuer Issuer, l link, reason pki.Reason) error {
	whose := "the certificate of issuer " + issuer.Label
	if !l.own {
		whose = "a certificate above issuer " + issuer.Label
	}
	const op = "use issuer"
	if reason == pki.CertificateHold {
		return pki.Errorf(pki.KindFailedPrecondition, op, "%s, serial %s, is %w", whose, l.serial, ErrOnHold).InField("issuer").
			WithHint("an administrator can release it: signet release %s/%s", l.issuer, l.serial)
	}
	e := pki.Errorf(pki.KindFailedPrecondition, op, "%s, serial %s, is revoked (%s)", whose, l.serial, reason).InField("issuer")
	switch {
	case l.own && (reason == pki.KeyCompromise || reason == pki.CACompromise):
		return e.WithHint("%s", replace(issuer))
	}
	return e.WithHint("choose a valid chain (signet issuer show %[1]s, signet issuer choose), "+
		"or have it certified again: signet issuer renew %[1]s", issuer.Label)
}
