// Package invariant checks from the outside that the invariants of a running Signet hold (docs/ARCHITECTURE.md, "What
// must always hold"), as a client of the API and of the public listener. Every whole-system test calls All after each of
// its actions.
package invariant

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"signet.example/signet/api/client"
	"signet.example/signet/crl"
	"signet.example/signet/ocsp"
	"signet.example/signet/pki"
)

// System is a running Signet.
type System struct {
	API *client.Client // of an administrator

	// Issued are certificates (DER) that left a process of the system: each must be known.
	Issued [][]byte
}

// settle is how long products may take to follow the ledger before a disagreement counts. It bounds a test that fails;
// one that holds does not wait for it.
const settle = time.Minute

// All checks every invariant.
func All(t testing.TB, s System) {
	t.Helper()
	Issued(t, s)
	Published(t, s)
	Audited(t, s)
}

// Issued checks that every certificate that left the process is recorded, octet for octet.
func Issued(t testing.TB, s System) {
	t.Helper()
	known := make(map[string]bool)
	for _, c := range inventory(t, s) {
		known[string(c.DER)] = true
	}
	for _, der := range s.Issued {
		if !known[string(der)] {
			t.Errorf("a certificate that was handed out is not in the inventory: %s", describe(der))
		}
	}
}

// Published checks that ledger, complete list, shard, base with delta, and OCSP agree about every certificate ever
// issued.
func Published(t testing.TB, s System) {
	t.Helper()
	var disagreements []string
	for deadline := time.Now().Add(settle); ; time.Sleep(20 * time.Millisecond) {
		disagreements = disagreementsNow(t, s)
		if len(disagreements) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("products disagree with the ledger:\n%s", strings.Join(disagreements, "\n"))
			return
		}
	}
}

// Audited checks that the audit log is whole and holds an event for every certificate and every revocation.
func Audited(t testing.TB, s System) {
	t.Helper()
	report, err := s.API.VerifyAudit(t.Context(), "")
	if err != nil {
		t.Fatalf("verify audit log: %v", err)
	}
	if !report.Intact {
		t.Errorf("the audit log is not whole: %s", report.Finding)
	}
	issued, revoked := make(map[string]bool), make(map[string]bool)
	for e, err := range s.API.AllAuditEvents(t.Context(), client.AuditFilter{PageSize: 1000}) {
		switch {
		case err != nil:
			t.Fatalf("read audit log: %v", err)
		case e.Outcome != "ok":
		case e.Action == "certificate.issue":
			issued[e.Target] = true
		case strings.HasPrefix(e.Action, "certificate."):
			revoked[e.Target] = true
		}
	}
	for _, c := range inventory(t, s) {
		target := "issuer/" + c.Issuer.String() + "/serial/" + c.Serial.String()
		if !issued[target] {
			t.Errorf("no audit event says that %s was issued", target)
		}
		if c.Revocation != nil && !revoked[target] {
			t.Errorf("no audit event says that %s was revoked", target)
		}
	}
}

// inventory lists every certificate.
func inventory(t testing.TB, s System) []client.Certificate {
	t.Helper()
	var all []client.Certificate
	for c, err := range s.API.AllCertificates(t.Context(), client.CertificateFilter{}) {
		if err != nil {
			t.Fatalf("list certificates: %v", err)
		}
		all = append(all, c)
	}
	return all
}

// issuer is an authority with its complete list, and its delta.
type issuer struct {
	certificate     *x509.Certificate
	complete, delta *crl.List // delta may be nil
}

func disagreementsNow(t testing.TB, s System) (found []string) {
	t.Helper()
	issuers := readIssuers(t, s)
	shards := make(map[string]*crl.List)
	for _, c := range inventory(t, s) {
		by := issuers[c.Issuer]
		if by == nil {
			found = append(found, fmt.Sprintf("%s: its issuer is not listed", c.Serial))
			continue
		}
		leaf, err := x509.ParseCertificate(c.DER)
		if err != nil {
			t.Fatal(err)
		}
		if c.NotAfter.Before(time.Now()) {
			continue
		}
		want := c.Revocation != nil
		say := func(product string, is bool, err error) {
			if err != nil {
				found = append(found, fmt.Sprintf("%s: %s: %v", c.Serial, product, err))
			} else if is != want {
				found = append(found, fmt.Sprintf("%s: revoked is %v by the ledger and %v by %s", c.Serial, want, is, product))
			}
		}
		say("the complete list", on(by.complete, by.delta, leaf), nil)
		for _, url := range leaf.CRLDistributionPoints {
			if shards[url] == nil {
				if shards[url], err = readList(t.Context(), url, by.certificate); err != nil {
					say("shard "+url, false, err)
					continue
				}
			}
			say("shard "+url, on(shards[url], nil, leaf), nil)
		}
		for _, url := range leaf.OCSPServer {
			is, err := askOCSP(t.Context(), url, leaf, by.certificate)
			say("OCSP", is, err)
		}
	}
	return found
}

// readIssuers reads every issuer with its complete list.
func readIssuers(t testing.TB, s System) map[pki.IssuerID]*issuer {
	t.Helper()
	listed, err := s.API.Issuers(t.Context())
	if err != nil {
		t.Fatalf("list issuers: %v", err)
	}
	all := make(map[pki.IssuerID]*issuer)
	for _, i := range listed {
		if len(i.Certificates) == 0 {
			continue
		}
		certificate, err := x509.ParseCertificate(i.Certificates[0])
		if err != nil {
			t.Fatal(err)
		}
		by := &issuer{certificate: certificate}
		if by.complete, err = readList(t.Context(), i.BaseURL+"/crl/"+i.ID.String()+".crl", certificate); err != nil {
			t.Fatalf("complete list of %s: %v", i.Label, err)
		}
		if len(by.complete.Freshest) > 0 {
			if by.delta, err = readList(t.Context(), i.BaseURL+"/crl/"+i.ID.String()+"/delta.crl", certificate); err != nil {
				t.Fatalf("delta of %s: %v", i.Label, err)
			}
			// A delta of an older base says nothing beside a newer one (RFC 5280, Section 6.3.3 (c)).
			if by.complete.AcceptsDelta(by.delta) != nil {
				by.delta = nil
			}
		}
		all[i.ID] = by
	}
	return all
}

// on reports whether a list, brought up to date by a delta, revokes a certificate.
func on(list, delta *crl.List, leaf *x509.Certificate) bool {
	serial, err := pki.SerialFromBig(leaf.SerialNumber)
	if err != nil {
		return false
	}
	octets := serial.Integer()
	if delta != nil {
		if entry, ok := delta.Lookup(octets, leaf.RawIssuer); ok {
			return entry.Reason != pki.RemoveFromCRL
		}
	}
	_, ok := list.Lookup(octets, leaf.RawIssuer)
	return ok
}

// readList fetches a list and believes it only if it is the issuer's, in time, and read alike by crypto/x509.
func readList(ctx context.Context, url string, signer *x509.Certificate) (*crl.List, error) {
	der, err := get(ctx, url, nil)
	if err != nil {
		return nil, err
	}
	list, err := crl.Parse(der)
	if err != nil {
		return nil, err
	}
	if err := list.Verify(signer); err != nil {
		return nil, err
	}
	if now := time.Now(); now.After(list.NextUpdate) {
		return nil, fmt.Errorf("stale since %s", list.NextUpdate)
	}
	second, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, fmt.Errorf("crypto/x509: %w", err)
	}
	if err := second.CheckSignatureFrom(signer); err != nil {
		return nil, fmt.Errorf("crypto/x509: %w", err)
	}
	if len(second.RevokedCertificateEntries) != list.Len() {
		return nil, fmt.Errorf("crypto/x509 reads %d entries, we read %d", len(second.RevokedCertificateEntries), list.Len())
	}
	return list, nil
}

func askOCSP(ctx context.Context, url string, leaf, by *x509.Certificate) (revoked bool, err error) {
	named, err := ocsp.IssuerOf(by)
	if err != nil {
		return false, err
	}
	serial, err := ocsp.SerialOf(leaf)
	if err != nil {
		return false, err
	}
	request, err := ocsp.NewRequest(named.CertID(crypto.SHA256, serial)).Marshal()
	if err != nil {
		return false, err
	}
	answer, err := get(ctx, url, request)
	if err != nil {
		return false, err
	}
	said, err := ocsp.Verify(answer, ocsp.Query{Certificate: leaf, Issuers: []*x509.Certificate{by}, Time: time.Now(), Skew: time.Minute})
	if err != nil {
		return false, err
	}
	if said.Status != pki.StatusGood && said.Status != pki.StatusRevoked {
		return false, fmt.Errorf("it says %s", said.Status)
	}
	return said.Status == pki.StatusRevoked, nil
}

// get fetches a URL, or posts an OCSP request to it.
func get(ctx context.Context, url string, ocspRequest []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	method, body := http.MethodGet, io.Reader(nil)
	if ocspRequest != nil {
		method, body = http.MethodPost, bytes.NewReader(ocspRequest)
	}
	request, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/ocsp-request")
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", url, answer.Status)
	}
	return io.ReadAll(io.LimitReader(answer.Body, 64<<20))
}

func describe(der []byte) string {
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%s, serial %x", leaf.Subject, leaf.SerialNumber)
}
