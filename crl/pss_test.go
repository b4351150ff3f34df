package crl_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math"
	"math/big"
	"testing"
	"time"

	"signet.example/signet/crl"
)

// pssParameters are RSASSA-PSS-params (RFC 4055, Section 3.1); zero values are left out.
type pssParameters struct {
	Hash    pkix.AlgorithmIdentifier `asn1:"explicit,optional,tag:0"`
	Mask    pkix.AlgorithmIdentifier `asn1:"explicit,optional,tag:1"`
	Salt    int                      `asn1:"explicit,optional,tag:2"`
	Trailer int                      `asn1:"explicit,optional,tag:3"`
}

// TestPSSParameters: lists that are signed with RSASSA-PSS count whatever the length of the salt and however the digest is written, if it is one that is
// believed and one for message and mask.
func TestPSSParameters(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	a := newAuthority(t, "PSS CA", key)
	plain, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: now, NextUpdate: now.Add(time.Hour)}, a.cert, key)
	if err != nil {
		t.Fatal(err)
	}
	sha := func(n int, parameters asn1.RawValue) pkix.AlgorithmIdentifier {
		return pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, n}, Parameters: parameters}
	}
	mask := func(hash pkix.AlgorithmIdentifier) pkix.AlgorithmIdentifier {
		return pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 8}, Parameters: asn1.RawValue{FullBytes: marshal(t, hash)}}
	}
	bare, null := asn1.RawValue{}, asn1.NullRawValue
	sha256, sha384, sha512 := sha(1, null), sha(2, null), sha(3, null)
	otherMask := mask(sha256)
	otherMask.Algorithm = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 9}
	for name, test := range map[string]struct {
		said  pssParameters
		after string // what follows in the place of the parameters
		hash  crypto.Hash
		salt  int // that it is made with
		good  bool
	}{
		"as everybody":             {pssParameters{Hash: sha256, Mask: mask(sha256), Salt: 32}, "", crypto.SHA256, 32, true},
		"SHA-384":                  {pssParameters{Hash: sha384, Mask: mask(sha384), Salt: 48}, "", crypto.SHA384, 48, true},
		"SHA-512":                  {pssParameters{Hash: sha512, Mask: mask(sha512), Salt: 64}, "", crypto.SHA512, 64, true},
		"a short salt":             {pssParameters{Hash: sha256, Mask: mask(sha256), Salt: 11}, "", crypto.SHA256, 11, true},
		"a long salt":              {pssParameters{Hash: sha256, Mask: mask(sha256), Salt: 64}, "", crypto.SHA256, 64, true},
		"the salt that is default": {pssParameters{Hash: sha256, Mask: mask(sha256)}, "", crypto.SHA256, 20, true},
		"without NULL":             {pssParameters{Hash: sha(1, bare), Mask: mask(sha(1, bare)), Salt: 32}, "", crypto.SHA256, 32, true},
		"a trailer":                {pssParameters{Hash: sha256, Mask: mask(sha256), Salt: 32, Trailer: 1}, "", crypto.SHA256, 32, true},

		"another salt than it says": {pssParameters{Hash: sha256, Mask: mask(sha256), Salt: 32}, "", crypto.SHA256, 20, false},
		"two digests":               {pssParameters{Hash: sha256, Mask: mask(sha384), Salt: 32}, "", crypto.SHA256, 32, false},
		"the mask that is default":  {pssParameters{Hash: sha256, Salt: 32}, "", crypto.SHA256, 32, false},
		"another mask":              {pssParameters{Hash: sha256, Mask: otherMask, Salt: 32}, "", crypto.SHA256, 32, false},
		"another trailer":           {pssParameters{Hash: sha256, Mask: mask(sha256), Salt: 32, Trailer: 2}, "", crypto.SHA256, 32, false},
		"SHA-1":                     {pssParameters{}, "", crypto.SHA1, 20, false},
		"an unknown digest":         {pssParameters{Hash: sha(9, null), Mask: mask(sha(9, null)), Salt: 32}, "", crypto.SHA256, 32, false},
		"a salt of another sign":    {pssParameters{Hash: sha256, Mask: mask(sha256), Salt: -1}, "", crypto.SHA256, 32, false},
		"a salt beyond every key":   {pssParameters{Hash: sha256, Mask: mask(sha256), Salt: math.MaxInt}, "", crypto.SHA256, 32, false},
		"more behind it":            {pssParameters{Hash: sha256, Mask: mask(sha256), Salt: 32}, "\x05\x00", crypto.SHA256, 32, false},
		"a digest with parameters":  {pssParameters{Hash: sha(1, asn1.RawValue{FullBytes: []byte{2, 1, 0}}), Mask: mask(sha256), Salt: 32}, "", crypto.SHA256, 32, false},
	} {
		t.Run(name, func(t *testing.T) {
			algorithm := pkix.AlgorithmIdentifier{
				Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}, Parameters: asn1.RawValue{FullBytes: append(marshal(t, test.said), test.after...)},
			}
			var list struct {
				TBS struct {
					Version            int
					Signature          pkix.AlgorithmIdentifier
					Issuer, This, Next asn1.RawValue
					Extensions         asn1.RawValue
				}
				Algorithm pkix.AlgorithmIdentifier
				Signature asn1.BitString
			}
			if _, err := asn1.Unmarshal(plain, &list); err != nil {
				t.Fatal(err)
			}
			list.TBS.Signature, list.Algorithm = algorithm, algorithm
			digest := test.hash.New()
			digest.Write(marshal(t, list.TBS))
			signature, err := rsa.SignPSS(rand.Reader, key, test.hash, digest.Sum(nil), &rsa.PSSOptions{SaltLength: test.salt})
			if err != nil {
				t.Fatal(err)
			}
			list.Signature = asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)}
			parsed, err := crl.Parse(marshal(t, list))
			if err == nil {
				err = parsed.Verify(a.cert)
			}
			if (err == nil) != test.good {
				t.Errorf("%v", err)
			}
		})
	}
}

func marshal(t *testing.T, value any) []byte {
	t.Helper()
	der, err := asn1.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return der
}
