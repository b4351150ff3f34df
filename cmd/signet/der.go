package main

import (
	"crypto/x509"
	"encoding/pem"
	"slices"

	"signet.example/signet/ocsp"
	"signet.example/signet/pki"
)

// derIn returns the contents of PEM blocks of some types, or of any type if none is named. Data in DER is returned
// whole.
func derIn(data []byte, types ...string) (all [][]byte) {
	block, rest := pem.Decode(data)
	// A SEQUENCE. Text can begin with this octet too, as the "0 s:" of `openssl s_client -showcerts` does before its
	// PEM, but it cannot continue with a length of more than 127 octets.
	if len(data) > 1 && data[0] == 0x30 && (data[1] >= 0x80 || block == nil) {
		return [][]byte{data}
	}
	for ; block != nil; block, rest = pem.Decode(rest) {
		if len(types) == 0 || slices.Contains(types, block.Type) {
			all = append(all, block.Bytes)
		}
	}
	return all
}

// readDER reads DER, or the first PEM block of one of the types.
func (a *app) readDER(path, what string, types ...string) ([]byte, error) {
	data, err := a.readInput(path)
	if err != nil {
		return nil, err
	}
	if found := derIn(data, types...); len(found) > 0 {
		return found[0], nil
	}
	return nil, pki.Errorf(pki.KindInvalid, "read "+what, "%s holds no %s in PEM or DER%s", path, what, looksLike(data))
}

// readRequest reads a certificate request. Anything else, such as a private key in DER, must not be sent to a server.
func (a *app) readRequest(path string) (*x509.CertificateRequest, error) {
	der, err := a.readDER(path, aRequest, "CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST")
	if err != nil {
		return nil, err
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, pki.Errorf(pki.KindInvalid, "read "+aRequest, "%s: %w", path, err).InField("csr").
			WithHint("make a request with `signet csr NAME` or `openssl req -new`")
	}
	return csr, nil
}

// readCertificate reads the first certificate of a file.
func (a *app) readCertificate(path string) (*x509.Certificate, error) {
	certificates, err := a.readCertificates(path)
	if err != nil {
		return nil, err
	}
	return certificates[0], nil
}

// readCertificates reads every certificate of a file, at least one.
func (a *app) readCertificates(path string) ([]*x509.Certificate, error) {
	data, err := a.readInput(path)
	if err != nil {
		return nil, err
	}
	return certificatesIn(path, data)
}

// certificatesIn returns the certificates in data, at least one. name says where data is from.
func certificatesIn(name string, data []byte) (all []*x509.Certificate, err error) {
	const op = "read certificate"
	for _, der := range derIn(data, "CERTIFICATE") {
		found, err := x509.ParseCertificates(der)
		if err != nil {
			if what := kindOfDER(der); what != "" {
				return nil, pki.Errorf(pki.KindInvalid, op, "%s holds no certificate, but %s", name, what)
			}
			return nil, pki.Errorf(pki.KindInvalid, op, "%s: %w", name, err)
		}
		all = append(all, found...)
	}
	if len(all) == 0 {
		return nil, pki.Errorf(pki.KindInvalid, op, "%s holds no certificate in PEM or DER%s", name, looksLike(data))
	}
	return all, nil
}

// kindOfDER says what kind of DER it is if it is not a certificate; "" if Signet does not read it.
func kindOfDER(der []byte) string {
	if _, err := x509.ParseRevocationList(der); err == nil {
		return "a CRL"
	}
	if _, err := x509.ParseCertificateRequest(der); err == nil {
		return "a certificate request"
	}
	if _, err := ocsp.ParseResponse(der); err == nil {
		return "an OCSP response"
	}
	return ""
}
