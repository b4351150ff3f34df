package handshaketest

import (
	"crypto/tls"
	"net/http"
	"time"

	"golang.org/x/crypto/ocsp"
)

// Outcome is how a client under HardFail must end with a peer.
type Outcome uint8

// The outcomes. Zero is none: a peer of the corpus must say what it expects.
const (
	_              Outcome = iota
	Accepted               // nothing is wrong
	RevokedOutcome         // *handshake.RevokedError
	Unavailable            // *handshake.UnavailableError
	Stale                  // *handshake.StaleError
	BadEvidence            // *handshake.EvidenceError
	Untrusted              // *handshake.UntrustedError
	MustStaple             // *handshake.MustStapleError
	Contradiction          // *handshake.ContradictionError
)

// Tolerated reports whether SoftFail accepts a peer that HardFail refuses with this outcome: what is only not known.
func (o Outcome) Tolerated() bool {
	return o == Accepted || o == Unavailable || o == Stale || o == BadEvidence
}

// Hostile is a peer that misbehaves in one way.
type Hostile struct {
	Name    string
	Drawing string // its certificate is called leaf
	Want    Outcome

	// Trust names the certificate whose root the client trusts; empty means leaf's.
	Trust string

	// Arrange spoils the status service and returns the staple that the peer sends, if any.
	Arrange func(p *PKI, leaf *Cert) (staple []byte)

	// Stalls says that a source of status keeps the client waiting: how long it waits is its budget.
	Stalls bool

	// Turn, if not nil, is called after a first handshake that must be accepted; the second one is judged.
	Turn func(p *PKI, leaf *Cert)
}

// plain are chains whose status is at hand in one way only.
const (
	onlyCRL    = "root -> int -> leaf noaia; int -> sibling; root -> other"
	onlyOCSP   = "root -> int -> leaf nocdp; int -> sibling; int -> responder responder"
	onlyStaple = "root -> int -> leaf nocdp noaia; int -> sibling"
)

// replace answers a path with fixed octets.
func (p *PKI) replace(path string, body []byte) []byte {
	p.Replace(path, Bytes(body))
	return nil
}

// Corpus is every hostile peer that is known here.
func Corpus() []Hostile {
	return []Hostile{
		{Name: "honest, CRL", Drawing: onlyCRL, Want: Accepted},
		{Name: "honest, OCSP", Drawing: onlyOCSP, Want: Accepted},
		{Name: "honest, staple", Drawing: onlyStaple, Want: Accepted, Arrange: func(p *PKI, leaf *Cert) []byte { return leaf.OCSP(OCSP{}) }},
		{Name: "honest, staple of a delegate", Drawing: onlyOCSP, Want: Accepted, Arrange: func(p *PKI, leaf *Cert) []byte {
			return leaf.OCSP(OCSP{Signer: p.Cert("responder")})
		}},
		{Name: "honest, noRevAvail", Drawing: "root -> int -> leaf norevavail", Want: Accepted},

		{Name: "revoked, CRL", Drawing: "root -> int -> leaf noaia revoked", Want: RevokedOutcome},
		{Name: "revoked, OCSP", Drawing: "root -> int -> leaf nocdp revoked", Want: RevokedOutcome},
		{Name: "on hold, CRL", Drawing: "root -> int -> leaf noaia hold", Want: RevokedOutcome},
		{Name: "revoked intermediate", Drawing: "root -> int revoked -> leaf", Want: RevokedOutcome},
		{Name: "revoked, with an old good staple", Drawing: "root -> int -> leaf noaia revoked", Want: RevokedOutcome,
			Arrange: func(p *PKI, leaf *Cert) []byte {
				return leaf.OCSP(OCSP{Force: true, Age: 2 * time.Hour, Life: time.Hour})
			}},
		{Name: "revoked, staple says so and has ended", Drawing: "root -> int -> leaf nocdp noaia revoked", Want: RevokedOutcome,
			Arrange: func(p *PKI, leaf *Cert) []byte { return leaf.OCSP(OCSP{Age: 48 * time.Hour}) }},
		{Name: "revoked, in a CRL that has ended", Drawing: "root -> int -> leaf noaia revoked", Want: RevokedOutcome,
			Arrange: func(p *PKI, leaf *Cert) []byte {
				return p.replace("/int.crl", p.Cert("int").CRL(CRL{Age: 48 * time.Hour}))
			}},

		{Name: "expired", Drawing: "root -> int -> leaf expired", Want: Untrusted},
		{Name: "not yet valid", Drawing: "root -> int -> leaf future", Want: Untrusted},
		{Name: "expired intermediate", Drawing: "root -> int expired -> leaf", Want: Untrusted},
		{Name: "wrong name", Drawing: "root -> int -> leaf wrongname", Want: Untrusted},
		{Name: "untrusted", Drawing: "root -> int -> leaf; elsewhere -> stranger", Trust: "stranger", Want: Untrusted},
		{Name: "self-signed", Drawing: "leaf; root -> other", Trust: "other", Want: Untrusted},

		{Name: "no staple, none elsewhere", Drawing: onlyStaple, Want: Unavailable},
		{Name: "staple for another certificate", Drawing: onlyStaple, Want: BadEvidence, Arrange: func(p *PKI, leaf *Cert) []byte {
			return leaf.OCSP(OCSP{About: p.Cert("sibling")})
		}},
		{Name: "staple expired", Drawing: onlyStaple, Want: Stale, Arrange: func(p *PKI, leaf *Cert) []byte {
			return leaf.OCSP(OCSP{Age: 2 * time.Hour, Life: time.Hour})
		}},
		{Name: "staple of tomorrow", Drawing: onlyStaple, Want: Stale, Arrange: func(p *PKI, leaf *Cert) []byte {
			return leaf.OCSP(OCSP{Age: -24 * time.Hour})
		}},
		{Name: "staple signed by a sibling leaf", Drawing: onlyStaple, Want: BadEvidence, Arrange: func(p *PKI, leaf *Cert) []byte {
			return leaf.OCSP(OCSP{Signer: p.Cert("sibling")})
		}},
		{Name: "staple signed by the leaf itself", Drawing: onlyStaple, Want: BadEvidence, Arrange: func(p *PKI, leaf *Cert) []byte {
			return leaf.OCSP(OCSP{Signer: leaf})
		}},
		{Name: "staple says unknown", Drawing: onlyStaple, Want: Unavailable, Arrange: func(p *PKI, leaf *Cert) []byte {
			return leaf.OCSP(OCSP{Force: true, Status: ocsp.Unknown})
		}},
		{Name: "staple is garbage", Drawing: onlyStaple, Want: BadEvidence, Arrange: func(p *PKI, leaf *Cert) []byte { return []byte("garbage") }},
		{Name: "staple is an unsigned tryLater", Drawing: onlyStaple, Want: Unavailable, Arrange: func(p *PKI, leaf *Cert) []byte {
			return ocsp.TryLaterErrorResponse
		}},
		{Name: "must-staple without a staple", Drawing: "root -> int -> leaf muststaple", Want: MustStaple},
		{Name: "must-staple with an expired staple", Drawing: "root -> int -> leaf muststaple", Want: MustStaple, Arrange: func(p *PKI, leaf *Cert) []byte {
			return leaf.OCSP(OCSP{Age: 2 * time.Hour, Life: time.Hour})
		}},
		{Name: "must-staple honoured", Drawing: "root -> int -> leaf muststaple", Want: Accepted, Arrange: func(p *PKI, leaf *Cert) []byte {
			return leaf.OCSP(OCSP{})
		}},
		{Name: "noRevAvail and pointers", Drawing: "root -> int -> leaf contradiction", Want: Contradiction},

		{Name: "good from a responder without the usage", Drawing: onlyOCSP, Want: BadEvidence, Arrange: func(p *PKI, leaf *Cert) []byte {
			return p.replace("/int.ocsp", leaf.OCSP(OCSP{Signer: p.Cert("sibling")}))
		}},
		{Name: "unsigned tryLater", Drawing: onlyOCSP, Want: Unavailable, Arrange: func(p *PKI, leaf *Cert) []byte {
			return p.replace("/int.ocsp", ocsp.TryLaterErrorResponse)
		}},
		{Name: "unsigned unauthorized", Drawing: onlyOCSP, Want: Unavailable, Arrange: func(p *PKI, leaf *Cert) []byte {
			return p.replace("/int.ocsp", ocsp.UnauthorizedErrorResponse)
		}},
		{Name: "OCSP replayed for another certificate", Drawing: onlyOCSP, Want: BadEvidence, Arrange: func(p *PKI, leaf *Cert) []byte {
			return p.replace("/int.ocsp", p.Cert("sibling").OCSP(OCSP{}))
		}},
		{Name: "endless OCSP response", Drawing: onlyOCSP, Want: Unavailable, Arrange: func(p *PKI, leaf *Cert) []byte {
			p.Replace("/int.ocsp", Endless())
			return nil
		}},
		{Name: "slow OCSP response", Drawing: onlyOCSP, Want: Unavailable, Stalls: true, Arrange: func(p *PKI, leaf *Cert) []byte {
			p.Replace("/int.ocsp", Slow())
			return nil
		}},

		{Name: "CRL of another scope", Drawing: onlyCRL, Want: BadEvidence, Arrange: func(p *PKI, leaf *Cert) []byte {
			return p.replace("/int.crl", p.Cert("int").CRL(CRL{Extensions: Extensions(ScopeURL(p.URL + "/elsewhere.crl"))}))
		}},
		{Name: "CRL for CA certificates", Drawing: onlyCRL, Want: BadEvidence, Arrange: func(p *PKI, leaf *Cert) []byte {
			return p.replace("/int.crl", p.Cert("int").CRL(CRL{Extensions: Extensions(ScopeCACerts())}))
		}},
		{Name: "CRL of another issuer", Drawing: onlyCRL, Want: BadEvidence, Arrange: func(p *PKI, leaf *Cert) []byte {
			return p.replace("/int.crl", p.Cert("root").CRL(CRL{}))
		}},
		{Name: "CRL with an unknown critical extension", Drawing: onlyCRL, Want: BadEvidence, Arrange: func(p *PKI, leaf *Cert) []byte {
			return p.replace("/int.crl", p.Cert("int").CRL(CRL{Extensions: Extensions(UnknownCritical)}))
		}},
		{Name: "CRL with another signature", Drawing: onlyCRL, Want: BadEvidence, Arrange: func(p *PKI, leaf *Cert) []byte {
			list := p.Cert("int").CRL(CRL{})
			list[len(list)-1] ^= 1
			return p.replace("/int.crl", list)
		}},
		{Name: "CRL expired", Drawing: onlyCRL, Want: Stale, Arrange: func(p *PKI, leaf *Cert) []byte {
			return p.replace("/int.crl", p.Cert("int").CRL(CRL{Age: 48 * time.Hour}))
		}},
		{Name: "CRL rolled back", Drawing: onlyCRL, Want: Stale,
			Arrange: func(p *PKI, leaf *Cert) []byte {
				return p.replace("/int.crl", p.Cert("int").CRL(CRL{Number: 10}))
			},
			Turn: func(p *PKI, leaf *Cert) {
				p.replace("/int.crl", p.Cert("int").CRL(CRL{Number: 5, Age: time.Hour, Life: 90 * 24 * time.Hour}))
				p.Advance(25 * time.Hour)
			}},
		{Name: "CRL is garbage", Drawing: onlyCRL, Want: BadEvidence, Arrange: func(p *PKI, leaf *Cert) []byte {
			return p.replace("/int.crl", []byte("garbage"))
		}},
		{Name: "CRL switched off", Drawing: onlyCRL, Want: Unavailable, Arrange: func(p *PKI, leaf *Cert) []byte {
			p.Replace("/int.crl", http.NotFoundHandler())
			return nil
		}},
		{Name: "endless CRL", Drawing: onlyCRL, Want: Unavailable, Stalls: true, Arrange: func(p *PKI, leaf *Cert) []byte {
			p.Replace("/int.crl", Endless())
			return nil
		}},
		{Name: "slow CRL", Drawing: onlyCRL, Want: Unavailable, Stalls: true, Arrange: func(p *PKI, leaf *Cert) []byte {
			p.Replace("/int.crl", Slow())
			return nil
		}},

		{Name: "redirect to a private address", Drawing: onlyCRL, Want: Unavailable, Arrange: func(p *PKI, leaf *Cert) []byte {
			p.Replace("/int.crl", http.RedirectHandler("http://10.0.0.1/int.crl", http.StatusFound))
			return nil
		}},
		{Name: "redirect to a file", Drawing: onlyCRL, Want: Unavailable, Arrange: func(p *PKI, leaf *Cert) []byte {
			p.Replace("/int.crl", http.RedirectHandler("file:///etc/hostname", http.StatusFound))
			return nil
		}},
		{Name: "redirect without end", Drawing: onlyCRL, Want: Unavailable, Arrange: func(p *PKI, leaf *Cert) []byte {
			p.Replace("/int.crl", http.RedirectHandler("/int.crl", http.StatusFound))
			return nil
		}},
		{Name: "LDAP URL", Drawing: "root -> int -> leaf noaia cdp=ldap://127.0.0.1/cn=int?certificateRevocationList", Want: Unavailable},
		{Name: "file URL", Drawing: "root -> int -> leaf noaia cdp=file:///etc/hostname", Want: Unavailable},
		{Name: "private address", Drawing: "root -> int -> leaf noaia cdp=http://192.168.0.1/int.crl", Want: Unavailable},
		{Name: "mapped private address", Drawing: "root -> int -> leaf noaia cdp=http://[::ffff:10.0.0.1]/int.crl", Want: Unavailable},
		{Name: "a thousand distribution points", Drawing: "root -> int -> leaf noaia points=1000", Want: Unavailable},
	}
}

// Peer arranges a hostile peer and starts it. It returns the infrastructure, the peer's certificate, its address, and
// the client's configuration.
func (h Hostile) Peer(p *PKI) (leaf *Cert, address string, client *tls.Config) {
	leaf = p.Cert("leaf")
	var staple []byte
	if h.Arrange != nil {
		staple = h.Arrange(p, leaf)
	}
	trust := leaf
	if h.Trust != "" {
		trust = p.Cert(h.Trust)
	}
	return leaf, p.Listen(p.ServerConfig(leaf, staple)), p.ClientConfig(trust)
}
