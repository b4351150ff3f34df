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

// Universe is what a Responder asks for status: a *revocation.Universe.
type Universe interface {
	// Lookup answers for a serial.
	Lookup(ctx context.Context, issuer pki.IssuerID, serial pki.Serial) (revocation.Answer, error)

	// Seq is the sequence up to which every entry of the ledger is applied: Lookup answers from at least there.
	Seq() uint64

	// AsOf is the time up to which Lookup is known to be right; it stays behind while the database does not answer.
	AsOf() time.Time
}

// Delegates gives the key that answers for an issuer. It is safe for concurrent use and does not block.
type Delegates interface {
	// Current returns the delegate to sign with now. The error is of KindUnavailable if there is none.
	Current(issuer pki.IssuerID) (*Delegate, error)
}

// Delegate is a responder's key that an issuer has certified.
type Delegate struct {
	Certificate *x509.Certificate
	Signer      *ocsp.Signer

	dropped atomic.Bool // its key is in the wrong hands: no answer signed with it is given any more
}

// Certifier signs responder certificates: on an instance that issues, the ca.
type Certifier interface {
	// CertifyResponder issues a certificate for the key of a PKCS #10 request, and for nothing else in it, directly
	// under the issuer: for id-kp-OCSPSigning and digitalSignature, with id-pkix-ocsp-nocheck, without AIA and CDP, for
	// 7 days from about now, or until the issuer's own certificate ends. It returns the DER. It is audited as any issuance.
	CertifyResponder(ctx context.Context, issuer pki.IssuerID, csr []byte) ([]byte, error)

	// Lacks reports whether the key of an issuer is not at this instance: what is asked of it is left to others. It writes nothing down.
	Lacks(ctx context.Context, issuer pki.IssuerID) bool
}

// Responders is the table through which responders and issuing instances find each other. Its rows are bookkeeping, as
// heartbeats are; what is audited is the issuance itself.
type Responders interface {
	// RequestResponder asks for a certificate of a responder's key under an issuer. Asking again, while the request is
	// open or after it was answered, opens it anew.
	RequestResponder(ctx context.Context, request ResponderRequest) error

	// ClaimResponders returns open requests of all issuers but some, oldest first, at most limit, that nobody has claimed in the
	// last minute, and claims them. Rows of responders that have not asked for 30 days are removed.
	ClaimResponders(ctx context.Context, except []pki.IssuerID, limit int) ([]ResponderRequest, error)

	// RecordResponder stores the certificate (DER) that answers a request and closes it. KindNotFound if there is none.
	RecordResponder(ctx context.Context, issuer pki.IssuerID, key pki.KeyHash, certificate []byte) error

	// ResponderCertificates returns the last certificate (DER) of a key under each issuer that has certified it.
	ResponderCertificates(ctx context.Context, key pki.KeyHash) (map[pki.IssuerID][]byte, error)
}

// ResponderRequest is a responder's key that wants a certificate.
type ResponderRequest struct {
	Issuer pki.IssuerID
	Key    pki.KeyHash // of the responder
	CSR    []byte      // PKCS #10 DER, signed by the key
}
