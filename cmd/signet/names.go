package main

import (
	"encoding/asn1"
	"encoding/hex"
	"math/big"

	"signet.example/signet/crl"
)

// generalName formats a GeneralName of a distribution point: a URI as it is, anything else in hexadecimal.
func generalName(name crl.Name) string {
	var raw asn1.RawValue
	if _, err := asn1.Unmarshal(name, &raw); err == nil && raw.Class == asn1.ClassContextSpecific && raw.Tag == 6 {
		return string(raw.Bytes)
	}
	return "#" + hex.EncodeToString(name)
}

func numberText(n crl.Number) string { return new(big.Int).SetBytes(n[:]).String() }
