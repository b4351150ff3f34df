package ca

import (
	"bytes"
	"context"
	"crypto/x509"

	"signet.example/signet/ca/inventory"
	"signet.example/signet/ca/policy"
	"signet.example/signet/ca/profile"
)

// checkPolicy asks every rule that does not need the final bytes.
func (a *Authority) checkPolicy(ctx context.Context, o order, d *draft) error {
	if err := d.check(o.self, a.config.WeakKeys); err != nil {
		return err
	}
	a.mu.RLock()
	blocked := a.blocked[d.keyHash] || a.blocked[d.material]
	a.mu.RUnlock()
	if blocked {
		return blockedKey()
	}
	return a.checkReuse(ctx, o, d)
}

// check asks the rules that need no memory of what was issued.
func (d *draft) check(self bool, weak policy.WeakKeys) error {
	if err := policy.CheckNames(d.profile, d.names); err != nil {
		return err
	}
	if err := policy.CheckCommonName(d.subject.common, d.names); err != nil && d.profile.CA == nil {
		return err
	}
	if err := policy.CheckConstraints(d.issuer.constraints, d.names); err != nil {
		return err
	}
	if d.profile.CA != nil {
		if err := policy.CheckSubtrees(d.issuer.constraints, d.profile.CA); err != nil {
			return err
		}
	}
	if err := policy.CheckKey(d.key, weak); err != nil {
		return err
	}
	return d.checkPath(self)
}

func blockedKey() error {
	return refuse("csr", "the key is blocked: it was reported as compromised").WithHint("make a new key")
}

// checkPath keeps a CA from certifying its own key as another's, and from making CAs that the path lengths of its chain
// forbid (RFC 5280, Section 4.2.1.9).
func (d *draft) checkPath(self bool) error {
	if self {
		return nil
	}
	if d.keyHash == d.issuer.KeyHash {
		return refuse("csr", "this is the key of the issuer itself")
	}
	return d.issuer.allowsBelow(d.profile.CA)
}

// allowsBelow refuses a CA that the path lengths of an issuer's chain forbid; nil is none.
func (k *issuerKey) allowsBelow(ca *profile.CA) error {
	switch {
	case ca == nil || k.below < 0:
		return nil
	case k.below == 0:
		return refuse("issuer", "issuer %s may not have CAs below it: its path length is 0", k.Label).WithHint("ask the authority above it")
	case ca.PathLength < 0 || ca.PathLength >= k.below:
		return refuse("profile", "below issuer %s the path length can be %d at most", k.Label, k.below-1).WithHint("ask for less, or the authority above it")
	}
	return nil
}

// casBelow is how many CAs, one under the other, the path lengths of a chain allow below its first certificate; -1: any
// number.
func casBelow(chain [][]byte) (int, error) {
	below, between := -1, 0
	for _, der := range chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return 0, err
		}
		if c.BasicConstraintsValid && c.MaxPathLen >= 0 && (c.MaxPathLen > 0 || c.MaxPathLenZero) {
			if left := max(c.MaxPathLen-between, 0); below < 0 || left < below {
				below = left
			}
		}
		if !bytes.Equal(c.RawSubject, c.RawIssuer) { // self-issued certificates do not count
			between++
		}
	}
	return below, nil
}

// checkReuse applies the profile's rule on keys certified before. Two requests at the same instant can both pass: the
// rule is against habits, not against attacks.
func (a *Authority) checkReuse(ctx context.Context, o order, d *draft) error {
	if d.profile.Reuse == profile.ReuseAllow {
		return nil
	}
	f := inventory.Filter{KeyHash: d.keyHash, ExpiresFrom: a.config.Now()}
	if d.profile.Reuse == profile.ReuseAccount {
		f.NotAccount = o.principal.Account
	}
	page, err := a.config.Inventory.ListCertificates(ctx, f, "", 1)
	if err != nil {
		return err
	}
	for _, c := range page.Certificates {
		return refuse("csr", "the key is certified already, by serial %s", c.Serial).WithHint("make a new key")
	}
	return nil
}
