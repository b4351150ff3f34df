package wire

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"signet.example/signet/handshake/wire/protocol"
	"signet.example/signet/pki"
)

// This file puts steps 3 to 5 into words: certificate, trust, revocation.

// Certificate is step 3: who the peer says it is.
type Certificate struct {
	Of          Role      `json:"of"`
	Subject     string    `json:"subject"`
	Issuer      string    `json:"issuer"`
	Serial      string    `json:"serial"`
	NotBefore   time.Time `json:"not_before"`
	NotAfter    time.Time `json:"not_after"`
	DNSNames    []string  `json:"dns_names,omitempty"`
	Addresses   []string  `json:"addresses,omitempty"`
	Emails      []string  `json:"emails,omitempty"`
	URIs        []string  `json:"uris,omitempty"`
	Key         string    `json:"key"`
	Signature   string    `json:"signature"`
	Fingerprint string    `json:"sha256"`
	Sent        []Sent    `json:"sent"` // every certificate of the message, leaf first
	Asked       *Asked    `json:"client_certificate_request,omitempty"`
}

// Sent is one certificate of a Certificate message.
type Sent struct {
	Subject string `json:"subject"`
	Issuer  string `json:"issuer"`
	Stapled bool   `json:"stapled"` // an OCSP response came with it
}

// Asked is what a server demands of a client's certificate.
type Asked struct {
	Authorities []string          `json:"authorities,omitempty"` // the issuers that it accepts; empty: any
	Schemes     []protocol.Scheme `json:"signature_algorithms"`
	Status      bool              `json:"status_request"` // it asks for a stapled OCSP response
}

func tellCertificate(role, of Role, m *protocol.CertificateMessage, request *protocol.CertificateRequest, stapled bool, version protocol.Version) Step {
	step := Step{Number: 3, Name: "certificate", Title: "Certificate: who the server says it is", Outcome: OK}
	if of == Client {
		step.Name, step.Title = "client-certificate", "Certificate: who the client says it is"
	} else if role == Server {
		step.Title = "Certificate: who we say we are"
	}
	if len(m.Certs) == 0 {
		step.Outcome = Warning
		step.say("The %s sent %s that can be read.", of, "no certificate")
		return step
	}
	leaf := m.Certs[0]
	c := describeCertificate(leaf)
	c.Of = of
	for i, cert := range m.Certs {
		c.Sent = append(c.Sent, Sent{Subject: clean(NameOf(cert)), Issuer: clean(cert.Issuer.String()),
			Stapled: i < len(m.Staples) && m.Staples[i] || i == 0 && stapled})
	}
	step.Certificate = &c
	if version == tls.VersionTLS13 {
		step.say("The certificate passed encrypted, as everything does after the two hellos. It is only a claim yet: whoever sends it still has to prove that the key is theirs.")
	} else {
		step.say("The certificate passed in the clear. It is only a claim yet: whoever sends it still has to prove that the key is theirs.")
	}
	step.fact("name", c.Subject)
	step.facts("valid for", shorten(printable(NamesOf(leaf)), 8))
	step.fact("authority", c.Issuer)
	step.fact("key", c.Key)
	step.fact("signed with", c.Signature)
	step.fact("serial", c.Serial)
	step.fact("in force", c.NotBefore.Format(time.DateOnly)+" to "+c.NotAfter.Format(time.DateTime)+" UTC")
	step.fact("SHA-256", c.Fingerprint)
	step.facts("sent", sentLines(c.Sent))
	if m.Count > len(m.Certs) {
		step.say("%s of the message cannot be parsed.", count(m.Count-len(m.Certs), "certificate"))
		step.Outcome = Warning
	}
	step.askedFor(role, request)
	return step
}

func sentLines(sent []Sent) []string {
	var lines []string
	for i, s := range sent {
		line := fmt.Sprintf("%d  %s", i, s.Subject)
		if s.Subject == s.Issuer {
			line += " (its own issuer)"
		}
		if s.Stapled {
			line += " + OCSP staple"
		}
		lines = append(lines, line)
	}
	return lines
}

func (s *Step) askedFor(role Role, r *protocol.CertificateRequest) {
	if r == nil {
		return
	}
	s.Certificate.Asked = &Asked{Authorities: printable(r.Authorities), Schemes: r.Schemes, Status: r.Status}
	who := "The server asks"
	if role == Server {
		who = "We ask"
	}
	s.say("%s for a client certificate (mutual TLS).", who)
	names := shorten(printable(r.Authorities), 8)
	if len(names) == 0 {
		names = []string{"any authority"}
	}
	s.facts("client from", names)
}

func describeCertificate(c *x509.Certificate) Certificate {
	sum := sha256.Sum256(c.Raw)
	return Certificate{
		Subject: clean(NameOf(c)), Issuer: clean(c.Issuer.String()), Serial: clean(c.SerialNumber.Text(16)),
		NotBefore: c.NotBefore.UTC(), NotAfter: c.NotAfter.UTC(),
		DNSNames: c.DNSNames, Addresses: words(c.IPAddresses), Emails: c.EmailAddresses, URIs: words(c.URIs),
		Key: keyOf(c), Signature: c.SignatureAlgorithm.String(), Fingerprint: hex.EncodeToString(sum[:]),
	}
}

// NameOf returns the name of a certificate in the steps: its subject, or if that is empty its first alternative name.
func NameOf(c *x509.Certificate) string {
	return cmp.Or(slices.Concat([]string{c.Subject.String()}, NamesOf(c), []string{"(no subject)"})...)
}

// NamesOf lists the alternative names of a certificate: hosts, addresses, people, programs.
func NamesOf(c *x509.Certificate) []string {
	return slices.Concat(c.DNSNames, words(c.IPAddresses), c.EmailAddresses, words(c.URIs))
}

func keyOf(c *x509.Certificate) string {
	switch key := c.PublicKey.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA, %d bits", key.N.BitLen())
	case *ecdsa.PublicKey:
		return "ECDSA, " + key.Curve.Params().Name
	case ed25519.PublicKey:
		return "Ed25519"
	}
	if set := pki.MLDSAOfSPKI(c.RawSubjectPublicKeyInfo); set != pki.NoMLDSA {
		return set.String()
	}
	return c.PublicKeyAlgorithm.String()
}

// shorten keeps the first of a long list and says how many there are besides.
func shorten(list []string, most int) []string {
	if len(list) <= most {
		return list
	}
	return append(list[:most:most], fmt.Sprintf("and %d more", len(list)-most))
}

func tellTrust(peer Role, t Trust) Step {
	step := Step{Number: 4, Name: "trust", Title: "Trust: is the chain one we believe?", Trust: &t, Outcome: OK}
	switch {
	case t.Accepted && t.Problem != "":
		step.Outcome = Warning
		step.say("Not trusted, and accepted all the same: %s.", strings.TrimSuffix(t.Problem, "."))
	case t.Accepted:
		step.say("Every certificate is signed by the next one, up to a root that we trust; the %s's name, the dates and the purpose fit.", peer)
	default:
		step.Outcome = Failed
		step.say("Not trusted: %s.", strings.TrimSuffix(t.Problem, "."))
	}
	if t.Note != "" {
		step.say("%s", t.Note)
	}
	if t.Root != "" {
		step.fact("root", clean(t.Root))
	}
	step.facts("chain", printable(t.Path))
	if t.Miss != "" {
		step.fact("near miss", t.Miss)
	}
	return step
}

func tellRevocation(r Revocation) Step {
	step := Step{Number: 5, Name: "revocation", Title: "Revocation: is it still in force?", Revocation: &r, Outcome: OK}
	for i := range r.Certificates {
		c := &r.Certificates[i]
		c.Word, c.AgeSecs = c.Status.String(), int64(c.Age/time.Second)
		step.fact(fmt.Sprintf("certificate %d", i), clean(c.Subject))
		step.facts("", c.lines())
	}
	switch {
	case !r.Accepted:
		step.Outcome = Failed
		step.say("Refused: %s.", strings.TrimSuffix(r.Problem, "."))
	case r.Problem != "":
		step.Outcome = Warning
		step.say("Accepted, although: %s.", strings.TrimSuffix(r.Problem, "."))
	case len(r.Certificates) == 0:
		step.say("There is no one to ask: the certificate is itself the trust anchor, and only those who trust it can end that.")
	default:
		step.say("The signatures and dates of a certificate cannot tell whether it has been revoked since; the authority was asked.")
	}
	if r.Policy != "" {
		step.fact("policy", r.Policy)
	}
	if r.Decision != "" {
		step.fact("decision", r.Decision)
	}
	return step
}

func (c *CertificateStatus) lines() []string {
	lines := []string{c.Status.String()}
	told := c.Status != pki.StatusUnreachable && c.Status != pki.StatusInvalid // else the sources asked follow, and why none told
	if c.Source != "" && told {
		lines[0] += ", says " + c.Source + ", " + ageText(c.Age) + " old"
	}
	if c.Location != "" && told {
		lines = append(lines, clean(c.Location))
	}
	if c.RevokedAt != nil || c.Reason != "" {
		revoked := "revoked"
		if c.RevokedAt != nil {
			revoked += " on " + c.RevokedAt.UTC().Format(time.RFC3339)
		}
		if c.Reason != "" {
			revoked += ", reason " + c.Reason
		}
		lines = append(lines, revoked)
	}
	if c.Next != nil {
		lines = append(lines, "next update by "+c.Next.UTC().Format(time.RFC3339))
	}
	return append(lines, printable(c.Asked)...)
}

// ageText rounds an age to the precision that a person wants.
func ageText(d time.Duration) string {
	switch {
	case d.Truncate(time.Second) == time.Second:
		return "1 second"
	case d < 2*time.Minute:
		return fmt.Sprintf("%d seconds", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d minutes", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d hours", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}
