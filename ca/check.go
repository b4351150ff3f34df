package ca

import (
	"context"

	"signet.example/signet/ca/inventory"
	"signet.example/signet/ca/policy"
	"signet.example/signet/ca/profile"
)

// checkPolicy applies every rule that does not need the final bytes.
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

// check applies the rules that do not depend on earlier certificates or blocked keys.
func (d *draft) check(self bool, weak policy.WeakKeys) error {
	if err := policy.CheckNames(d.profile, d.names); err != nil {
		return err
	}
	if err := policy.CheckCommonName(d.subject.common, d.names); err != nil && d.profile.CA == nil {
		return err
	}
	if err := policy.CheckKey(d.key, weak); err != nil {
		return err
	}
	if !self && d.keyHash == d.issuer.KeyHash { // a CA does not certify its own key under another name
		return refuse("csr", "this is the key of the issuer itself")
	}
	return d.issuer.ancestry.gives(d.issuer.Label, d.profile, d.names, self)
}

func blockedKey() error {
	return refuse("csr", "the key is blocked: it was reported as compromised").WithHint("make a new key")
}

// checkReuse applies the profile's rule on keys that were certified before. Two requests at the same instant can both
// pass: the rule prevents careless reuse, not attacks.
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
