package ocsp

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"signet.example/signet/pki"
)

// Signer signs responses with one key. It is safe for concurrent use if the key is.
type Signer struct {
	key       responderKey
	id        []byte // SHA-1 of the key
	embedded  []byte // DER of the certificates field, empty if none
	NotBefore time.Time
	NotAfter  time.Time // the end of the responder's certificate; nothing that is signed may outlive it
}

// NewSigner returns a Signer for key, whose certificate is cert. Every response includes the certificate, because
// clients need that of a delegate (RFC 6960, Section 4.2.2.2). Keys may be ECDSA P-256, P-384 or P-521, RSA, Ed25519
// and, built with Go 1.27, ML-DSA.
func NewSigner(key crypto.Signer, cert *x509.Certificate) (*Signer, error) {
	issuer, err := IssuerOf(cert)
	if err != nil {
		return nil, fmt.Errorf("prepare OCSP signer: %w", err)
	}
	prepared, err := newResponderKey(key, cert)
	if err != nil {
		return nil, fmt.Errorf("prepare OCSP signer: %w", err)
	}
	var b cryptobyte.Builder
	b.AddASN1(asn1.Tag(0).Constructed().ContextSpecific(), func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(cert.Raw) })
	})
	embedded, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("prepare OCSP signer: %w", err)
	}
	return &Signer{key: prepared, id: issuer.ResponderKey(), embedded: embedded, NotBefore: cert.NotBefore, NotAfter: cert.NotAfter}, nil
}

// ResponseData is the content of a response, which the signature is over (RFC 6960, Section 4.2.1). Times are encoded
// in whole seconds of UTC.
type ResponseData struct {
	ProducedAt     time.Time
	Answers        []SingleResponse // at least one, at most MaxItems
	Nonce          []byte           // echoed; nil for none
	ExtendedRevoke bool             // must be set if an answer is NeverIssued
}

// Sign encodes and signs a draft as a complete response.
func (s *Signer) Sign(draft ResponseData) ([]byte, error) {
	data, err := draft.marshal(s.id)
	if err != nil {
		return nil, fmt.Errorf("encode OCSP response: %w", err)
	}
	signature, err := s.key.sign(data)
	if err != nil {
		return nil, fmt.Errorf("sign OCSP response: %w", err)
	}
	b := cryptobyte.NewBuilder(make([]byte, 0, len(data)+len(signature)+len(s.embedded)+64))
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Enum(int64(Successful))
		b.AddASN1(asn1.Tag(0).Constructed().ContextSpecific(), func(b *cryptobyte.Builder) {
			b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
				addBytes(b, asn1.OBJECT_IDENTIFIER, []byte(oidBasic))
				b.AddASN1(asn1.OCTET_STRING, func(b *cryptobyte.Builder) {
					b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
						b.AddBytes(data)
						b.AddBytes(s.key.algorithm)
						b.AddASN1BitString(signature)
						b.AddBytes(s.embedded)
					})
				})
			})
		})
	})
	der, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("encode OCSP response: %w", err)
	}
	return der, nil
}

// marshal encodes the ResponseData. It names the responder by key, which is shorter and required of new responders (RFC
// 9919, Section 2.2.1).
func (d ResponseData) marshal(responder []byte) ([]byte, error) {
	if err := d.validate(); err != nil {
		return nil, err
	}
	var extensions []Extension
	if d.ExtendedRevoke {
		extensions = append(extensions, Extension{ID: OIDExtendedRevoke, Value: null})
	}
	extensions, err := withNonce(extensions, d.Nonce)
	if err != nil {
		return nil, err
	}
	b := cryptobyte.NewBuilder(make([]byte, 0, 256))
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.Tag(2).Constructed().ContextSpecific(), func(b *cryptobyte.Builder) { b.AddASN1OctetString(responder) })
		b.AddASN1GeneralizedTime(d.ProducedAt.UTC())
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			for i := range d.Answers {
				d.Answers[i].add(b)
			}
		})
		addExtensions(b, 1, extensions)
	})
	return b.Bytes()
}

func (d ResponseData) validate() error {
	if len(d.Answers) == 0 || len(d.Answers) > MaxItems {
		return fmt.Errorf("%d answers: want 1 to %d", len(d.Answers), MaxItems)
	}
	for i := range d.Answers {
		a := &d.Answers[i]
		if a.ID.Hash == 0 {
			return errors.New("an answer names a certificate by an unknown hash")
		}
		if a.neverIssued() && !d.ExtendedRevoke {
			return errors.New("an answer says never issued, and the response does not say that it may (RFC 6960, Section 4.4.8)")
		}
		switch a.Status {
		case pki.StatusGood, pki.StatusRevoked, pki.StatusUnknown:
		default:
			return fmt.Errorf("OCSP cannot say %s", a.Status)
		}
	}
	return nil
}

func (a *SingleResponse) add(b *cryptobyte.Builder) {
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		addCertID(b, a.ID)
		a.addStatus(b)
		b.AddASN1GeneralizedTime(a.ThisUpdate.UTC())
		if !a.NextUpdate.IsZero() {
			b.AddASN1(asn1.Tag(0).Constructed().ContextSpecific(), func(b *cryptobyte.Builder) {
				b.AddASN1GeneralizedTime(a.NextUpdate.UTC())
			})
		}
		var extensions []Extension
		if !a.ArchiveCutoff.IsZero() {
			extensions = append(extensions, timeExtension(OIDArchiveCutoff, a.ArchiveCutoff))
		}
		if !a.InvalidityAt.IsZero() {
			extensions = append(extensions, timeExtension(OIDInvalidityDate, a.InvalidityAt))
		}
		addExtensions(b, 1, extensions)
	})
}

func (a *SingleResponse) addStatus(b *cryptobyte.Builder) {
	switch a.Status {
	case pki.StatusGood:
		b.AddASN1(asn1.Tag(0).ContextSpecific(), func(*cryptobyte.Builder) {})
	case pki.StatusRevoked:
		b.AddASN1(asn1.Tag(1).Constructed().ContextSpecific(), func(b *cryptobyte.Builder) {
			b.AddASN1GeneralizedTime(a.RevokedAt.UTC())
			if a.Reason != pki.Unspecified {
				b.AddASN1(asn1.Tag(0).Constructed().ContextSpecific(), func(b *cryptobyte.Builder) {
					b.AddASN1Enum(int64(a.Reason))
				})
			}
		})
	default:
		b.AddASN1(asn1.Tag(2).ContextSpecific(), func(*cryptobyte.Builder) {})
	}
}

func timeExtension(id OID, t time.Time) Extension {
	var b cryptobyte.Builder
	b.AddASN1GeneralizedTime(t.UTC())
	return Extension{ID: id, Value: b.BytesOrPanic()}
}
