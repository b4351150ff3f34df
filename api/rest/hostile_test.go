package rest_test

import (
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"strings"
	"testing"

	"signet.example/signet/api/client"
	"signet.example/signet/api/rpc"
	"signet.example/signet/internal/auth"
	"signet.example/signet/pki"
)

// requestOf is a request for a key that nobody has, with a signature that nobody made.
func requestOf(t *testing.T, public any) []byte {
	t.Helper()
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	body, err := asn1.Marshal(struct {
		Version    int
		Subject    pkix.RDNSequence
		Key        asn1.RawValue
		Attributes asn1.RawValue
	}{0, pkix.Name{CommonName: rpc.CompromiseName}.ToRDNSequence(), asn1.RawValue{FullBytes: spki}, asn1.RawValue{FullBytes: []byte{0xa0, 0}}})
	if err != nil {
		t.Fatal(err)
	}
	der, err := asn1.Marshal(struct {
		Body      asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{asn1.RawValue{FullBytes: body}, pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, Parameters: asn1.NullRawValue},
		asn1.BitString{Bytes: make([]byte, 512), BitLength: 4096}})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// A private key of 64 Ki bits signs for more than a minute, and any credential may show one.
func TestProofsByKeysOfAnyLength(t *testing.T) {
	h := newHouse(t)
	stranger := h.grpc(h.token(auth.Spec{Name: "stranger", Role: auth.RoleAuditor}), nil)
	long := new(big.Int).Add(new(big.Int).Lsh(big.NewInt(1), 8192), big.NewInt(1))
	_, err := stranger.BlockKey(t.Context(), client.BlockRequest{ProofCSRPEM: pemText(t, "CERTIFICATE REQUEST", requestOf(t, &rsa.PublicKey{N: long, E: 65537}), nil)})
	if pki.KindOf(err) != pki.KindInvalid || fieldOf(err) != "proof_csr_pem" || !strings.Contains(err.Error(), "8193 bits") {
		t.Errorf("a request for a long key: %v", err)
	}
	_, err = stranger.BlockKey(t.Context(), client.BlockRequest{PrivateKeyPEM: pemText(t, "RSA PRIVATE KEY", make([]byte, 17<<10), nil)})
	if pki.KindOf(err) != pki.KindInvalid || fieldOf(err) != "private_key_pem" || !strings.Contains(err.Error(), "17408 octets") {
		t.Errorf("a long private key: %v", err)
	}
}
