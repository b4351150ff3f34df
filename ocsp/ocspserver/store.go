package ocspserver

import (
	"context"
	"crypto/x509"
	"sync/atomic"
	"time"

	"signet.example/signet/ocsp"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
)

// Universe is where a Responder looks up status: a *revocation.Universe.
type Universe interface {
	// Lookup returns the facts about a serial.
	Lookup(ctx context.Context, issuer pki.IssuerID, serial pki.Serial) (revocation.Answer, error)

	// Seq is the sequence up to which every entry of the ledger is applied. Lookup includes at least those.
	Seq() uint64

	// AsOf is the time up to which Lookup is known to be correct. It stays behind while the database does not answer.
	AsOf() time.Time
}

// Delegates provides the keys that answer for issuers. It is safe for concurrent use and does not block.
type Delegates interface {
	// Current returns the delegate to sign with now. The error is of KindUnavailable if there is none.
	Current(issuer pki.IssuerID) (*Delegate, error)
}

// Delegate is a responder's key with the certificate that an issuer made for it.
type Delegate struct {
	Certificate *x509.Certificate
	Signer      *ocsp.Signer

	dropped atomic.Bool // the key is lost: answers signed with it are no longer given
}

// Certifier signs responder certificates. On an instance that issues it is the ca.
type Certifier interface {
	// CertifyResponder issues a certificate for the key of a PKCS #10 request; nothing else in the request counts. It
	// is issued directly under the issuer, with id-kp-OCSPSigning, digitalSignature and id-pkix-ocsp-nocheck, without
	// AIA and CDP, for 7 days from about now or until the issuer's own certificate expires. It returns the DER. The
	// issuance is audited like any other.
	CertifyResponder(ctx context.Context, issuer pki.IssuerID, csr []byte) ([]byte, error)

	// Lacks reports whether the key of an issuer is not at this instance, so that its requests are left to others. It
	// changes nothing.
	Lacks(ctx context.Context, issuer pki.IssuerID) bool
}

// Responders is the table through which responders and issuing instances find each other. Its rows are bookkeeping,
// like heartbeats; the audit log records the issuance itself.
type Responders interface {
	// RequestResponder requests a certificate for a responder's key under an issuer. Requesting again, while the
	// request is open or after it was answered, reopens it.
	RequestResponder(ctx context.Context, request ResponderRequest) error

	// ClaimResponders claims and returns at most limit open requests, oldest first, that were not claimed in the last
	// minute, except those of some issuers. Rows of responders that have made no request for 30 days are removed.
	ClaimResponders(ctx context.Context, except []pki.IssuerID, limit int) ([]ResponderRequest, error)

	// RecordResponder stores the certificate (DER) that answers a request and closes the request. The error is
	// KindNotFound if there is no such request.
	RecordResponder(ctx context.Context, issuer pki.IssuerID, key pki.KeyHash, certificate []byte) error

	// ResponderCertificates returns the last certificate (DER) of a key under each issuer that has certified it.
	ResponderCertificates(ctx context.Context, key pki.KeyHash) (map[pki.IssuerID][]byte, error)
}

// ResponderRequest is a request for a certificate for a responder's key.
type ResponderRequest struct {
	Issuer pki.IssuerID
	Key    pki.KeyHash // the responder's
	CSR    []byte      // PKCS #10 DER, signed by the key
}
