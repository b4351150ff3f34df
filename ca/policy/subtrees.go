package policy

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"signet.example/signet/ca/profile"
)

// CheckSubtrees refuses a CA whose permitted subtrees of some type of name would all be void: each lies outside what a
// CA of the chain permits, or is excluded by one of them or by the CA itself. Verifiers intersect permitted subtrees
// and unite excluded ones (RFC 5280, Section 6.1.4 (g)). CheckSubtrees does not detect a subtree that only several
// excluded subtrees together cover. A CA that lists no permitted subtree of a type may have every name of the type
// that the chain permits, or may exclude them all.
func CheckSubtrees(chain []Constraints, ca *profile.CA) error {
	own := Constraints{Subject: "it", Permitted: ca.Permitted, Excluded: ca.Excluded}
	if err := leavesSome(chain, own, "DNS", func(s profile.Subtrees) []string { return s.DNS }, below); err != nil {
		return err
	}
	if err := leavesSome(chain, own, "IP", func(s profile.Subtrees) []netip.Prefix { return s.IP }, belowPrefix); err != nil {
		return err
	}
	if err := leavesSome(chain, own, "email", func(s profile.Subtrees) []string { return s.Email }, belowMail); err != nil {
		return err
	}
	return leavesSome(chain, own, "URI", func(s profile.Subtrees) []string { return s.URI }, belowHost)
}

// leavesSome is CheckSubtrees for one type of name. within reports whether a whole subtree lies in a permitted or
// excluded base.
func leavesSome[T string | netip.Prefix](
	chain []Constraints, own Constraints, kind string, of func(profile.Subtrees) []T, within func(subtree, base T, excluding bool) bool,
) error {
	left := of(own.Permitted)
	if len(left) == 0 {
		return nil
	}
	refused := func(by Constraints, does string, bases []T) error {
		return refuse("permitted", "nothing is left of the %s subtrees that it permits, %q: %s %s %q", kind, of(own.Permitted), by.Subject, does, bases).
			WithHint("permit names that the authorities above permit, or create it below another issuer")
	}
	for _, above := range chain {
		if permitted := of(above.Permitted); len(permitted) > 0 {
			if left = intersect(left, permitted, within); len(left) == 0 {
				return refused(above, "permits only", permitted)
			}
		}
	}
	for _, c := range append(slices.Clip(chain), own) {
		left = slices.DeleteFunc(slices.Clone(left), func(l T) bool {
			return slices.ContainsFunc(of(c.Excluded), func(e T) bool { return within(l, e, true) })
		})
		if len(left) == 0 {
			return refused(c, "excludes", of(c.Excluded))
		}
	}
	return nil
}

// Wider returns a clause that says what given allows beyond what was asked, or "" if nothing. Each type of name is
// compared by itself: narrower limits on one type do not make up for wider ones on another.
func Wider(given, asked *profile.CA) string {
	if asked.PathLength >= 0 && (given.PathLength < 0 || given.PathLength > asked.PathLength) {
		allows := "any number of"
		if given.PathLength >= 0 {
			allows = strconv.Itoa(given.PathLength)
		}
		return fmt.Sprintf("it allows %s authorities below it, but %d were asked for", allows, asked.PathLength)
	}
	return cmp.Or(
		widerNames(given, asked, "DNS", func(s profile.Subtrees) []string { return s.DNS }, below),
		widerNames(given, asked, "IP", func(s profile.Subtrees) []netip.Prefix { return s.IP }, belowPrefix),
		widerNames(given, asked, "email", func(s profile.Subtrees) []string { return s.Email }, belowMail),
		widerNames(given, asked, "URI", func(s profile.Subtrees) []string { return s.URI }, belowHost),
		widerUsages(given, asked),
	)
}

// widerNames is Wider for one type of name. Each excluded subtree that was asked for must lie in an excluded subtree
// that is given, compared as strictly as permitted ones.
func widerNames[T string | netip.Prefix](
	given, asked *profile.CA, kind string, of func(profile.Subtrees) []T, within func(subtree, base T, excluding bool) bool,
) string {
	in := func(subtree T, bases []T) bool {
		return slices.ContainsFunc(bases, func(base T) bool { return within(subtree, base, false) })
	}
	if only := of(asked.Permitted); len(only) > 0 {
		permitted := of(given.Permitted)
		if len(permitted) == 0 {
			return fmt.Sprintf("it permits any %s names, but only %q were asked for", kind, only)
		}
		for _, p := range permitted {
			if !in(p, only) {
				return fmt.Sprintf("it permits the %s subtree %q, but only %q were asked for", kind, p, only)
			}
		}
	}
	for _, e := range of(asked.Excluded) {
		if !in(e, of(given.Excluded)) {
			return fmt.Sprintf("it does not exclude the %s subtree %q, as was asked for", kind, e)
		}
	}
	return ""
}

// intersect returns the subtrees that lie within both sides. Of two subtrees, one lies within the other or they are
// disjoint.
func intersect[T any](some, others []T, within func(subtree, base T, excluding bool) bool) (both []T) {
	for _, s := range some {
		for _, o := range others {
			if within(s, o, false) {
				both = append(both, s)
			} else if within(o, s, false) {
				both = append(both, o)
			}
		}
	}
	return both
}

func belowPrefix(prefix, base netip.Prefix, _ bool) bool {
	return base.Bits() <= prefix.Bits() && base.Contains(prefix.Addr())
}
