package protocol

import (
	"crypto/hkdf"
	"crypto/hmac"

	"golang.org/x/crypto/cryptobyte"
)

// HandshakeSecrets runs the first half of the key schedule of TLS 1.3 without a pre-shared key (RFC 8446, Section 7.1):
// from the shared secret of the key exchange and the transcript up to ServerHello to the traffic secrets that protect the
// rest of the handshake.
func HandshakeSecrets(suite Suite, shared, transcript []byte) (client, server []byte, err error) {
	size := suite.Hash().Size()
	early, err := hkdf.Extract(suite.Hash().New, make([]byte, size), nil)
	if err != nil {
		return nil, nil, err
	}
	empty := suite.Hash().New().Sum(nil)
	secret, err := hkdf.Extract(suite.Hash().New, shared, expandLabel(suite, early, "derived", empty, size))
	if err != nil {
		return nil, nil, err
	}
	h := suite.Hash().New()
	h.Write(transcript)
	sum := h.Sum(nil)
	return expandLabel(suite, secret, "c hs traffic", sum, size), expandLabel(suite, secret, "s hs traffic", sum, size), nil
}

// expandLabel is HKDF-Expand-Label (RFC 8446, Section 7.1).
func expandLabel(suite Suite, secret []byte, label string, context []byte, length int) []byte {
	var b cryptobyte.Builder
	b.AddUint16(uint16(length))
	b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte("tls13 " + label)) })
	b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(context) })
	out, err := hkdf.Expand(suite.Hash().New, secret, string(b.BytesOrPanic()), length)
	if err != nil {
		panic("wire: " + err.Error()) // lengths are constants of this package, all far below the bound of HKDF
	}
	return out
}

// Keys12 are the keys that TLS 1.2 derives from the master secret, for both directions.
type Keys12 struct {
	Suite  Suite
	Master []byte
}

// prf is the pseudo-random function of TLS 1.2 (RFC 5246, Section 5).
func prf(suite Suite, secret []byte, label string, seed []byte, length int) []byte {
	newHash := suite.Hash().New
	labelled := append([]byte(label), seed...)
	var out []byte
	for a := labelled; len(out) < length; {
		mac := hmac.New(newHash, secret)
		mac.Write(a)
		a = mac.Sum(nil)
		mac.Reset()
		mac.Write(a)
		mac.Write(labelled)
		out = mac.Sum(out)
	}
	return out[:length]
}

// MasterSecret turns a premaster secret into a master secret. sessionHash is the hash of the handshake up to and with
// ClientKeyExchange if both sides agreed on the extended master secret (RFC 7627), else nil.
func MasterSecret(suite Suite, premaster, clientRandom, serverRandom, sessionHash []byte) []byte {
	if sessionHash != nil {
		return prf(suite, premaster, "extended master secret", sessionHash, 48)
	}
	return prf(suite, premaster, "master secret", append(append([]byte{}, clientRandom...), serverRandom...), 48)
}

// Finished returns the verify_data of one side (RFC 5246, Section 7.4.9).
func (k Keys12) Finished(from Role, transcript []byte) []byte {
	return prf(k.Suite, k.Master, from.String()+" finished", transcript, 12)
}
