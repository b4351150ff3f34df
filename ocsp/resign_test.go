package ocsp_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509/pkix"
	"encoding/asn1"
	"testing"
)

// The shape of a response for encoding/asn1: these tests take responses apart with another codec than the one tested.
type outerResponse struct {
	Status asn1.Enumerated
	Body   struct {
		Type asn1.ObjectIdentifier
		DER  []byte
	} `asn1:"explicit,tag:0"`
}

type basicResponse struct {
	Data         asn1.RawValue
	Algorithm    pkix.AlgorithmIdentifier
	Signature    asn1.BitString
	Certificates []asn1.RawValue `asn1:"explicit,tag:0,optional"`
}

func takeApart(t testing.TB, der []byte) (outer outerResponse, basic basicResponse) {
	t.Helper()
	if _, err := asn1.Unmarshal(der, &outer); err != nil {
		t.Fatal(err)
	}
	if _, err := asn1.Unmarshal(outer.Body.DER, &basic); err != nil {
		t.Fatal(err)
	}
	return outer, basic
}

func putTogether(t testing.TB, outer outerResponse, basic basicResponse) []byte {
	t.Helper()
	var err error
	if outer.Body.DER, err = asn1.Marshal(basic); err != nil {
		t.Fatal(err)
	}
	der, err := asn1.Marshal(outer)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func withoutCertificates(t testing.TB, der []byte) []byte {
	outer, basic := takeApart(t, der)
	basic.Certificates = nil
	return putTogether(t, outer, basic)
}

// signatureAt is the offset of an octet in the middle of the signature.
func signatureAt(t testing.TB, der []byte) int {
	_, basic := takeApart(t, der)
	return bytes.Index(der, basic.Signature.Bytes) + len(basic.Signature.Bytes)/2
}

func resign(t testing.TB, der []byte, algorithm pkix.AlgorithmIdentifier, signature []byte) []byte {
	outer, basic := takeApart(t, der)
	basic.Algorithm = algorithm
	basic.Signature = asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)}
	return putTogether(t, outer, basic)
}

func resignSHA1(t testing.TB, der []byte, key *rsa.PrivateKey) []byte {
	_, basic := takeApart(t, der)
	digest := sha1.Sum(basic.Data.FullBytes)
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA1, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	return resign(t, der, pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 5}, Parameters: asn1.NullRawValue}, signature)
}

func pssAlgorithm(t testing.TB, salt int) pkix.AlgorithmIdentifier {
	t.Helper()
	hash := pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}, Parameters: asn1.NullRawValue}
	hashDER, err := asn1.Marshal(hash)
	if err != nil {
		t.Fatal(err)
	}
	parameters, err := asn1.Marshal(struct {
		Hash pkix.AlgorithmIdentifier `asn1:"explicit,tag:0"`
		Mask pkix.AlgorithmIdentifier `asn1:"explicit,tag:1"`
		Salt int                      `asn1:"explicit,tag:2"`
	}{hash, pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 8}, Parameters: asn1.RawValue{FullBytes: hashDER}}, salt})
	if err != nil {
		t.Fatal(err)
	}
	return pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}, Parameters: asn1.RawValue{FullBytes: parameters}}
}
