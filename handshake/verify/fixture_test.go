//go:debug x509negativeserial=1

package verify_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"signet.example/signet/handshake/verify"
)

// now is the time of every case that does not say otherwise.
var now = time.Date(2026, 9, 1, 0, 0, 0, 0, time.UTC)

// entity is a certificate with its key.
type entity struct {
	*x509.Certificate
	key    crypto.Signer
	issuer *entity
}

func newKey(t testing.TB) crypto.Signer {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

var lastSerial int64 = 100

// issue makes a certificate; change sees the template before it is signed.
func issue(t testing.TB, name string, issuer *entity, ca bool, change func(*x509.Certificate)) *entity {
	t.Helper()
	lastSerial++
	template := &x509.Certificate{
		SerialNumber: big.NewInt(lastSerial), Subject: pkix.Name{CommonName: name}, NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(1, 0, 0),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature, DNSNames: []string{name + ".test"},
		SubjectKeyId: []byte{byte(lastSerial >> 8), byte(lastSerial)},
	}
	if ca {
		template.IsCA, template.DNSNames, template.KeyUsage = true, nil, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
	}
	e := &entity{key: newKey(t), issuer: issuer}
	if change != nil {
		change(template)
	}
	parent, signer := template, e.key
	if issuer != nil {
		parent, signer = issuer.Certificate, issuer.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, e.key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	if e.Certificate, err = verify.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return e
}

// list makes a CRL; change sees the template before it is signed.
func (e *entity) list(t testing.TB, change func(*x509.RevocationList), revoked ...*entity) verify.DER {
	t.Helper()
	template := &x509.RevocationList{Number: big.NewInt(7), ThisUpdate: now.Add(-time.Hour), NextUpdate: now.Add(time.Hour)}
	for _, r := range revoked {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries, x509.RevocationListEntry{
			SerialNumber: r.SerialNumber, RevocationTime: now.Add(-2 * time.Hour), ReasonCode: 1,
		})
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, e.Certificate, e.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// response makes an OCSP response about e, signed by its issuer or by the delegate.
func (e *entity) response(t testing.TB, status int, delegate *entity, change func(*ocsp.Response)) verify.DER {
	t.Helper()
	template := ocsp.Response{
		SerialNumber: e.SerialNumber, Status: status, ThisUpdate: now.Add(-time.Hour), NextUpdate: now.Add(time.Hour), RevokedAt: now.Add(-2 * time.Hour),
		RevocationReason: ocsp.KeyCompromise,
	}
	signer := e.issuer
	if delegate != nil {
		signer, template.Certificate = delegate, delegate.Certificate
	}
	if change != nil {
		change(&template)
	}
	der, err := ocsp.CreateResponse(e.issuer.Certificate, signer.Certificate, template, signer.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func ders(list ...*entity) []verify.DER {
	var out []verify.DER
	for _, e := range list {
		out = append(out, e.Raw)
	}
	return out
}

// element encodes one DER element of at most 127 octets.
func element(tag byte, content ...byte) []byte {
	if len(content) > 127 {
		panic("fixture too long")
	}
	return append([]byte{tag, byte(len(content))}, content...)
}

// uriPoint is the DER of a distribution point with one URI and, unless zero, some reasons.
func uriPoint(uri string, reasons byte) []byte {
	point := element(0xa0, element(0xa0, element(0x86, []byte(uri)...)...)...)
	if reasons != 0 {
		point = append(point, element(0x81, 0, reasons)...)
	}
	return element(0x30, point...)
}

// points is the extension with these distribution points.
func points(list ...[]byte) pkix.Extension {
	var content []byte
	for _, p := range list {
		content = append(content, p...)
	}
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 31}, Value: element(0x30, content...)}
}

// scope is a critical issuing distribution point with these fields.
func scope(fields ...[]byte) pkix.Extension {
	var content []byte
	for _, f := range fields {
		content = append(content, f...)
	}
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: element(0x30, content...)}
}

func scopeURI(uri string) []byte {
	return element(0xa0, element(0xa0, element(0x86, []byte(uri)...)...)...)
}

func with(extensions ...pkix.Extension) func(*x509.RevocationList) {
	return func(l *x509.RevocationList) { l.ExtraExtensions = append(l.ExtraExtensions, extensions...) }
}

func deltaOf(base int64) pkix.Extension {
	value, err := asn1.Marshal(big.NewInt(base))
	if err != nil {
		panic(err)
	}
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 27}, Critical: true, Value: value}
}

// resign signs a changed TBSCertificate with the issuer's key.
func resign(t testing.TB, tbs []byte, e, issuer *entity) []byte {
	t.Helper()
	digest := sha256.Sum256(tbs)
	signature, err := issuer.key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	der, err := asn1.Marshal(struct {
		TBS       asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{asn1.RawValue{FullBytes: tbs}, pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}}, asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)}})
	if err != nil {
		t.Fatal(err)
	}
	return der
}
