package ocsp

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// Extension is one extension of a request, of a response or of one of their items.
type Extension struct {
	ID       OID
	Critical bool
	Value    []byte // content of extnValue
}

// OID is an object identifier: the content octets of its DER form. It is comparable.
type OID string

// The extensions that this package knows.
const (
	OIDNonce            OID = "\x2b\x06\x01\x05\x05\x07\x30\x01\x02"     // RFC 9654
	OIDCRLReference     OID = "\x2b\x06\x01\x05\x05\x07\x30\x01\x03"     // RFC 6960, Section 4.4.2
	OIDAcceptableTypes  OID = "\x2b\x06\x01\x05\x05\x07\x30\x01\x04"     // RFC 6960, Section 4.4.3
	OIDNoCheck          OID = "\x2b\x06\x01\x05\x05\x07\x30\x01\x05"     // RFC 6960, Section 4.2.2.2.1; of certificates
	OIDArchiveCutoff    OID = "\x2b\x06\x01\x05\x05\x07\x30\x01\x06"     // RFC 6960, Section 4.4.4
	OIDServiceLocator   OID = "\x2b\x06\x01\x05\x05\x07\x30\x01\x07"     // RFC 6960, Section 4.4.6
	OIDPreferredSigAlgs OID = "\x2b\x06\x01\x05\x05\x07\x30\x01\x08"     // RFC 6960, Section 4.4.7
	OIDExtendedRevoke   OID = "\x2b\x06\x01\x05\x05\x07\x30\x01\x09"     // RFC 6960, Section 4.4.8
	OIDSCTList          OID = "\x2b\x06\x01\x04\x01\xd6\x79\x02\x04\x05" // RFC 6962, Section 3.3
	OIDCRLReason        OID = "\x55\x1d\x15"                             // RFC 5280, Section 5.3.1
	OIDInvalidityDate   OID = "\x55\x1d\x18"                             // RFC 5280, Section 5.3.2
)

const (
	oidBasic             OID = "\x2b\x06\x01\x05\x05\x07\x30\x01\x01" // RFC 6960, Section 4.2.1
	maxExtensions            = 32
	maxExtensionsContent     = 16 << 10 // octets
)

// String returns the dotted form.
func (o OID) String() string {
	var parts []string
	var arc uint64
	for i := range len(o) {
		arc = arc<<7 | uint64(o[i]&0x7f)
		if o[i]&0x80 != 0 {
			continue
		}
		if parts == nil {
			top := min(arc/40, 2)
			parts = append(parts, strconv.FormatUint(top, 10))
			arc -= 40 * top
		}
		parts = append(parts, strconv.FormatUint(arc, 10))
		arc = 0
	}
	return strings.Join(parts, ".")
}

// knownInResponse reports whether an extension of a response or of one of its items may be critical: this package
// either evaluates it, or it does not affect the status (RFC 6960, Section 4.4).
func (o OID) knownInResponse() bool {
	switch o {
	case OIDNonce, OIDCRLReference, OIDArchiveCutoff, OIDExtendedRevoke, OIDSCTList, OIDCRLReason, OIDInvalidityDate:
		return true
	}
	return false
}

// knownInRequest is the same for requests, whose extensions state preferences that may be ignored.
func (o OID) knownInRequest() bool {
	switch o {
	case OIDNonce, OIDAcceptableTypes, OIDServiceLocator, OIDPreferredSigAlgs:
		return true
	}
	return false
}

// firstUnknownCritical returns the first critical extension that is not known, if there is one.
func firstUnknownCritical(list []Extension, known func(OID) bool) (OID, bool) {
	for _, e := range list {
		if e.Critical && !known(e.ID) {
			return e.ID, true
		}
	}
	return "", false
}

func find(list []Extension, id OID) ([]byte, bool) {
	for _, e := range list {
		if e.ID == id {
			return e.Value, true
		}
	}
	return nil, false
}

// readExtensions reads the optional extensions under context tag n. Each may occur only once (RFC 5280, Section 4.2).
func readExtensions(input *cryptobyte.String, n uint8) ([]Extension, error) {
	var outer, list cryptobyte.String
	var present bool
	if !input.ReadOptionalASN1(&outer, &present, asn1.Tag(n).Constructed().ContextSpecific()) {
		return nil, errors.New("extensions do not parse")
	}
	if !present {
		return nil, nil
	}
	if !outer.ReadASN1(&list, asn1.SEQUENCE) || !outer.Empty() {
		return nil, errors.New("extensions do not parse")
	}
	if len(list) > maxExtensionsContent {
		return nil, fmt.Errorf("extensions of %d octets: at most %d are read", len(list), maxExtensionsContent)
	}
	var extensions []Extension
	for !list.Empty() {
		var extension, id, value cryptobyte.String
		e := Extension{}
		if !list.ReadASN1(&extension, asn1.SEQUENCE) || !readOID(&extension, &id) ||
			!readOptionalBool(&extension, &e.Critical) ||
			!extension.ReadASN1(&value, asn1.OCTET_STRING) || !extension.Empty() {
			return nil, errors.New("extension does not parse")
		}
		e.ID, e.Value = OID(id), value
		if _, twice := find(extensions, e.ID); twice {
			return nil, fmt.Errorf("extension %s stands twice", e.ID)
		}
		if len(extensions) == maxExtensions {
			return nil, fmt.Errorf("more than %d extensions", maxExtensions)
		}
		extensions = append(extensions, e)
	}
	return extensions, nil
}

// readOID reads the content octets of an object identifier: at least one arc, each without an octet too many and the
// last one complete (X.690, Section 8.19).
func readOID(input, id *cryptobyte.String) bool {
	if !input.ReadASN1(id, asn1.OBJECT_IDENTIFIER) || id.Empty() {
		return false
	}
	begins := true
	for _, octet := range *id {
		if begins && octet == 0x80 {
			return false
		}
		begins = octet < 0x80
	}
	return begins
}

// readOptionalBool reads a BOOLEAN DEFAULT FALSE.
func readOptionalBool(input *cryptobyte.String, out *bool) bool {
	if !input.PeekASN1Tag(asn1.BOOLEAN) {
		return true
	}
	return input.ReadASN1Boolean(out)
}

func addExtensions(b *cryptobyte.Builder, n uint8, list []Extension) {
	if len(list) == 0 {
		return
	}
	b.AddASN1(asn1.Tag(n).Constructed().ContextSpecific(), func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			for _, e := range list {
				b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
					addBytes(b, asn1.OBJECT_IDENTIFIER, []byte(e.ID))
					if e.Critical {
						b.AddASN1Boolean(true)
					}
					b.AddASN1OctetString(e.Value)
				})
			}
		})
	})
}

// null is the value of the extensions without content.
var null = []byte{0x05, 0x00}

func isNull(value []byte) bool { return bytes.Equal(value, null) }
