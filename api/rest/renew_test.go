package rest_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"net/http"
	"testing"
	"time"

	"signet.example/signet/api/client"
	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
)

// signed is a renewal proved by a signature of the old key.
func (h *house) signed(old *tls.Certificate, csr []byte, id string) client.RenewRequest {
	return client.RenewRequest{CSR: csr, RequestID: id, Certificate: old.Certificate[0], Key: old.PrivateKey.(crypto.Signer)}
}

func TestRenewal(t *testing.T) {
	h := newHouse(t)
	for name, over := range map[string]struct {
		profile string
		renew   func(old *tls.Certificate, csr []byte) (*client.Issued, error)
	}{
		"a server's, by signature": {"server", func(old *tls.Certificate, csr []byte) (*client.Issued, error) {
			return h.grpc("", nil).Renew(t.Context(), h.signed(old, csr, "once"))
		}},
		"a client's, over TLS": {"client", func(old *tls.Certificate, csr []byte) (*client.Issued, error) {
			return h.grpc("", old).Renew(t.Context(), client.RenewRequest{CSR: csr, RequestID: "twice"})
		}},
	} {
		old := h.pair(over.profile, 48*time.Hour, "b.example", "a.example")
		_, request := csr(t)
		first, err := over.renew(old, request)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		leaf, err := x509.ParseCertificate(first.Certificate.DER)
		if err != nil {
			t.Fatal(err)
		}
		if len(leaf.DNSNames) != 2 || leaf.DNSNames[0] != "b.example" || leaf.DNSNames[1] != "a.example" || first.Certificate.Account != "pair" ||
			first.Certificate.Profile != over.profile || leaf.SerialNumber.Cmp(old.Leaf.SerialNumber) == 0 {
			t.Errorf("%s: got %+v", name, first.Certificate)
		}
		if was, is := old.Leaf.NotAfter.Sub(old.Leaf.NotBefore), leaf.NotAfter.Sub(leaf.NotBefore); was != is {
			t.Errorf("%s: it lives %s, the old one %s", name, is, was)
		}
		again, err := over.renew(old, request)
		if err != nil || !again.Repeated || !bytes.Equal(again.Certificate.DER, first.Certificate.DER) {
			t.Errorf("%s: the same request id gives %+v, %v", name, again, err)
		}
	}
	events, err := h.store.AuditEvents(t.Context(), audit.Filter{Action: "certificate.issue"}, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	renewed := 0
	for _, e := range events {
		if len(e.Actor) > 8 && e.Actor[:8] == "renewal:" && e.Outcome == audit.OK && e.Source == "127.0.0.1" && e.RequestID != "" {
			renewed++
		}
	}
	if renewed != 2 {
		t.Errorf("the audit log knows of %d renewals: %+v", renewed, events)
	}
}

func TestRenewalIsRefused(t *testing.T) {
	h := newHouse(t)
	server := h.pair("server", 48*time.Hour, "a.example")
	other := h.pair("server", 48*time.Hour, "other.example")
	key, request := csr(t)
	named := func(subject, dns string) []byte {
		template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: subject}}
		if dns != "" {
			template.DNSNames = []string{dns}
		}
		der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	changed := func(change func(*client.RenewRequest)) client.RenewRequest {
		q := h.signed(server, request, "")
		change(&q)
		return q
	}
	strange := newAuthority(t, "Test Issuing CA").leaf(t, 7, func(c *x509.Certificate) { c.Issuer.CommonName = "Test Issuing CA" })
	for name, row := range map[string]struct {
		q           client.RenewRequest
		certificate *tls.Certificate
		kind        pki.Kind
	}{
		"no proof":                          {client.RenewRequest{CSR: request}, nil, pki.KindUnauthenticated},
		"a server certificate over TLS":     {client.RenewRequest{CSR: request}, server, pki.KindUnauthenticated},
		"somebody else's key":               {changed(func(q *client.RenewRequest) { q.Key = other.PrivateKey.(crypto.Signer) }), nil, pki.KindUnauthenticated},
		"a certificate that is not ours":    {h.signed(strange, request, ""), nil, pki.KindUnauthenticated},
		"a stranger's over TLS":             {client.RenewRequest{CSR: request}, strange, pki.KindUnauthenticated},
		"another name":                      {h.signed(server, named("", "evil.example"), ""), nil, pki.KindRefused},
		"another common name":               {h.signed(server, named("evil.example", ""), ""), nil, pki.KindRefused},
		"no certificate request":            {h.signed(server, nil, ""), nil, pki.KindInvalid},
		"a request without sense":           {h.signed(server, []byte{0x30, 0}, ""), nil, pki.KindInvalid},
		"a certificate of an authority":     {client.RenewRequest{CSR: request, Certificate: h.issuing.Certificates[0].DER, Key: newKey(t)}, nil, pki.KindUnauthenticated},
		"a proof with an octet too much":    {changed(func(q *client.RenewRequest) { q.Certificate = append(bytes.Clone(q.Certificate), 0) }), nil, pki.KindUnauthenticated},
		"a request id that is not a name":   {h.signed(server, request, "a b"), nil, pki.KindInvalid},
		"the same names, and so it is good": {h.signed(server, named("", "a.example"), ""), nil, 0},
	} {
		_, err := h.grpc("", row.certificate).Renew(t.Context(), row.q)
		if row.kind == 0 && err != nil || row.kind != 0 && pki.KindOf(err) != row.kind {
			t.Errorf("%s: %v, want kind %v", name, err, row.kind)
		}
	}
	for name, row := range map[string]struct {
		late time.Duration
		kind pki.Kind
	}{
		"an old proof":            {-6 * time.Minute, pki.KindUnauthenticated},
		"a proof from the future": {6 * time.Minute, pki.KindUnauthenticated},
		"a clock that is slow":    {-4 * time.Minute, 0},
	} {
		c := h.client(client.Config{Now: func() time.Time { return h.clock().Add(row.late) }})
		_, err := c.Renew(t.Context(), h.signed(server, named("", "a.example"), ""))
		if row.kind == 0 && err != nil || row.kind != 0 && pki.KindOf(err) != row.kind {
			t.Errorf("%s: %v, want kind %v", name, err, row.kind)
		}
	}

	// A proof is for one request: with another CSR beside it, it is none.
	q := h.signed(server, request, "x")
	at := h.clock()
	renewal := pki.Renewal{Certificate: q.Certificate, CSR: q.CSR, RequestID: q.RequestID, At: at}
	signature, err := renewal.Sign(q.Key)
	if err != nil {
		t.Fatal(err)
	}
	_, another := csr(t)
	body := func(csr []byte, id string) string {
		b := base64.StdEncoding.EncodeToString
		return `{"csr_der":"` + b(csr) + `","request_id":"` + id + `","proof":{"certificate_der":"` + b(q.Certificate) + `","signed_at":"` +
			at.UTC().Truncate(time.Second).Format(time.RFC3339) + `","signature":"` + b(signature) + `"}}`
	}
	for name, row := range map[string]struct {
		text   string
		status int
	}{"another CSR": {body(another, "x"), 401}, "another request id": {body(request, "y"), 401}, "as it was signed": {body(request, "x"), 200}} {
		if a := h.rest("", nil, http.MethodPost, "/v1/certificates:renew", row.text); a.Status != row.status {
			t.Errorf("%s over REST: %d %s", name, a.Status, a.Text)
		}
	}
}

// What has ended proves nothing, and neither does a grant to issue follow from a renewal.
func TestRenewalOfWhatHasEnded(t *testing.T) {
	h := newHouse(t)
	admin := h.grpc(h.token(auth.Spec{Name: "root", Role: auth.RoleAdmin, Lifetime: 30 * 24 * time.Hour}), nil)
	_, request := csr(t)
	reasons := map[string]pki.Reason{"revoked": pki.Superseded, "on hold": pki.CertificateHold}
	for _, end := range []string{"revoked", "on hold", "expired"} {
		old := h.pair("client", 48*time.Hour, "a.example")
		if end == "revoked" {
			if _, err := admin.Revoke(t.Context(), client.RevokeRequest{Certificate: old.Certificate[0], Reason: pki.Superseded}); err != nil {
				t.Fatal(err)
			}
		}
		if end == "on hold" {
			serial, err := pki.SerialFromBig(old.Leaf.SerialNumber)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := admin.Hold(t.Context(), client.HoldRequest{Issuer: h.issuing.ID, Serial: serial}); err != nil {
				t.Fatal(err)
			}
		}
		if end == "expired" {
			h.later(48 * time.Hour)
		}
		for by, c := range map[string]*client.Client{"TLS": h.grpc("", old), "signature": h.grpc("", nil)} {
			q := client.RenewRequest{CSR: request}
			if by == "signature" {
				q = h.signed(old, request, "")
			}
			_, err := c.Renew(t.Context(), q)
			if pki.KindOf(err) != pki.KindUnauthenticated {
				t.Errorf("%s, by %s: %v", end, by, err)
			}
			reason, revoked := reasons[end]
			if why, ok := errors.AsType[*pki.Revoked](err); ok != revoked || ok && (why.Reason != reason || why.Error() == "") {
				t.Errorf("%s, by %s: the reason is %+v", end, by, why)
			}
			if _, err := c.Issue(t.Context(), client.IssueRequest{CSR: request, Profile: "client", Identifiers: []string{"a.example"}}); pki.KindOf(err) != pki.KindUnauthenticated {
				t.Errorf("%s, by %s: it may issue: %v", end, by, err)
			}
		}
	}
}

func TestRenewalsAreCounted(t *testing.T) {
	h := newHouse(t)
	old := h.pair("server", 48*time.Hour, "a.example")
	c := h.grpc("", nil)
	_, request := csr(t)
	for range 10 {
		if _, err := c.Renew(t.Context(), h.signed(old, request, "")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Renew(t.Context(), h.signed(old, request, "")); pki.KindOf(err) != pki.KindExhausted {
		t.Errorf("the eleventh: %v", err)
	}
	if _, err := c.Renew(t.Context(), h.signed(h.pair("server", 48*time.Hour, "b.example"), request, "")); err != nil {
		t.Errorf("another name: %v", err)
	}
	h.later(time.Minute)
	if _, err := c.Renew(t.Context(), h.signed(old, request, "")); err != nil {
		t.Errorf("a minute later: %v", err)
	}
}
