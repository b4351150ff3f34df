package crl

// Name is one GeneralName, or the DER of one: the tag octet and what follows (RFC 5280, Section 4.2.1.6). Names are
// compared as octets, but for directory names, which are compared by the rules of Section 7.1.
type Name []byte

// DistributionPoint is one element of CRLDistributionPoints or FreshestCRL (RFC 5280, Section 4.2.1.13).
type DistributionPoint struct {
	Names     []Name      // fullName; a nameRelativeToCRLIssuer is kept in Relative
	Relative  []byte      // DER of the attributes of nameRelativeToCRLIssuer, nil if absent
	Reasons   ReasonFlags // AllReasons if the field is absent
	CRLIssuer []Name      // who signs the list if not the issuer of the certificate
}

// IssuingDistributionPoint says what a list covers (RFC 5280, Section 5.2.5).
type IssuingDistributionPoint struct {
	Names              []Name      // fullName
	Relative           []byte      // nameRelativeToCRLIssuer, nil if absent
	OnlyUserCerts      bool        // onlyContainsUserCerts
	OnlyCACerts        bool        // onlyContainsCACerts
	OnlyAttributeCerts bool        // onlyContainsAttributeCerts
	OnlySomeReasons    ReasonFlags // AllReasons if the field is absent
	Indirect           bool        // indirectCRL
}

// ReasonFlags is a set of reasons (RFC 5280, Section 4.2.1.13): bit n is the n-th flag of the standard's BIT STRING.
type ReasonFlags uint16

// AllReasons has the eight flags from keyCompromise (1) to aACompromise (8).
const AllReasons ReasonFlags = 0x1fe
