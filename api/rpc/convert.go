package rpc

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"signet.example/signet/api/signetv1"
	"signet.example/signet/ca"
	"signet.example/signet/ca/inventory"
	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
)

// The limits of what is read.
const (
	maxCertificate = 64 << 10
	maxNames       = 1000
	defaultPage    = 100
	maxPage        = 1000
)

// --- from protobuf: everything is checked here; errors name the field as the API does --------------------------------

func issuerIDFrom(op, field, text string) (pki.IssuerID, error) {
	id, err := pki.ParseIssuerID(text)
	if err != nil {
		return pki.IssuerID{}, invalid(op, field, "%w", err).WithHint("list issuers to see their ids")
	}
	return id, nil
}

// optionalIssuerIDFrom converts an issuer id; "" is no issuer.
func optionalIssuerIDFrom(op, text string) (pki.IssuerID, error) {
	if text == "" {
		return pki.IssuerID{}, nil
	}
	return issuerIDFrom(op, "issuer", text)
}

func serialFrom(op, text string) (pki.Serial, error) {
	serial, err := pki.ParseSerial(text)
	if err != nil {
		return pki.Serial{}, invalid(op, "serial", "%w", err)
	}
	return serial, nil
}

func keyHashFrom(op, field, text string) (pki.KeyHash, error) {
	hash, err := pki.ParseKeyHash(text)
	if err != nil {
		return pki.KeyHash{}, invalid(op, field, "%w", err)
	}
	return hash, nil
}

func identifiersFrom(op, field string, texts []string) ([]pki.Identifier, error) {
	if len(texts) > maxNames {
		return nil, invalid(op, field, "%d names: at most %d", len(texts), maxNames)
	}
	var names []pki.Identifier
	for i, text := range texts {
		name, err := pki.ParseIdentifier(text)
		if err != nil {
			return nil, invalid(op, indexed(field, i), "%w", err)
		}
		if slices.Contains(names, name) {
			return nil, invalid(op, indexed(field, i), "%.64q is %s, which is named already", text, name).WithHint("leave one of them out")
		}
		names = append(names, name)
	}
	return names, nil
}

func indexed(field string, i int) string { return field + "[" + strconv.Itoa(i) + "]" }

// timeFrom converts a time; an absent one is zero. The protobuf type itself refuses years before 1 and after 9999.
func timeFrom(op, field string, t *timestamppb.Timestamp) (time.Time, error) {
	if t == nil {
		return time.Time{}, nil
	}
	if err := t.CheckValid(); err != nil {
		return time.Time{}, invalid(op, field, "%w", err)
	}
	return t.AsTime(), nil
}

// lifetimeFrom converts a duration; an absent one is zero. It must be positive.
func lifetimeFrom(op string, d *durationpb.Duration) (time.Duration, error) {
	if d == nil {
		return 0, nil
	}
	if err := d.CheckValid(); err != nil || d.AsDuration() <= 0 || d.GetSeconds() > int64(200*366*24*time.Hour/time.Second) {
		return 0, invalid(op, "lifetime", "want a positive duration of at most 200 years, in seconds: \"86400s\"")
	}
	return d.AsDuration(), nil
}

// reasonFrom refuses numbers that are not reasons of the standard.
func reasonFrom(op string, r signetv1.Reason) (pki.Reason, error) {
	if r < 0 || r > 255 || !pki.Reason(r).Valid() {
		return 0, invalid(op, "reason", "%d is no reason to revoke a certificate", int32(r))
	}
	if pki.Reason(r) == pki.RemoveFromCRL {
		return 0, invalid(op, "reason", "%s is no reason to revoke a certificate", pki.Reason(r)).WithHint("what is on hold is released")
	}
	return pki.Reason(r), nil
}

func roleFrom(op string, r signetv1.Role) (auth.Role, error) {
	switch r {
	case signetv1.Role_ROLE_AUDITOR:
		return auth.RoleAuditor, nil
	case signetv1.Role_ROLE_REQUESTER:
		return auth.RoleRequester, nil
	case signetv1.Role_ROLE_ADMIN:
		return auth.RoleAdmin, nil
	case signetv1.Role_ROLE_APPROVER:
		return auth.RoleApprover, nil
	}
	return auth.RoleNone, invalid(op, "role", "%d is no role: want ROLE_AUDITOR, ROLE_REQUESTER, ROLE_APPROVER or ROLE_ADMIN", int32(r))
}

func standingFrom(op string, s signetv1.Standing) (inventory.CertificateStatus, error) {
	switch s {
	case signetv1.Standing_STANDING_UNSPECIFIED:
		return inventory.StatusAny, nil
	case signetv1.Standing_STANDING_VALID:
		return inventory.StatusValid, nil
	case signetv1.Standing_STANDING_REVOKED:
		return inventory.StatusRevoked, nil
	case signetv1.Standing_STANDING_EXPIRED:
		return inventory.StatusExpired, nil
	}
	return inventory.StatusAny, invalid(op, "standing", "%d is no standing", int32(s))
}

func waitFrom(op string, w signetv1.WaitFor) (published bool, err error) {
	switch w {
	case signetv1.WaitFor_WAIT_FOR_UNSPECIFIED:
		return false, nil
	case signetv1.WaitFor_WAIT_FOR_PUBLISHED:
		return true, nil
	}
	return false, invalid(op, "wait_for", "%d is nothing to wait for", int32(w))
}

// pageFrom returns the size of a page.
func pageFrom(op string, size uint32) (int, error) {
	switch {
	case size == 0:
		return defaultPage, nil
	case size > maxPage:
		return 0, invalid(op, "page_size", "%d: at most %d", size, maxPage)
	}
	return int(size), nil
}

// pageOf returns a page of a list that is read as a whole. A page token is the name of the last item of the page
// before. Without a size, a page is everything that follows (AIP-158 lets a server choose).
func pageOf[T any](op string, all []T, name func(T) string, m interface {
	GetPageSize() uint32
	GetPageToken() string
}) (page []T, next *string, err error) {
	if token := m.GetPageToken(); token != "" {
		last := slices.IndexFunc(all, func(item T) bool { return name(item) == token })
		if last < 0 {
			return nil, nil, invalid(op, "page_token", "what it stood for is not there any more").WithHint("list from the beginning")
		}
		all = all[last+1:]
	}
	if m.GetPageSize() == 0 {
		return all, nil, nil
	}
	limit, err := pageFrom(op, m.GetPageSize())
	if err != nil || len(all) <= limit {
		return all, nil, err
	}
	return all[:limit], new(name(all[limit-1])), nil
}

// certificateFrom returns a certificate given as DER or as PEM.
func certificateFrom(op string, m interface {
	HasCertificateDer() bool
	GetCertificateDer() []byte
	GetCertificatePem() string
}) (*x509.Certificate, error) {
	const field = "certificate" // the name of the oneof
	der := m.GetCertificateDer()
	if !m.HasCertificateDer() {
		var err error
		if der, err = derFrom(op, field, m.GetCertificatePem(), "CERTIFICATE"); err != nil {
			return nil, err
		}
	}
	if len(der) > maxCertificate {
		return nil, invalid(op, field, "%d octets: at most %d", len(der), maxCertificate)
	}
	if err := notPEM(op, field, der); err != nil {
		return nil, err
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, invalid(op, field, "%w", err)
	}
	return certificate, nil
}

// notPEM refuses PEM in place of DER: the error of a DER parser would not help.
func notPEM(op, field string, der []byte) error {
	if bytes.HasPrefix(der, []byte("-----BEGIN ")) {
		return invalid(op, field, "this is PEM, and %s_der wants DER", field).WithHint("send it as %s_pem", field)
	}
	return nil
}

// derFrom returns the first block of one of the types in PEM text.
func derFrom(op, field, text string, types ...string) ([]byte, error) {
	if len(text) > 2*maxCertificate {
		return nil, invalid(op, field, "%d octets: at most %d", len(text), 2*maxCertificate)
	}
	for rest := []byte(text); ; {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			return nil, invalid(op, field, "no PEM block of type %q", types[0])
		}
		if slices.Contains(types, block.Type) {
			return block.Bytes, nil
		}
	}
}

// csrFrom returns the CSR of a message, if it is not too long.
func csrFrom(op string, m interface {
	HasCsrPem() bool
	GetCsrDer() []byte
	GetCsrPem() string
}) ([]byte, error) {
	const field = "csr" // the name of the oneof
	der := m.GetCsrDer()
	if m.HasCsrPem() {
		var err error
		if der, err = derFrom(op, field, m.GetCsrPem(), "CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"); err != nil {
			return nil, err
		}
	}
	if len(der) == 0 {
		return nil, invalid(op, field, "a certificate signing request is required")
	}
	if len(der) > ca.MaxCSR {
		return nil, invalid(op, field, "%d octets: at most %d", len(der), ca.MaxCSR)
	}
	return der, notPEM(op, field, der)
}

func issueRequestFrom(op string, m *signetv1.IssueCertificateRequest) (ca.Request, error) {
	r := ca.Request{Profile: m.GetProfile(), RequestID: m.GetRequestId()}
	var err error
	if r.CSR, err = csrFrom(op, m); err != nil {
		return r, err
	}
	if r.Issuer, err = optionalIssuerIDFrom(op, m.GetIssuer()); err != nil {
		return r, err
	}
	if r.Names, err = identifiersFrom(op, "identifiers", m.GetIdentifiers()); err != nil {
		return r, err
	}
	if r.Lifetime, err = lifetimeFrom(op, m.GetLifetime()); err != nil {
		return r, err
	}
	if r.NotAfter, err = timeFrom(op, "not_after", m.GetNotAfter()); err != nil {
		return r, err
	}
	r.Subject = subjectFrom(m.GetSubject())
	return r, nil
}

func subjectFrom(m *signetv1.Subject) ca.Subject {
	return ca.Subject{
		CommonName:         m.GetCommonName(),
		Organization:       m.GetOrganization(),
		OrganizationalUnit: m.GetOrganizationalUnit(),
		Country:            m.GetCountry(),
		Province:           m.GetProvince(),
		Locality:           m.GetLocality(),
		SerialNumber:       m.GetSerialNumber(),
	}
}

// filterFrom reads the conditions, without the page.
func filterFrom(op string, m *signetv1.ListCertificatesRequest, now time.Time) (inventory.Filter, error) {
	f := inventory.Filter{Profile: m.GetProfile(), Account: m.GetAccount(), NotAccount: m.GetNotAccount(), Now: now}
	if text := m.GetIdentifier(); text != "" {
		name, err := pki.ParseIdentifier(text)
		if err != nil {
			return f, invalid(op, "identifier", "%w", err).WithHint("a common name is looked for by itself: common_name, signet list --cn")
		}
		f.Name = name.Value
	}
	if text := m.GetCommonName(); text != "" {
		if m.GetIdentifier()+m.GetDnsSuffix() != "" {
			return f, invalid(op, "common_name", "a list is by one name: leave out identifier and dns_suffix")
		}
		f.Name, f.OfSubject = text, true
	}
	if text := m.GetDnsSuffix(); text != "" {
		if m.GetIdentifier() != "" {
			return f, invalid(op, "dns_suffix", "a list is by one name: leave out identifier")
		}
		domain, mailboxes := strings.CutPrefix(text, "@")
		name, err := pki.NewIdentifier(pki.DNS, domain)
		if err != nil {
			return f, invalid(op, "dns_suffix", "%w", err)
		}
		if f.NameSuffix = name.Value; mailboxes {
			f.NameSuffix = "@" + name.Value
		}
	}
	var err error
	if text := m.GetSerial(); text != "" {
		if f.Serial, err = serialFrom(op, text); err != nil {
			return f, err
		}
	}
	if text := m.GetKeyHash(); text != "" {
		if f.KeyHash, err = keyHashFrom(op, "key_hash", text); err != nil {
			return f, err
		}
	}
	if f.Issuer, err = optionalIssuerIDFrom(op, m.GetIssuer()); err != nil {
		return f, err
	}
	if f.Status, err = standingFrom(op, m.GetStanding()); err != nil {
		return f, err
	}
	for _, bound := range []struct {
		field string
		from  *timestamppb.Timestamp
		to    *time.Time
	}{
		{"expires_from", m.GetExpiresFrom(), &f.ExpiresFrom}, {"expires_until", m.GetExpiresUntil(), &f.ExpiresUntil},
		{"issued_from", m.GetIssuedFrom(), &f.IssuedFrom}, {"issued_until", m.GetIssuedUntil(), &f.IssuedUntil},
	} {
		if *bound.to, err = timeFrom(op, bound.field, bound.from); err != nil {
			return f, err
		}
	}
	return f, nil
}

// --- to protobuf ----------------------------------------------------------------------------------------------------

func optional(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

func timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// statusTo converts an answer of the universe: the status and the facts behind it.
func statusTo(a revocation.Answer) (signetv1.CertificateStatus, *signetv1.Revocation) {
	switch {
	case a.Status == pki.StatusGood:
		return signetv1.CertificateStatus_CERTIFICATE_STATUS_GOOD, nil
	case a.Status != pki.StatusRevoked:
		return signetv1.CertificateStatus_CERTIFICATE_STATUS_UNSPECIFIED, nil
	}
	facts := signetv1.Revocation_builder{
		Reason:       new(signetv1.Reason(a.Reason)),
		RevokedAt:    timestamp(a.RevokedAt),
		InvalidityAt: timestamp(a.InvalidityAt),
		Sequence:     &a.EventSeq,
	}.Build()
	if a.Reason == pki.CertificateHold {
		return signetv1.CertificateStatus_CERTIFICATE_STATUS_ON_HOLD, facts
	}
	return signetv1.CertificateStatus_CERTIFICATE_STATUS_REVOKED, facts
}

func certificateTo(c inventory.Certificate, a revocation.Answer) *signetv1.Certificate {
	fingerprint := sha256.Sum256(c.DER)
	status, facts := statusTo(a)
	return signetv1.Certificate_builder{
		Issuer:      new(c.Issuer.String()),
		Serial:      new(c.Serial.String()),
		Status:      &status,
		Revocation:  facts,
		Profile:     &c.Profile,
		Account:     &c.Account,
		Subject:     &c.Subject,
		Identifiers: identifiersTo(c.DER),
		NotBefore:   timestamp(c.NotBefore),
		NotAfter:    timestamp(c.NotAfter),
		IssuedAt:    timestamp(c.IssuedAt),
		KeyHash:     new(c.KeyHash.String()),
		Fingerprint: new(hex.EncodeToString(fingerprint[:])),
		Der:         c.DER,
	}.Build()
}

func issuedTo(issued *ca.Issued, a revocation.Answer) *signetv1.IssueCertificateResponse {
	return signetv1.IssueCertificateResponse_builder{
		Certificate: certificateTo(issued.Certificate, a),
		Pem:         new(pemTo(issued.DER, issued.Chain)),
		Repeated:    &issued.Repeated,
	}.Build()
}

var issuerStates = map[ca.IssuerState]signetv1.IssuerState{
	ca.IssuerPending:  signetv1.IssuerState_ISSUER_STATE_PENDING,
	ca.IssuerActive:   signetv1.IssuerState_ISSUER_STATE_ACTIVE,
	ca.IssuerDisabled: signetv1.IssuerState_ISSUER_STATE_DISABLED,
	ca.IssuerRetired:  signetv1.IssuerState_ISSUER_STATE_RETIRED,
}

func roleTo(r auth.Role) signetv1.Role {
	switch r {
	case auth.RoleAuditor:
		return signetv1.Role_ROLE_AUDITOR
	case auth.RoleRequester:
		return signetv1.Role_ROLE_REQUESTER
	case auth.RoleAdmin:
		return signetv1.Role_ROLE_ADMIN
	case auth.RoleApprover:
		return signetv1.Role_ROLE_APPROVER
	}
	return signetv1.Role_ROLE_UNSPECIFIED
}

func credentialTo(c auth.Credential) *signetv1.Credential {
	b := signetv1.Credential_builder{
		Credential: &c.Name,
		Role:       new(roleTo(c.Role)),
		Account:    &c.Account,
		Profiles:   c.Profiles,
		Kind:       new(c.Kind.String()),
		CreatedAt:  timestamp(c.CreatedAt),
		CreatedBy:  &c.CreatedBy,
		ExpiresAt:  timestamp(c.ExpiresAt),
		DisabledAt: timestamp(c.DisabledAt),
	}
	if !c.Issuer.IsZero() {
		b.Issuer = new(c.Issuer.String())
	}
	if c.Identifier != (pki.Identifier{}) {
		b.Identifier = new(c.Identifier.String())
	}
	if c.KeyHash != (pki.KeyHash{}) {
		b.KeyHash = new(c.KeyHash.String())
	}
	return b.Build()
}

var outcomes = map[audit.Outcome]signetv1.AuditOutcome{
	audit.OK:      signetv1.AuditOutcome_AUDIT_OUTCOME_OK,
	audit.Refused: signetv1.AuditOutcome_AUDIT_OUTCOME_REFUSED,
	audit.Failed:  signetv1.AuditOutcome_AUDIT_OUTCOME_FAILED,
}

func auditEventTo(e audit.Event) *signetv1.AuditEvent {
	return signetv1.AuditEvent_builder{
		Sequence:  &e.Seq,
		At:        timestamp(e.At),
		Actor:     &e.Actor,
		Action:    &e.Action,
		Target:    &e.Target,
		Outcome:   new(outcomes[e.Outcome]),
		RequestId: &e.RequestID,
		Source:    &e.Source,
		Detail:    e.Detail,
	}.Build()
}
