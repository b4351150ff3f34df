package ocsp_test

import (
	"bytes"
	"context"
	"crypto"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	xocsp "golang.org/x/crypto/ocsp"

	"signet.example/signet/ocsp"
	"signet.example/signet/pki"
)

// TestResponseAgainstOther writes responses that x/crypto/ocsp reads, with the same meaning, and reads its own.
func TestResponseAgainstOther(t *testing.T) {
	w := newWorld(t)
	for _, kind := range []string{"P-256", "P-384", "RSA"} {
		responder := issue(t, w.ca, kind, newKey(t, kind), delegate)
		for _, c := range []struct {
			status pki.Status
			reason pki.Reason
			theirs int
		}{
			{pki.StatusGood, 0, xocsp.Good}, {pki.StatusUnknown, 0, xocsp.Unknown},
			{pki.StatusRevoked, pki.Unspecified, xocsp.Revoked}, {pki.StatusRevoked, pki.KeyCompromise, xocsp.Revoked}, {pki.StatusRevoked, pki.AACompromise, xocsp.Revoked},
		} {
			d := w.good(t)
			a := &d.Answers[0]
			a.Status, a.Reason = c.status, c.reason
			if c.status == pki.StatusRevoked {
				a.RevokedAt = now.Add(-time.Hour)
			}
			theirs, err := xocsp.ParseResponseForCert(sign(t, responder, d), w.leaf.cert, w.ca.cert)
			if err != nil {
				t.Fatalf("%s, %s: x/crypto/ocsp: %v", kind, c.status, err)
			}
			if theirs.Status != c.theirs || theirs.RevocationReason != int(c.reason) || !theirs.ThisUpdate.Equal(a.ThisUpdate) ||
				!theirs.NextUpdate.Equal(a.NextUpdate) || !theirs.ProducedAt.Equal(now) || c.status == pki.StatusRevoked && !theirs.RevokedAt.Equal(a.RevokedAt) {
				t.Errorf("%s, %s: x/crypto/ocsp reads %+v", kind, c.status, theirs)
			}

			der, err := xocsp.CreateResponse(w.ca.cert, responder.cert, xocsp.Response{
				Status: c.theirs, SerialNumber: w.leaf.cert.SerialNumber, Certificate: responder.cert, RevokedAt: now.Add(-time.Hour),
				RevocationReason: int(c.reason), ThisUpdate: now, NextUpdate: now.Add(time.Hour),
			}, responder.key)
			if err != nil {
				t.Fatal(err)
			}
			q := w.query()
			q.Certificate, q.Serial = nil, serialOf(t, w.leaf) // it dates production by the machine's clock
			if ours, err := ocsp.Verify(der, q); err != nil || ours.Status != c.status || ours.Reason != c.reason {
				t.Errorf("%s, %s: we read %s, %s, %v", kind, c.status, ours.Status, ours.Reason, err)
			}
		}
	}
}

// openssl runs the command with a deadline and returns what it printed.
func openssl(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "openssl", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func writePEM(t *testing.T, dir, name, kind string, der []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestInteropOpenSSL: OpenSSL reads our requests and responses, and we read its requests.
func TestInteropOpenSSL(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	ca := writePEM(t, dir, "ca.pem", "CERTIFICATE", w.ca.cert.Raw)
	leaf := writePEM(t, dir, "leaf.pem", "CERTIFICATE", w.leaf.cert.Raw)
	sibling := writePEM(t, dir, "sibling.pem", "CERTIFICATE", w.sibling.cert.Raw)
	written := filepath.Join(dir, "theirs.der")
	openssl(t, "ocsp", "-issuer", ca, "-sha256", "-cert", leaf, "-sha1", "-cert", sibling, "-nonce", "-reqout", written)
	der, err := os.ReadFile(written)
	if err != nil {
		t.Fatal(err)
	}
	request, err := ocsp.ParseRequest(der)
	if err != nil {
		t.Fatal(err)
	}
	if len(request.Items) != 2 || !request.Items[0].ID.Equal(certID(t, w.ca.cert, w.leaf.cert, crypto.SHA256)) ||
		!request.Items[1].ID.Equal(certID(t, w.ca.cert, w.sibling.cert, crypto.SHA1)) || len(request.Nonce) < 16 {
		t.Errorf("OpenSSL's request reads as %+v", request)
	}

	ours := filepath.Join(dir, "ours.der")
	if again, err := request.Marshal(); err != nil || !bytes.Equal(again, der) {
		t.Errorf("encoding OpenSSL's request again differs: %v", err)
	}
	if err := os.WriteFile(ours, der, 0o600); err != nil {
		t.Fatal(err)
	}
	d := ocsp.ResponseData{ProducedAt: now, Nonce: request.Nonce, Answers: []ocsp.SingleResponse{
		{ID: request.Items[0].ID, Status: pki.StatusRevoked, Reason: pki.KeyCompromise, RevokedAt: now.Add(-time.Hour), ThisUpdate: now, NextUpdate: now.Add(time.Hour)},
		{ID: request.Items[1].ID, Status: pki.StatusGood, ThisUpdate: now, NextUpdate: now.Add(time.Hour), ArchiveCutoff: now.Add(-time.Hour)},
	}, ExtendedRevoke: true}
	response := filepath.Join(dir, "response.der")
	for _, kind := range []string{"P-256", "P-521", "RSA", "Ed25519"} {
		responder := issue(t, w.ca, kind, newKey(t, kind), delegate)
		if err := os.WriteFile(response, sign(t, responder, d), 0o600); err != nil {
			t.Fatal(err)
		}
		out := openssl(t, "ocsp", "-no_nonce", "-reqin", ours, "-respin", response, "-CAfile", ca, "-issuer", ca, "-sha256", "-cert", leaf, "-sha1", "-cert", sibling,
			"-attime", "1795176000", "-status_age", "999999999", "-validity_period", "999999999", "-resp_text")
		for _, want := range []string{"Response verify OK", "leaf.pem: revoked", "Reason: keyCompromise", "sibling.pem: good", "OCSP Archive Cutoff", "OCSP Nonce"} {
			if !strings.Contains(out, want) {
				t.Errorf("%s: OpenSSL does not print %q:\n%s", kind, want, out)
			}
		}
	}
}

// TestUnknownReason: a revocation for a reason that the standard does not know is one, unspecified.
func TestUnknownReason(t *testing.T) {
	w := newWorld(t)
	for code, want := range map[int]pki.Reason{7: pki.Unspecified, 10: pki.AACompromise, 11: pki.Unspecified, 300: pki.Unspecified} {
		der, err := xocsp.CreateResponse(w.ca.cert, w.responder.cert, xocsp.Response{
			Status: xocsp.Revoked, SerialNumber: w.leaf.cert.SerialNumber, Certificate: w.responder.cert, RevokedAt: now.Add(-time.Hour),
			RevocationReason: code, ThisUpdate: now, NextUpdate: now.Add(time.Hour),
		}, w.responder.key)
		if err != nil {
			t.Fatal(err)
		}
		q := w.query()
		q.Certificate, q.Serial = nil, serialOf(t, w.leaf) // it dates production by the machine's clock
		if got, err := ocsp.Verify(der, q); err != nil || got.Status != pki.StatusRevoked || got.Reason != want {
			t.Errorf("reason %d is read as %s, %s, %v", code, got.Status, got.Reason, err)
		}
	}
}
