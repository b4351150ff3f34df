package ca

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"strings"
	"time"

	"signet.example/signet/ca/keys"
	"signet.example/signet/ca/lint"
	"signet.example/signet/ca/policy"
	"signet.example/signet/ca/profile"
	"signet.example/signet/pki"
)

// OfflineConfig configures an Offline.
type OfflineConfig struct {
	Profiles *profile.Set         // required
	WeakKeys policy.WeakKeys      // empty: none are known
	Blocked  map[pki.KeyHash]bool // keys that were reported as compromised, by SPKI; empty: none are known
	Now      func() time.Time     // nil: time.Now
}

// Offline prepares and signs certificates of CAs without a database, at a ceremony. They are drafted, checked, linted
// and signed by the same code as an Authority's. Only the serial number differs: it is drawn and not reserved, so an
// issuer with an off-line key counts as foreign (Issuer.Foreign). The caller of Sign must have recorded the serial
// number durably first.
type Offline struct{ config OfflineConfig }

// NewOffline makes an Offline. It returns an error of KindInvalid if Profiles is nil.
func NewOffline(config OfflineConfig) (*Offline, error) {
	if config.Profiles == nil {
		return nil, pki.Errorf(pki.KindInvalid, "make off-line authority", "Profiles is required")
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	return &Offline{config}, nil
}

// OfflineParent is the authority that signs: its key, its certificate, and where its products will be served.
type OfflineParent struct {
	Key         *keys.Key
	Certificate []byte // DER
	BaseURL     string // goes into the CRL and issuer URLs of what it signs
}

// Proposal is a certificate that is ready to be signed: linted and immutable.
type Proposal struct {
	TBS       []byte // the octets that will be signed
	Algorithm []byte // DER AlgorithmIdentifier of the signature
	Serial    pki.Serial
	Subject   string // RFC 4514
	NotBefore time.Time
	NotAfter  time.Time
	KeyHash   pki.KeyHash // of the key that is certified
	CA        profile.CA  // path length and name constraints
	Narrowed  bool        // CA is less than the CSR asks for, because the description narrows it
	URLs      []string    // of the CRL and of the issuer's certificate; none for a root
	Profile   string
	Report    lint.Report // the result of every rule for TBS

	parent *issuerKey
	ticket Ticket
}

// ProposeRoot prepares the certificate of a root that signs itself. It ignores Parent and Offline of the description.
func (o *Offline) ProposeRoot(key *keys.Key, n NewIssuer) (*Proposal, error) {
	n.Parent, n.Offline = pki.IssuerID{}, false
	p, err := issuerProfile(o.config.Profiles, &n, nil)
	if err != nil {
		return nil, err
	}
	name, err := subjectFor(p, n.Subject, nil)
	if err != nil {
		return nil, err
	}
	root, err := newRoot(key, n, name)
	if err != nil {
		return nil, err
	}
	return o.propose(order{
		Request: Request{Profile: p.Name, Lifetime: n.Lifetime}, profile: p, issuer: root, subject: name.der, self: true,
		csr: &x509.CertificateRequest{PublicKey: key.Public()},
	})
}

// ProposeAuthority prepares the certificate of a CA elsewhere from its CSR, which gives name, key, path length and
// constraints. The description gives the lifetime, and can narrow what the CSR asks for; its other fields are ignored.
func (o *Offline) ProposeAuthority(parent OfflineParent, csr []byte, n NewIssuer) (*Proposal, error) {
	n.Label, n.Offline, n.BaseURL = "below", true, parent.BaseURL
	p, err := issuerProfile(o.config.Profiles, &n, nil)
	if err != nil {
		return nil, err
	}
	request, err := provePossession(p, csr)
	if err != nil {
		return nil, err
	}
	if len(request.RawSubject) <= 2 { // an empty SEQUENCE; RFC 5280, Section 4.1.2.6: a CA has a name
		return nil, refuse("csr", "its subject is empty: the request of a CA needs the CA's name")
	}
	asked, err := AskedOf(request)
	if err != nil {
		return nil, err
	}
	given, err := narrow(asked, n, p)
	if err != nil {
		return nil, err
	}
	p.CA = &given
	proposal, err := o.below(parent, order{Request: Request{Profile: p.Name, Lifetime: n.Lifetime}, profile: p, csr: request, subject: request.RawSubject})
	if err != nil {
		return nil, err
	}
	if asked.PathLength < 0 {
		asked.PathLength = 0 // the default
	}
	proposal.Narrowed = policy.Wider(&asked, &given) != ""
	return proposal, nil
}

// ProposeCross prepares another certificate for the name and key of an existing root, whose self-signature proves
// possession of the key. Path length and constraints are those of the root's own certificate.
func (o *Offline) ProposeCross(parent OfflineParent, der []byte, lifetime time.Duration) (*Proposal, error) {
	const op = "propose cross-certificate"
	root, err := checkImport(der, nil, o.config.WeakKeys)
	if err != nil {
		return nil, err
	}
	built, err := o.config.Profiles.Get(issuingProfile)
	if err != nil {
		return nil, err
	}
	p, err := likeCertificate(built, der)
	if err != nil {
		return nil, err
	}
	if err := policy.CheckKeyShape(p, root.PublicKey); err != nil {
		return nil, err
	}
	if bytes.Equal(root.Raw, parent.Certificate) {
		return nil, pki.Errorf(pki.KindInvalid, op, "a root cannot cross-sign itself").InField("certificate")
	}
	life, err := crossLife(lifetime, root.NotAfter.Sub(o.config.Now()))
	if err != nil {
		return nil, err
	}
	return o.below(parent, order{
		Request: Request{Profile: p.Name, Lifetime: life.Lifetime, AtMost: life.AtMost},
		profile: p, subject: root.RawSubject, keyID: root.SubjectKeyId,
		csr: &x509.CertificateRequest{PublicKey: root.PublicKey},
	})
}

// below completes an order for an authority under a parent.
func (o *Offline) below(parent OfflineParent, order order) (*Proposal, error) {
	const op = "open off-line authority"
	certificate, err := checkImport(parent.Certificate, nil, o.config.WeakKeys)
	if err != nil {
		return nil, err
	}
	hash := pki.HashSPKI(certificate.RawSubjectPublicKeyInfo)
	if have, err := pki.HashPublicKey(parent.Key.Public()); err != nil || have != hash {
		return nil, pki.Errorf(pki.KindFailedPrecondition, op, "the key is not that of the certificate of %s", pki.NameText(certificate.RawSubject)).
			InField("key")
	}
	if order.issuer, err = newIssuerKey(Issuer{
		ID: hash.Issuer(), Label: certificate.Subject.CommonName, Subject: certificate.RawSubject, SPKI: certificate.RawSubjectPublicKeyInfo, KeyHash: hash,
		State: IssuerActive, BaseURL: parent.BaseURL, Certificates: []IssuerCertificate{{DER: parent.Certificate, NotAfter: certificate.NotAfter, Chosen: true}},
	}, parent.Key); err != nil {
		return nil, err
	}
	if err := order.issuer.usable(o.config.Now(), order.profile); err != nil {
		return nil, err
	}
	if err := readable(order.subject); err != nil {
		return nil, err
	}
	if bytes.Equal(order.subject, certificate.RawSubject) {
		return nil, refuse("csr", "it has the name of the root itself").WithHint("a new key needs a new name: add a number to the common name")
	}
	// No responder answers OCSP for an off-line key; its complete list and certificate are served.
	copied := *order.profile
	copied.Status = profile.Status{CRL: profile.CRLComplete, IssuerURL: true}
	order.profile = &copied
	return o.propose(order)
}

// readable refuses a name that would be displayed to the witnesses of a ceremony differently from what it is.
func readable(name []byte) error {
	var rdns pkix.RDNSequence
	if _, err := asn1.Unmarshal(name, &rdns); err != nil {
		return refuse("csr", "its name: %w", err)
	}
	common := 0
	for _, rdn := range rdns {
		for _, attribute := range rdn {
			text, _ := attribute.Value.(string)
			if attribute.Type.Equal(commonName.oid) {
				common++
			}
			if at := strings.IndexFunc(text, pki.Unprintable); at >= 0 {
				return refuse("csr", "its name has an invisible character: %+q", text)
			}
		}
	}
	if common > 1 {
		return refuse("csr", "its name has %d common names, and programs show only one: %s", common, rdns).WithHint("ask for a name with one common name")
	}
	return nil
}

// propose drafts, checks and lints.
func (o *Offline) propose(order order) (*Proposal, error) {
	d, err := newDraft(order, o.config.Now())
	if err != nil {
		return nil, err
	}
	if err := d.check(order.self, o.config.WeakKeys); err != nil {
		return nil, err
	}
	if o.config.Blocked[d.keyHash] {
		return nil, blockedKey()
	}
	rules, err := lint.Compile(order.profile.LintSources, order.profile.Waivers)
	if err != nil {
		return nil, err
	}
	p := &Proposal{
		Algorithm: d.issuer.algorithm.der, Subject: d.subject.text, NotBefore: d.notBefore, NotAfter: d.notAfter,
		KeyHash: d.keyHash, CA: *order.profile.CA, Profile: order.profile.Name, parent: d.issuer,
	}
	if list := crlURL(order.profile.Status.CRL, d.issuer.BaseURL, d.issuer.ID, pki.Position{}); list != "" {
		p.URLs = append(p.URLs, list)
	}
	if order.profile.Status.IssuerURL {
		p.URLs = append(p.URLs, issuerURL(d.issuer.BaseURL, d.issuer.ID))
	}
	if p.Serial, err = drawSerial(); err != nil {
		return nil, err
	}
	if p.TBS, p.ticket, err = d.prepare(rules, order.self, p.Serial, pki.Position{}, d.issuer.BaseURL); err != nil {
		return nil, err
	}
	p.Report, err = rules.Report(p.TBS, p.Algorithm, order.self)
	return p, err
}

// offlineSerial is the first octet of drawn serial numbers: positive, and never taken for one of the scheme, which
// begins with 0x41.
const offlineSerial = 0x42

// drawSerial draws a serial number of 20 octets, 152 bits of them from the system's CSPRNG.
func drawSerial() (s pki.Serial, err error) {
	if _, err := rand.Read(s[:]); err != nil {
		return s, pki.Errorf(pki.KindInternal, "draw serial number", "%w", err)
	}
	s[0] = offlineSerial
	return s, nil
}

// Sign signs exactly the proposal and returns the certificate.
func (p *Proposal) Sign() ([]byte, error) {
	der, _, err := p.parent.sign(p.ticket, p.TBS)
	return der, err
}
