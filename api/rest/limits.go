package rest

import (
	"strings"

	"signet.example/signet/api/signetv1"
)

// The bounds of a body, in octets.
const (
	maxHealth    = 4 << 10
	maxStranger  = 128 << 10 // held before the caller is authenticated
	maxBody      = 512 << 10
	maxLargeBody = 8 << 20 // a list of serials, or a CRL
	maxLine      = 512 << 10
)

// limit is what bounds the body of a POST.
type limit struct {
	most     int64  // octets
	stranger bool   // who sends it needs no credential, and has the time of a stranger
	lines    bool   // the bulk interface bounds each line, and asks for the credential by itself
	method   string // of gRPC, for the log; empty: the path is logged
}

// limits are those of the paths that have their own, as the OpenAPI document writes them.
var limits = map[string]limit{
	"/v1/certificates":                {most: maxBody, method: signetv1.CertificateService_IssueCertificate_FullMethodName},
	"/v1/certificates:issue":          {lines: true},
	"/v1/certificates:renew":          {most: maxStranger, stranger: true, method: signetv1.CertificateService_RenewCertificate_FullMethodName},
	"/v1/issuers/{issuer}/crl:import": {most: maxLargeBody},
	"/v1/issuers:adopt":               {most: maxLargeBody},
	"/v1/jobs":                        {most: maxLargeBody},
}

// limitOf is the limit of a POST to a path.
func limitOf(path string) limit {
	if l, ok := limits[path]; ok {
		return l
	}
	for pattern, l := range limits {
		before, after, varies := strings.Cut(pattern, "{issuer}")
		if varies && strings.HasPrefix(path, before) && strings.HasSuffix(path, after) {
			return l
		}
	}
	return limit{most: maxBody}
}
