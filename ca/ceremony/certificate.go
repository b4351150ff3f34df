package ceremony

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"signet.example/signet/ca"
	"signet.example/signet/ca/keys"
	"signet.example/signet/ca/lint"
	"signet.example/signet/ca/profile"
	"signet.example/signet/internal/durable"
	"signet.example/signet/pki"
)

// Input is a file that was brought to the ceremony.
type Input struct {
	Name string // of the file
	Data []byte // PEM or DER
}

// decode returns the DER of the first PEM block of one of the kinds, or Data itself if it is DER.
func (i Input) decode(kinds ...string) ([]byte, error) {
	for block, rest := pem.Decode(i.Data); block != nil; block, rest = pem.Decode(rest) {
		if slices.Contains(kinds, block.Type) {
			return block.Bytes, nil
		}
	}
	if len(i.Data) > 0 && i.Data[0] == 0x30 { // a DER SEQUENCE
		return i.Data, nil
	}
	return nil, pki.Errorf(pki.KindInvalid, "read input", "%s holds no %s", i.Name, strings.ToLower(kinds[0]))
}

// Root makes the key of a root and its self-signed certificate. It ignores Parent and Offline of the description. It
// continues a ceremony that broke off after the key was made.
func (c *Ceremony) Root(ctx context.Context, n ca.NewIssuer) (*Result, error) {
	const op = "make root"
	if _, err := os.Stat(c.rootFile()); !errors.Is(err, fs.ErrNotExist) {
		return nil, pki.Errorf(pki.KindConflict, op, "there is a root in %s already", c.config.Dir).InField("--dir").
			WithHint("one directory is for one root: choose another")
	}
	if n.Algorithm == keys.NoAlgorithm {
		n.Algorithm = keys.ECDSAP384
	}
	trial, err := keys.Generate(keys.ECDSAP256) // to find errors in the description before the key is made
	if err != nil {
		return nil, pki.Errorf(pki.KindInternal, op, "%w", err)
	}
	if _, err := c.authority.ProposeRoot(&keys.Key{Signer: trial}, n); err != nil {
		return nil, err
	}
	return c.hold("root", "A root is made: its key, and the certificate that it signs for itself.", func(r *Result) error {
		key, err := c.rootKey(ctx, n)
		if err != nil {
			return err
		}
		proposal, err := c.authority.ProposeRoot(key, n)
		if err != nil {
			return err
		}
		if !c.config.Rehearse {
			c.state.Label, c.state.KeyURI, c.state.BaseURL = n.Label, key.URI, n.BaseURL
		}
		der, err := c.certify(r, proposal, nil)
		if err != nil || der == nil {
			return err
		}
		text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
		if err := c.write(r, ".pem", text); err != nil {
			return err
		}
		if err := durable.Replace(c.rootFile(), text, 0o644); err != nil {
			return writeError(err)
		}
		return nil
	})
}

// rootKey makes the key, or opens the one left by a ceremony that broke off. A rehearsal uses a key that it throws
// away.
func (c *Ceremony) rootKey(ctx context.Context, n ca.NewIssuer) (*keys.Key, error) {
	if c.config.Rehearse {
		signer, err := keys.Generate(n.Algorithm)
		if err != nil {
			return nil, &pki.Error{Kind: pki.KindInvalid, Op: "make key", Err: err}
		}
		key := &keys.Key{Signer: signer, URI: c.config.Keys.URI(n.Label)}
		return key, c.sayKey("A key would be made here. This one stands for it, and is thrown away.", key, nil)
	}
	if err := c.confirm(fmt.Sprintf("Make the key %s (%s)?", c.config.Keys.URI(n.Label), n.Algorithm)); err != nil {
		return nil, err
	}
	key, err := c.config.Keys.Create(ctx, n.Label, n.Algorithm)
	if err == nil {
		return key, c.sayKey("The key was made.", key, nil)
	}
	if pki.KindOf(err) != pki.KindConflict {
		return nil, err
	}
	left, openErr := c.config.Keys.Open(ctx, c.config.Keys.URI(n.Label))
	if openErr != nil || keys.AlgorithmOf(left.Public()) != n.Algorithm {
		return nil, err
	}
	return left, c.sayKey("The key was there already: it was made by a ceremony that broke off before it had a certificate.", left, nil)
}

// Sign signs the name and key of a certificate request, such as one written by signet issuer create --offline. The
// certificate has the path length and constraints that the request asks for. The description gives the lifetime and
// can narrow the limits; its other fields are ignored.
func (c *Ceremony) Sign(ctx context.Context, csr Input, n ca.NewIssuer) (*Result, error) {
	return c.hold("sign", "A certificate of an authority is signed, from its request.", func(r *Result) error {
		der, err := csr.decode(TypeRequest, "NEW CERTIFICATE REQUEST")
		if err != nil {
			return err
		}
		root, err := c.open(ctx)
		if err != nil {
			return err
		}
		request, err := x509.ParseCertificateRequest(der)
		if err != nil {
			return pki.Errorf(pki.KindInvalid, "read certificate request", "%s: %w", csr.Name, err).InField("--csr")
		}
		asked, err := ca.AskedOf(request)
		if err != nil {
			return err
		}
		if err := c.say(csr, "A certificate request was brought.", pki.NameText(request.RawSubject), request.RawSubjectPublicKeyInfo,
			octets("request", TypeRequest, der), describeAsked(&asked)...); err != nil {
			return err
		}
		proposal, err := c.authority.ProposeAuthority(ca.OfflineParent{Key: root.key, Certificate: root.certificate.Raw, BaseURL: c.state.BaseURL}, der, n)
		if err != nil {
			return err
		}
		return c.issue(r, proposal, root)
	})
}

// CrossSign signs the name and key of another root, so that relying parties that trust this root also trust
// certificates below the other.
func (c *Ceremony) CrossSign(ctx context.Context, other Input, lifetime time.Duration) (*Result, error) {
	return c.hold("cross-sign", "The name and key of another root are signed.", func(r *Result) error {
		der, err := other.decode(TypeCertificate)
		if err != nil {
			return err
		}
		root, err := c.open(ctx)
		if err != nil {
			return err
		}
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			return pki.Errorf(pki.KindInvalid, "read certificate", "%s: %w", other.Name, err).InField("certificate")
		}
		if err := c.say(other, "The certificate of another root was brought.", pki.NameText(certificate.RawSubject), certificate.RawSubjectPublicKeyInfo,
			octets("other root", TypeCertificate, der)); err != nil {
			return err
		}
		proposal, err := c.authority.ProposeCross(ca.OfflineParent{Key: root.key, Certificate: root.certificate.Raw, BaseURL: c.state.BaseURL}, der, lifetime)
		if err != nil {
			return err
		}
		return c.issue(r, proposal, root)
	})
}

// say records a file that was brought.
func (c *Ceremony) say(input Input, text, subject string, spki []byte, attached Octets, more ...Fact) error {
	return c.record.add(StepInput, text, func(s *Step) {
		s.Facts = []Fact{{"file", input.Name}, {"sha256 of file", sum(input.Data)}, {"octets", strconv.Itoa(len(input.Data))}, {"name", subject},
			{"sha256 of key", pki.HashSPKI(spki).String()}}
		s.Facts = append(s.Facts, more...)
		s.Attached = []Octets{attached}
	})
}

// issue signs a proposal and writes the certificate followed by the root, in the format of signet issuer import.
func (c *Ceremony) issue(r *Result, proposal *ca.Proposal, root *signer) error {
	der, err := c.certify(r, proposal, root.certificate)
	if err != nil || der == nil {
		return err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return c.write(r, ".pem", append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.certificate.Raw})...))
}

// certify shows what will be signed, asks for consent, reserves the serial number, signs and checks. A nil parent
// means that the certificate is self-signed. A rehearsal returns nil after asking.
func (c *Ceremony) certify(r *Result, p *ca.Proposal, parent *x509.Certificate) ([]byte, error) {
	serial := p.Serial.String()
	if err := c.record.add(StepProposal, "These octets will be signed.", func(s *Step) {
		s.Facts = append(describe(p), Fact{"sha256", sum(p.TBS)})
		s.Attached = []Octets{octets("to be signed", TypeTBSCertificate, p.TBS)}
	}); err != nil {
		return nil, err
	}
	if err := c.sayRules(p.Report, nil); err != nil {
		return nil, err
	}
	if err := c.confirm(fmt.Sprintf("Sign the certificate of %s, until %s? The octets have the SHA-256 %s.",
		p.Subject, p.NotAfter.Format(time.DateOnly), sum(p.TBS))); err != nil {
		return nil, err
	}
	if c.config.Rehearse {
		return nil, nil
	}
	// From here on the serial number counts as used. If the ceremony breaks off now, the next CRL revokes it.
	c.state.Issued = append(c.state.Issued, issued{Serial: serial, Subject: p.Subject, Key: p.KeyHash.String(), NotAfter: p.NotAfter, Record: c.name})
	if err := c.state.save(); err != nil {
		return nil, err
	}
	if err := c.record.add(StepReserve, "The serial number was written down, before it is used.", func(s *Step) {
		s.Facts = []Fact{{"serial", serial}}
	}); err != nil {
		return nil, err
	}
	der, err := p.Sign()
	if err != nil {
		return nil, err
	}
	if err := c.record.add(StepSign, "The certificate was signed.", func(s *Step) {
		s.Facts = []Fact{{"fingerprint", sum(der)}, {"serial", serial}}
		s.Attached = []Octets{octets("certificate", TypeCertificate, der)}
	}); err != nil {
		return nil, err
	}
	if err := checkCertificate(der, p.TBS, parent); err != nil {
		return nil, pki.Errorf(pki.KindInternal, "check what was signed", "%w", err)
	}
	if err := c.record.add(StepCheck, "Read again: it holds the octets above, and its signature verifies.", func(s *Step) {
		s.Facts = []Fact{{"fingerprint", sum(der)}}
	}); err != nil {
		return nil, err
	}
	c.state.find(serial).SHA256 = sum(der)
	r.Fingerprint, r.Serial, r.NotAfter = sum(der), serial, p.NotAfter
	return der, c.state.save()
}

// describe returns the content of a certificate as facts.
func describe(p *ca.Proposal) []Fact {
	length := "any number"
	if p.CA.PathLength >= 0 {
		length = strconv.Itoa(p.CA.PathLength)
	}
	facts := []Fact{
		{"subject", p.Subject}, {"sha256 of its key", p.KeyHash.String()}, {"serial", p.Serial.String()},
		{"from", on(p.NotBefore)}, {"until", on(p.NotAfter)}, {"authorities below", length},
	}
	facts = append(facts, describeLimits(&p.CA)...)
	if p.Narrowed {
		facts = append(facts, Fact{"narrower", "yes: the request asks for more than is given here"})
	}
	for _, url := range p.URLs {
		facts = append(facts, Fact{"URL", url})
	}
	return append(facts, Fact{"profile", p.Profile})
}

// describeAsked returns the limits that a request asks for as facts.
func describeAsked(asked *profile.CA) (facts []Fact) {
	if asked.PathLength >= 0 {
		facts = append(facts, Fact{"asks: authorities below", strconv.Itoa(asked.PathLength)})
	}
	for _, f := range describeLimits(asked) {
		facts = append(facts, Fact{"asks: " + f.Name, f.Value})
	}
	return facts
}

// describeLimits returns the limits of an authority, except its path length, as facts.
func describeLimits(ca *profile.CA) (facts []Fact) {
	facts = describeNames(ca)
	list := func(what string, oids []asn1.ObjectIdentifier, text func(asn1.ObjectIdentifier) string) {
		var words []string
		for _, oid := range oids {
			words = append(words, text(oid))
		}
		if len(words) > 0 {
			facts = append(facts, Fact{what, strings.Join(words, ", ")})
		}
	}
	list("only usages", ca.Usages, profile.UsageText)
	list("only policies", ca.Policies.Only, asn1.ObjectIdentifier.String)
	for _, count := range []struct {
		what string
		n    *int
	}{{"certificates until a policy is demanded", ca.Policies.RequireExplicit}, {"certificates until no policy is mapped", ca.Policies.InhibitMapping},
		{"certificates until anyPolicy is void", ca.Policies.InhibitAny}} {
		if count.n != nil {
			facts = append(facts, Fact{count.what, strconv.Itoa(*count.n)})
		}
	}
	return facts
}

// describeNames returns the name constraints of an authority as facts.
func describeNames(ca *profile.CA) (facts []Fact) {
	for _, side := range []struct {
		what string
		profile.Subtrees
	}{{"only", ca.Permitted}, {"never", ca.Excluded}} {
		for _, kind := range []struct {
			what  string
			names []string
		}{{"names", side.DNS}, {"mail", side.Email}, {"URIs", side.URI}, {"addresses", texts(side.IP)}} {
			if len(kind.names) > 0 {
				facts = append(facts, Fact{side.what + " " + kind.what, strings.Join(kind.names, ", ")})
			}
		}
	}
	return facts
}

func texts(prefixes []netip.Prefix) (out []string) {
	for _, p := range prefixes {
		out = append(out, p.String())
	}
	return out
}

// checkCertificate checks, with the standard library, that a certificate holds the octets that were shown and that its
// signature verifies. A nil parent means that it is self-signed.
func checkCertificate(der, tbs []byte, parent *x509.Certificate) error {
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	if !bytes.Equal(certificate.RawTBSCertificate, tbs) {
		return errors.New("what was signed is not what was shown")
	}
	if parent == nil {
		parent = certificate
	}
	return certificate.CheckSignatureFrom(parent)
}

// sayRules records the verdicts of all rules: the report of package lint, and own.
func (c *Ceremony) sayRules(report lint.Report, own []Rule) error {
	failed := report.Count(lint.Failed)
	return c.record.add(StepRules, "What every rule says of these octets.", func(s *Step) {
		s.Rules = append(s.Rules, own...)
		for _, v := range report {
			s.Rules = append(s.Rules, Rule{v.Lint, v.Citation, string(v.Outcome), v.Details})
		}
		s.Facts = []Fact{
			{"rules", strconv.Itoa(len(s.Rules))}, {"passed", strconv.Itoa(report.Count(lint.Passed) + len(own))}, {"failed", strconv.Itoa(failed)},
			{"waived", strconv.Itoa(report.Count(lint.Waived))},
			{"not applicable", strconv.Itoa(report.Count(lint.NotApplicable) + report.Count(lint.NotEffective))},
		}
	})
}
