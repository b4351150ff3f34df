package handshake

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"
)

// trust verifies a peer's chain in place of crypto/tls. It is used only if an Override may accept a chain that does not
// verify, because crypto/tls would end the handshake before consulting the Override.
type trust struct {
	roots *x509.CertPool
	name  string // empty for clients
	usage x509.ExtKeyUsage
	now   func() time.Time
}

// verify verifies a chain as crypto/tls does, with the same errors.
func (t *trust) verify(presented []*x509.Certificate) ([][]*x509.Certificate, error) {
	return presented[0].Verify(t.options(presented))
}

// maxExcused bounds the faults of one chain that nearly excuses: a wrong name, a wrong usage, and certificates outside
// their validity.
const maxExcused = 4

// nearly returns the chains that lead to a root by their signatures and fail only by name, usage or time. err is how
// verification failed. What is known about their certificates is for an Override, which may accept them all the same.
func (t *trust) nearly(presented []*x509.Certificate, err error) (chains [][]*x509.Certificate) {
	options := t.options(presented)
	for range maxExcused {
		if _, wrongName := errors.AsType[x509.HostnameError](err); wrongName {
			options.DNSName = ""
		} else if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
			if options.CurrentTime.Before(invalid.Cert.NotBefore) {
				options.CurrentTime = invalid.Cert.NotBefore
			} else {
				options.CurrentTime = invalid.Cert.NotAfter
			}
		} else if ok && invalid.Reason == x509.IncompatibleUsage {
			options.KeyUsages = []x509.ExtKeyUsage{x509.ExtKeyUsageAny}
		} else {
			return nil
		}
		if chains, err = presented[0].Verify(options); err == nil {
			return chains
		}
	}
	return nil
}

func (t *trust) options(presented []*x509.Certificate) x509.VerifyOptions {
	options := x509.VerifyOptions{
		Roots: t.roots, Intermediates: x509.NewCertPool(), DNSName: t.name, CurrentTime: t.now(), KeyUsages: []x509.ExtKeyUsage{t.usage},
	}
	for _, c := range presented[1:] {
		options.Intermediates.AddCert(c)
	}
	return options
}

// ExplainUntrusted explains why a chain does not verify, as precisely as possible. err is the error of crypto/x509 or
// crypto/tls; presented are the peer's certificates, leaf first; roots are the trusted ones, nil for the system's. It
// returns false if there is no certificate to explain: presented is empty, and err is not a
// *tls.CertificateVerificationError, which carries its own.
func ExplainUntrusted(err error, presented []*x509.Certificate, roots *x509.CertPool, now time.Time) (*UntrustedError, bool) {
	if wrapped, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		presented, err = wrapped.UnverifiedCertificates, wrapped.Err
	}
	if len(presented) == 0 {
		return nil, false
	}
	u := &UntrustedError{Certificate: presented[0], Presented: presented, Err: err}
	if wrongName, ok := errors.AsType[x509.HostnameError](err); ok {
		u.Miss, u.Explanation = MissWrongName, explainName(wrongName)
	} else if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		u.Miss, u.Explanation = explainInvalid(invalid, now)
	} else if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		u.Miss, u.Explanation = explainUnknown(presented, roots)
	} else {
		if _, ok := errors.AsType[x509.UnhandledCriticalExtension](err); ok {
			u.Miss, u.Explanation = MissConstraint, "it has a critical extension that is not understood"
		} else if _, ok := errors.AsType[x509.ConstraintViolationError](err); ok {
			u.Miss, u.Explanation = MissConstraint, "its issuer was not allowed to issue it"
		}
	}
	return u, true
}

func explainName(e x509.HostnameError) string {
	var names []string
	for _, name := range e.Certificate.DNSNames {
		names = append(names, fmt.Sprintf("%.100q", name)) // crypto/x509 lets escape sequences pass
	}
	for _, ip := range e.Certificate.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 {
		return fmt.Sprintf("it names no host, and %.100q was wanted", e.Host)
	}
	if len(names) > 5 {
		names = append(names[:5:5], "…")
	}
	return fmt.Sprintf("it is for %.300s, and %.100q was wanted", strings.Join(names, ", "), e.Host)
}

func explainInvalid(e x509.CertificateInvalidError, now time.Time) (NearMiss, string) {
	at := func(t time.Time) string { return t.UTC().Format(time.RFC3339) }
	switch e.Reason {
	case x509.Expired:
		if now.Before(e.Cert.NotBefore) {
			return MissNotYetValid, fmt.Sprintf("%s is valid from %s: look at the clocks", describe(e.Cert), at(e.Cert.NotBefore))
		}
		return MissExpired, fmt.Sprintf("%s expired at %s", describe(e.Cert), at(e.Cert.NotAfter))
	case x509.IncompatibleUsage:
		return MissUsage, "it is not for this use: its extended key usages exclude it"
	case x509.NotAuthorizedToSign:
		return MissConstraint, fmt.Sprintf("%s may not issue certificates", describe(e.Cert))
	}
	return MissConstraint, e.Error()
}

// explainUnknown finds out how far the chain got: where it breaks off, and whether a CA of that name is trusted.
func explainUnknown(presented []*x509.Certificate, roots *x509.CertPool) (NearMiss, string) {
	leaf := presented[0]
	if bytes.Equal(leaf.RawSubject, leaf.RawIssuer) {
		return MissSelfSigned, "it is its own issuer and is not among the trusted ones"
	}
	top := topmost(presented)
	if trustedName(roots, top.RawIssuer) {
		return MissSameNameOtherKey, fmt.Sprintf("a trusted root is called %.100q, and it has another key than the one that signed", top.Issuer.String())
	}
	if len(presented) == 1 {
		return MissMissingIntermediate, fmt.Sprintf("the peer sent only its own certificate, and its issuer %.100q is not a trusted root", leaf.Issuer.String())
	}
	if !bytes.Equal(top.RawSubject, top.RawIssuer) && top.Equal(leaf) {
		return MissMissingIntermediate, fmt.Sprintf("none of the certificates sent is its issuer %.100q", leaf.Issuer.String())
	}
	return MissUnknownIssuer, fmt.Sprintf("its chain ends at %.100q, which is not trusted", top.Issuer.String())
}

// topmost follows the issuer names upwards from the leaf as far as the presented certificates go.
func topmost(presented []*x509.Certificate) *x509.Certificate {
	top := presented[0]
	for range presented {
		for _, c := range presented {
			if !c.Equal(top) && bytes.Equal(c.RawSubject, top.RawIssuer) && !bytes.Equal(top.RawSubject, top.RawIssuer) {
				top = c
				break
			}
		}
	}
	return top
}

func trustedName(roots *x509.CertPool, name []byte) bool {
	if roots == nil {
		return false
	}
	//lint:ignore SA1019 the roots of the system are left out, which only costs precision
	return slices.ContainsFunc(roots.Subjects(), func(subject []byte) bool { return bytes.Equal(subject, name) })
}

// pinned reports whether the chain holds one of the pins above the leaf, or there are none.
func (c *Checker) pinned(chain []*x509.Certificate) bool {
	if len(c.config.Pins) == 0 {
		return true
	}
	return slices.ContainsFunc(chain[min(1, len(chain)):], func(issuer *x509.Certificate) bool {
		return slices.ContainsFunc(c.config.Pins, func(pin *x509.Certificate) bool { return issuerKeyOf(issuer) == issuerKeyOf(pin) })
	})
}

func notPinned(presented []*x509.Certificate) *UntrustedError {
	return &UntrustedError{Certificate: presented[0], Presented: presented, Miss: MissNotPinned, Explanation: "it was not issued under an issuer that is pinned"}
}

// hostOf returns the name that a server dialled at an address is checked for.
func hostOf(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	return host
}
