package wire

import (
	"crypto/tls"
	"fmt"
	"slices"
	"strings"

	"signet.example/signet/handshake/wire/protocol"
	"signet.example/signet/pki"
)

// This file puts the first two steps into words: offer and choice.

// ServerChoice is step 2: what the server chose, compared with what the client offered.
type ServerChoice struct {
	protocol.ServerHello
	ALPN     string             `json:"alpn,omitempty"`
	Strength protocol.Strength  `json:"strength"`            // of the cipher suite
	Forward  bool               `json:"forward_secrecy"`     // of the cipher suite
	Quantum  bool               `json:"post_quantum"`        // of the group
	Position int                `json:"position"`            // of the suite in the client's list of that version, from 1; 0: not there
	Stronger []protocol.Suite   `json:"stronger,omitempty"`  // offered suites of that version in a better class
	Newer    []protocol.Version `json:"newer,omitempty"`     // offered versions that are newer
	Retried  protocol.Group     `json:"retried,omitempty"`   // the group that a HelloRetryRequest asked for
	Strong   bool               `json:"strongest_of_offers"` // neither Stronger nor Newer
}

func tellClientHello(role Role, h *protocol.ClientHello) Step {
	who, says := "the client offers", "The client offers what it can do, in its order of preference."
	if role == Client {
		who, says = "we offer", "We offer what we can do, in our order of preference."
	}
	step := Step{Number: 1, Name: "client-hello", Title: "ClientHello: what " + who, ClientHello: h,
		Says: []string{says + " All of it passes in the clear; it is protected afterwards, by Finished."}}
	step.fact("server name", orNone(h.ServerName))
	step.fact("versions", join(withoutGREASE(h.Versions)))
	step.facts("cipher suites", suiteLines(h.Suites))
	if len(h.Groups) > 0 {
		step.fact("groups", join(withoutGREASE(h.Groups)))
	}
	if len(h.KeyShares) > 0 {
		step.fact("key shares", join(withoutGREASE(h.KeyShares))+" (public keys sent ahead)")
	}
	if len(h.Schemes) > 0 {
		step.fact("signatures", join(withoutGREASE(h.Schemes)))
	}
	if len(h.ALPN) > 0 {
		step.fact("protocols", strings.Join(printable(h.ALPN), ", "))
	}
	step.fact("OCSP staple", map[bool]string{true: "asked for (status_request)", false: "not asked for"}[h.Status])
	if h.Resumption > 0 {
		step.fact("resumption", fmt.Sprintf("offered, %s of an earlier session", count(h.Resumption, "ticket")))
	}
	if len(h.Extensions) > 0 {
		step.fact("extensions", join(withoutGREASE(h.Extensions)))
	}
	return step
}

// suiteLines lists suites, each with its weaknesses.
func suiteLines(suites []protocol.Suite) []string {
	remarks := map[protocol.Strength]string{protocol.Broken: "broken", protocol.Legacy: "no forward secrecy", protocol.Aging: "CBC mode"}
	var lines []string
	for _, s := range suites {
		switch remark := remarks[s.Strength()]; {
		case s.Signals():
		case remark != "":
			lines = append(lines, fmt.Sprintf("%s (%s)", s, remark))
		default:
			lines = append(lines, s.String())
		}
	}
	return lines
}

func tellChoice(role Role, h *protocol.ClientHello, retry, sh *protocol.ServerHello, alpn string) Step {
	c := compare(h, retry, sh, alpn)
	who := "the server picked"
	if role == Server {
		who = "we picked"
	}
	step := Step{Number: 2, Name: "server-choice", Title: "ServerHello: what " + who, ServerChoice: &c, Outcome: OK}
	step.Says = append(step.Says, c.whyVersion(h), c.whySuite(role))
	if c.Version == tls.VersionTLS13 && c.Group != 0 {
		step.Says = append(step.Says, c.whyGroup(h))
	}
	if !c.Strong || c.Strength < protocol.Aging {
		step.Outcome = Warning
	}
	step.fact("version", c.Version.String())
	step.fact("cipher suite", c.Suite.String())
	if c.Group != 0 {
		step.fact("group", c.Group.String())
	}
	step.fact("protocol", orNone(strings.Join(printable([]string{c.ALPN}), "")))
	if len(c.Extensions) > 0 {
		step.fact("extensions", join(c.Extensions))
	}
	switch {
	case c.Resumed:
		step.fact("session", "resumed")
	case h.Resumption > 0 && c.Version == tls.VersionTLS13: // before TLS 1.3, a ServerHello alone does not show it
		step.fact("session", "new: the session offered for resumption was not accepted")
	}
	return step
}

// compare compares the choice with the offer. Only the server knows what else it supports, so this shows only whether the
// client offered something better.
func compare(h *protocol.ClientHello, retry, sh *protocol.ServerHello, alpn string) ServerChoice {
	c := ServerChoice{ServerHello: *sh, ALPN: alpn, Strength: sh.Suite.Strength(), Forward: sh.Suite.ForwardSecret(), Quantum: sh.Group.PostQuantum()}
	if retry != nil {
		c.Retried = retry.Group
	}
	peers := slices.DeleteFunc(slices.Clone(h.Suites), func(s protocol.Suite) bool {
		return s.Signals() || (s.KeyExchange() == "TLS 1.3") != (sh.Version == tls.VersionTLS13)
	})
	c.Position = slices.Index(peers, sh.Suite) + 1
	for _, s := range peers {
		if s.Strength() > c.Strength {
			c.Stronger = append(c.Stronger, s)
		}
	}
	for _, v := range withoutGREASE(h.Versions) {
		if v > sh.Version {
			c.Newer = append(c.Newer, v)
		}
	}
	c.Strong = len(c.Stronger) == 0 && len(c.Newer) == 0
	return c
}

func (c *ServerChoice) whyVersion(h *protocol.ClientHello) string {
	switch offered := len(withoutGREASE(h.Versions)); {
	case c.Downgraded != 0 && len(c.Newer) > 0:
		return fmt.Sprintf("%s, with the mark of a server that can do better than this: somebody in between may have removed %s from the offer (RFC 8446, Section 4.1.3).", c.Version, join(c.Newer))
	case len(c.Newer) > 0:
		return fmt.Sprintf("%s, although %s was offered: the server does not speak it, or has it switched off.", c.Version, join(c.Newer))
	case offered == 1:
		return fmt.Sprintf("%s is the only version that was offered.", c.Version)
	default:
		return fmt.Sprintf("%s is the newest of the %d versions that were offered.", c.Version, offered)
	}
}

func (c *ServerChoice) whySuite(role Role) string {
	what := fmt.Sprintf("%s is number %d of the client's list for this version", c.Suite, c.Position)
	if c.Position == 0 {
		what = fmt.Sprintf("%s was never offered for this version", c.Suite)
	}
	chooser := "the server does not have these, or prefers the weaker; only the server knows which"
	order := "the server follows an order of its own, or does not have them"
	if role == Server {
		chooser, order = "they do not fit our certificate, or our configuration does not have them", "we follow an order of our own, or do not have them"
	}
	switch {
	case c.Strength == protocol.Broken:
		return what + ": a broken cipher. An attacker who records this connection may be able to read it."
	case len(c.Stronger) > 0:
		return fmt.Sprintf("%s. Stronger ones were offered (%s): %s.", what, join(c.Stronger), chooser)
	case c.Strength == protocol.Legacy:
		return what + ", which offers nothing stronger. It has no forward secrecy: " +
			"an attacker who records this connection and one day gets the server's key can read it."
	case c.Position > 1:
		return what + ". Those before it are of the same class (" + c.class() + "): " + order + ", and nothing is lost."
	}
	return what + ", and no class of suites is stronger (" + c.class() + ")."
}

func (c *ServerChoice) class() string {
	switch c.Strength {
	case protocol.Strong:
		return "forward secrecy, authenticated encryption"
	case protocol.Aging:
		return "forward secrecy, CBC mode"
	}
	return c.Strength.String()
}

func (c *ServerChoice) whyGroup(h *protocol.ClientHello) string {
	text := fmt.Sprintf("The key exchange is over %s", c.Group)
	switch {
	case c.Retried != 0:
		text += ", which the server asked for in a HelloRetryRequest: the public keys sent ahead were not for it, and the client said its hello again"
	case len(withoutGREASE(h.KeyShares)) > 0:
		text += ", for which the client had sent a public key ahead: no extra round trip"
	}
	if c.Quantum {
		return text + ". It is a hybrid: it holds if either the elliptic curve or ML-KEM holds, against a quantum computer too."
	}
	if slices.ContainsFunc(h.Groups, protocol.Group.PostQuantum) {
		return text + ". A group that resists quantum computers was offered and not taken."
	}
	return text + "."
}

func (s *Step) fact(name, value string) { s.facts(name, []string{value}) }

func (s *Step) facts(name string, values []string) {
	if len(values) > 0 {
		s.Facts = append(s.Facts, Fact{Name: name, Values: values})
	}
}

func (s *Step) say(format string, args ...any) { s.Says = append(s.Says, fmt.Sprintf(format, args...)) }

func withoutGREASE[T ~uint16](list []T) []T {
	return slices.DeleteFunc(slices.Clone(list), func(v T) bool { return protocol.IsGREASE(uint16(v)) })
}

func join[T fmt.Stringer](list []T) string { return strings.Join(words(list), ", ") }

func words[T fmt.Stringer](list []T) []string {
	texts := make([]string, len(list))
	for i, v := range list {
		texts[i] = v.String()
	}
	return texts
}

func orNone(text string) string {
	if text == "" {
		return "none"
	}
	return text
}

// printable quotes the peer's texts that hold anything but plain letters.
func printable(list []string) []string {
	out := make([]string, len(list))
	for i, text := range list {
		out[i] = clean(text)
	}
	return out
}

// clean makes a peer's text safe for a terminal, which would obey control characters.
func clean(text string) string {
	const longest = 200
	text = strings.Map(visible, text)
	if len(text) > longest {
		text = strings.ToValidUTF8(text[:longest], "") + "…"
	}
	return text
}

// visible replaces a character that a terminal would obey. Whitespace becomes a space.
func visible(r rune) rune {
	if r == '\n' || r == '\t' {
		return ' '
	}
	if pki.Unprintable(r) {
		return '?'
	}
	return r
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
