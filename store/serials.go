package store

import (
	"fmt"

	"signet.example/signet/pki"
)

// JoinSerials writes serial numbers one behind the other: how a column of either database holds a list of them.
func JoinSerials(serials []pki.Serial) []byte {
	octets := []byte{}
	for _, s := range serials {
		octets = append(octets, s[:]...)
	}
	return octets
}

// SplitSerials reads what JoinSerials wrote. Octets left over at the end are damage, and an error.
func SplitSerials(octets []byte) (serials []pki.Serial, err error) {
	for ; len(octets) >= pki.SerialSize; octets = octets[pki.SerialSize:] {
		serials = append(serials, pki.Serial(octets[:pki.SerialSize]))
	}
	if len(octets) > 0 {
		return nil, fmt.Errorf("a list of serial numbers ends in the middle of one: %d octets too many", len(octets))
	}
	return serials, nil
}
