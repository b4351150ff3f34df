package main

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"math/big"
	"strings"
	"testing"
	"time"

	"signet.example/signet/ocsp"
	"signet.example/signet/pki"
)

// TestAnswerNeverIssued: RFC 6960, Section 2.2, encodes "never issued" as a hold since 1970; users are not shown that.
func TestAnswerNeverIssued(t *testing.T) {
	said := ocsp.Result{
		Status: pki.StatusRevoked, Reason: pki.CertificateHold, RevokedAt: time.Unix(0, 0), NeverIssued: true, ThisUpdate: time.Unix(1e9, 0),
		Responder: ocsp.Responder{Certificate: &x509.Certificate{}},
	}
	answer := describeAnswer(&x509.Certificate{SerialNumber: big.NewInt(7)}, "http://pki.example/ocsp", said, nil)
	var text bytes.Buffer
	printAnswer(&printer{w: &text}, "app.pem", answer, said)
	if got := text.String(); !strings.HasPrefix(got, "app.pem: not-issued\n") || strings.Contains(got, "1970") || strings.Contains(got, "Hold") || !strings.Contains(got, "next: ") {
		t.Error(got)
	}
	fields, err := json.Marshal(answer)
	if got := string(fields); err != nil || !strings.Contains(got, `"status":"not-issued"`) || strings.Contains(got, "1970") || strings.Contains(got, "reason") {
		t.Error(got, err)
	}
}
