package main

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"math/big"

	"signet.example/signet/crl"
)

// nameText writes a DER Name as RFC 4514 does, or in hexadecimal if it does not parse.
func nameText(der []byte) string {
	var sequence pkix.RDNSequence
	if rest, err := asn1.Unmarshal(der, &sequence); err != nil || len(rest) > 0 {
		return "#" + hex.EncodeToString(der)
	}
	return sequence.String()
}

// generalName writes a GeneralName of a distribution point: a URI as it is, anything else in hexadecimal.
func generalName(name crl.Name) string {
	var raw asn1.RawValue
	if _, err := asn1.Unmarshal(name, &raw); err == nil && raw.Class == asn1.ClassContextSpecific && raw.Tag == 6 {
		return string(raw.Bytes)
	}
	return "#" + hex.EncodeToString(name)
}

func numberText(n crl.Number) string { return new(big.Int).SetBytes(n[:]).String() }
