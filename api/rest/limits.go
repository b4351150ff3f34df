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

// limit bounds the body of a POST.
type limit struct {
	most     int64  // octets
	stranger bool   // no credential is needed, and the time limit is that of strangers
	lines    bool   // the bulk interface bounds each line, and requires a credential itself
	method   string // of gRPC, for the log; empty: the path is logged
}

// limits has the paths with limits of their own, in the form of the OpenAPI document.
var limits = map[string]limit{
	"/v1/certificates":                {most: maxBody, method: signetv1.CertificateService_IssueCertificate_FullMethodName},
	"/v1/certificates:issue":          {lines: true},
	"/v1/certificates:renew":          {most: maxStranger, stranger: true, method: signetv1.CertificateService_RenewCertificate_FullMethodName},
	"/v1/issuers/{issuer}/crl:import": {most: maxLargeBody},
	"/v1/issuers:adopt":               {most: maxLargeBody},
	"/v1/jobs":                        {most: maxLargeBody},
}

// limitOf returns the limit of a POST to a path.
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
