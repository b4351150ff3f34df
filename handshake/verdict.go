package handshake

import (
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"time"

	"signet.example/signet/handshake/fetch"
	"signet.example/signet/pki"
)

// Source says where a piece of evidence comes from.
type Source uint8

// The sources, in the order in which they are asked.
const (
	SourceNone        Source = iota
	SourceMemory             // a revocation that was seen before and is remembered
	SourceCertificate        // the certificate itself: noRevAvail, ocsp-nocheck, or no pointer to any source
	SourceStaple             // an OCSP response delivered in the handshake
	SourceCRL                // a complete or sharded CRL
	SourceDelta              // a delta CRL
	SourceOCSP               // an OCSP responder asked over the network, or its kept answer
)

var sourceNames = [...]string{"none", "memory", "certificate", "staple", "crl", "delta", "ocsp"}

// String returns a lower-case word for people and programs.
func (s Source) String() string {
	if int(s) < len(sourceNames) {
		return sourceNames[s]
	}
	return sourceNames[SourceNone]
}

// Evidence is what one source said about one certificate.
type Evidence struct {
	Source   Source
	Status   pki.Status
	Location string // URL or file name the evidence came from; empty for a staple
	Cached   bool   // no network was touched for it in this check

	Reason    pki.Reason // of a revocation
	RevokedAt time.Time  // of a revocation; zero if the source gives none
	Final     bool       // a revocation that cannot be taken back: neither a hold nor an answer for a serial that was never issued

	ThisUpdate time.Time     // when the source knew this to be true
	NextUpdate time.Time     // when newer information is due; zero if the source does not say
	Age        time.Duration // of ThisUpdate at the time of the check
	Number     *big.Int      // CRL number; nil if there is none

	Err error // why Status is Stale, Unreachable or Invalid; nil otherwise
}

// String returns one line: where the evidence comes from, what it says, and why it does not count if it does not.
func (e Evidence) String() string {
	text := e.place() + ": " + e.Status.String()
	failed, ok := errors.AsType[*fetch.Error](e.Err)
	switch {
	case ok && failed.Cause == fetch.TimedOut:
		return text + ": no answer in time"
	case ok:
		return text + ": " + failed.Err.Error() // where from has been said
	case e.Err != nil:
		return text + ": " + e.Err.Error()
	}
	return text
}

// place says where the evidence comes from.
func (e Evidence) place() string {
	if e.Location == "" {
		return e.Source.String()
	}
	return fmt.Sprintf("%s %.200s", e.Source, e.Location)
}

// CertificateResult is the outcome for one certificate of the chain.
type CertificateResult struct {
	Certificate *x509.Certificate
	Issuer      *x509.Certificate
	Status      pki.Status
	Decisive    *Evidence  // the evidence Status rests on; nil if there is none
	Evidence    []Evidence // everything that was asked, in order
	Covered     bool       // Config.Issuers names a source for this issuer
	Policy      Policy     // that applied to this certificate, HardFailIfCovered already resolved
	Err         error      // why this certificate is refused or, under ReportOnly, would be: one of the error types of this package; nil if it is not
}

// Decision is the outcome of a handshake. Zero is a refusal.
type Decision uint8

// The decisions.
const (
	Refused            Decision = iota
	Accepted                    // every certificate of the chain is good, or exempt by design
	AcceptedUnproved            // the policy tolerates that the status of a certificate is not known
	AcceptedReportOnly          // ReportOnly accepted what would have been refused
	AcceptedOverridden          // the Override callback accepted what the policy refused
)

var decisionNames = [...]string{"refused", "accepted", "accepted-unproved", "accepted-report-only", "accepted-overridden"}

// String returns a lower-case word for people, programs and metric labels.
func (d Decision) String() string {
	if int(d) < len(decisionNames) {
		return decisionNames[d]
	}
	return decisionNames[Refused]
}

// Result is the findings and the decision of a check. Only this package makes one that accepts; the zero Result refuses.
type Result struct {
	Time         time.Time
	ServerName   string              // the name or address that was checked; empty for a client's certificate
	Chain        []*x509.Certificate // leaf first, trust anchor last; as presented if no chain leads to an anchor
	Trust        error               // nil, or an *UntrustedError
	Certificates []CertificateResult // leaf first, without the trust anchor; if the chain fails only by name, usage or time: from local evidence
	Resumed      bool                // the connection resumed a session: the staple is that of the first connection

	decision   Decision
	err        error
	unverified bool // no chain verified; Certificates are of one that nearly did
}

// Decision returns the outcome of the handshake.
func (r *Result) Decision() Decision { return r.decision }

// Err returns nil exactly if the connection is accepted. Otherwise it returns why not: the lack of trust, or the error
// of one certificate, a revocation first, else the nearest to the leaf.
func (r *Result) Err() error {
	if r.decision != Refused {
		return nil
	}
	if r.err == nil {
		return errNoDecision
	}
	return r.err
}

// Objection returns why the policy refused, or would have refused under ReportOnly or without an Override. It is nil if
// there was no objection.
func (r *Result) Objection() error {
	switch {
	case r.err != nil:
		return r.err
	case r.Trust != nil:
		return r.Trust
	}
	return worst(r.Certificates, func(*CertificateResult) bool { return true })
}
