package ca

import (
	"bytes"
	"context"
	"slices"
	"time"

	"signet.example/signet/pki"
)

// cross is a path from a root to another root that signed it. A server sends it for clients that trust only the other.
type cross struct {
	chain [][]byte // the root's certificate by the other, and those above it without the other root
	links []link   // certificates that the path depends on
}

// crossings sets, for each issuer below a root that others have cross-signed, the cross-certificates. It leaves out
// those by a root that is retired: no client is expected to know only that root.
func crossings(known []Issuer, now time.Time) error {
	roots := make(map[string]*Issuer) // by what they signed for themselves
	for i := range known {
		for _, c := range known[i].Certificates {
			if len(c.Chain) == 0 {
				roots[string(c.DER)] = &known[i]
			}
		}
	}
	for i := range known {
		chosen := known[i].certificate()
		if chosen == nil || len(chosen.Chain) == 0 {
			continue
		}
		root := roots[string(chosen.Chain[len(chosen.Chain)-1])]
		if root == nil {
			continue
		}
		for _, c := range root.Certificates {
			if len(c.Chain) == 0 || now.After(c.NotAfter) {
				continue
			}
			above := c.Chain[len(c.Chain)-1]
			if other := roots[string(above)]; other != nil && other.State == IssuerRetired {
				continue
			}
			chain := append([][]byte{c.DER}, c.Chain...)
			links, err := linksOfChain(chain)
			if err != nil {
				return err
			}
			known[i].crosses = append(known[i].crosses, cross{chain[:len(chain)-1], links})
		}
	}
	return nil
}

// chain returns what a TLS server sends after a certificate of an issuer: Issuer.Chain, and the cross-certificates in
// force, so that clients with another root verify it too.
func (a *Authority) chain(ctx context.Context, issuer *Issuer) [][]byte {
	chain := issuer.Chain()
	for _, way := range issuer.crosses {
		if a.config.Status != nil && slices.ContainsFunc(way.links, func(l link) bool {
			status, _, err := a.config.Status.StatusOf(ctx, l.issuer, l.serial)
			return err == nil && status == pki.StatusRevoked // if the status is not known now, the client decides
		}) {
			continue
		}
		for _, der := range way.chain {
			if !slices.ContainsFunc(chain, func(known []byte) bool { return bytes.Equal(known, der) }) {
				chain = append(chain, der)
			}
		}
	}
	return chain
}
