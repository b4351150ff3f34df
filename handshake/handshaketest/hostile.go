package handshaketest

import (
	"crypto/tls"
	"net/http"
	"strings"
	"time"

	"golang.org/x/crypto/ocsp"
)

// Outcome is the result that a client under HardFail must reach with a peer.
type Outcome uint8

// The outcomes. The zero value is none: a peer of the corpus must state its outcome.
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

// Tolerated reports whether SoftFail accepts a peer that HardFail refuses with this outcome, because the status is only
// not known.
func (o Outcome) Tolerated() bool {
	return o == Accepted || o == Unavailable || o == Stale || o == BadEvidence
}

var answers = [...]string{
	Accepted: "accept", RevokedOutcome: "refuse: revoked", Unavailable: "refuse: nobody tells the status", Stale: "refuse: the status is too old",
	BadEvidence: "refuse: the evidence must not be believed", Untrusted: "refuse: no trust", MustStaple: "refuse: the staple that was promised is missing",
	Contradiction: "refuse: the certificate contradicts itself",
}

// String describes the required result of a client under HardFail.
func (o Outcome) String() string {
	if int(o) < len(answers) {
		return answers[o]
	}
	return ""
}

// Hostile is a peer that misbehaves in one way.
type Hostile struct {
	Name    string
	Does    string // a sentence for people
	Drawing string // its certificate is called leaf
	Want    Outcome

	// Trust names the certificate whose root the client trusts; empty means leaf's.
	Trust string

	// Arrange spoils the status service and returns the staple that the peer sends, if any.
	Arrange func(p *PKI, leaf *Cert) (staple []byte)

	// Stalls says that a source of status keeps the client waiting, until its budget ends.
	Stalls bool

	// Guarded says that its status leads into a private network. A guarded client connects to no host there, and says so.
	Guarded bool

	// Turn, if not nil, is called after a first handshake, which must be accepted. Want then is the outcome of a second
	// handshake, by a client that remembers the first, when the clock has moved by Later.
	Turn  func(p *PKI)
	Later time.Duration
}

// plain are chains whose status can be had in one way only.
const (
	onlyCRL    = "root -> int -> leaf noaia; int -> sibling; root -> other"
	onlyOCSP   = "root -> int -> leaf nocdp; int -> sibling; int -> responder responder"
	onlyStaple = "root -> int -> leaf nocdp noaia; int -> sibling"
)

// replace has the status service answer a path with fixed octets.
func (p *PKI) replace(path string, body []byte) []byte {
	p.Replace(path, Bytes(body))
	return nil
}

// Corpus returns all hostile peers.
func Corpus() []Hostile {
	return []Hostile{
		{Name: "honest, CRL", Does: "Nothing is wrong; a CRL says good.", Drawing: onlyCRL, Want: Accepted},
		{Name: "honest, OCSP", Does: "Nothing is wrong; the responder says good.", Drawing: onlyOCSP, Want: Accepted},
		{Name: "honest, staple", Does: "Nothing is wrong; the staple says good.", Drawing: onlyStaple, Want: Accepted, Arrange: func(p *PKI, leaf *Cert) []byte { return leaf.OCSP(OCSP{}) }},
		{Name: "honest, staple of a delegate", Does: "Nothing is wrong; the staple is signed by a responder to whom the authority delegated it.", Drawing: onlyOCSP, Want: Accepted, Arrange: func(p *PKI, leaf *Cert) []byte {
			return leaf.OCSP(OCSP{Signer: p.Cert("responder")})
		}},
		{Name: "honest, noRevAvail", Does: "Nothing is wrong; the certificate says that there is no revocation information (RFC 9608).", Drawing: "root -> int -> leaf norevavail", Want: Accepted},

		{Name: "revoked, CRL", Does: "The certificate is on the CRL.", Drawing: "root -> int -> leaf noaia revoked", Want: RevokedOutcome},
		{Name: "revoked, OCSP", Does: "The responder says revoked.", Drawing: "root -> int -> leaf nocdp revoked", Want: RevokedOutcome},
		{Name: "on hold, CRL", Does: "The certificate is on the CRL with reason certificateHold.", Drawing: "root -> int -> leaf noaia hold", Want: RevokedOutcome},
		{Name: "revoked intermediate", Does: "The intermediate is revoked, the certificate of the server itself is not.", Drawing: "root -> int revoked -> leaf", Want: RevokedOutcome},
		{Name: "revoked, with an old good staple", Does: "The certificate is on the CRL; the server staples a good response of before.", Drawing: "root -> int -> leaf noaia revoked", Want: RevokedOutcome,
			Arrange: func(p *PKI, leaf *Cert) []byte {
				return leaf.OCSP(OCSP{Force: true, Age: 2 * time.Hour, Life: time.Hour})
			}},
		{Name: "revoked, staple says so and has ended", Does: "The only evidence is a staple that says revoked and whose nextUpdate has passed.", Drawing: "root -> int -> leaf nocdp noaia revoked", Want: RevokedOutcome,
			Arrange: func(p *PKI, leaf *Cert) []byte { return leaf.OCSP(OCSP{Age: 48 * time.Hour}) }},
		{Name: "revoked, in a CRL that has ended", Does: "The only evidence is a CRL that lists the certificate and whose nextUpdate has passed.", Drawing: "root -> int -> leaf noaia revoked", Want: RevokedOutcome,
			Arrange: func(p *PKI, leaf *Cert) []byte {
				return p.replace("/int.crl", p.Cert("int").CRL(CRL{Age: 48 * time.Hour}))
			}},

		{Name: "expired", Does: "The certificate has expired.", Drawing: "root -> int -> leaf expired", Want: Untrusted},
		{Name: "not yet valid", Does: "The validity of the certificate has not begun.", Drawing: "root -> int -> leaf future", Want: Untrusted},
		{Name: "expired intermediate", Does: "The intermediate has expired.", Drawing: "root -> int expired -> leaf", Want: Untrusted},
		{Name: "wrong name", Does: "The certificate is for another host.", Drawing: "root -> int -> leaf wrongname", Want: Untrusted},
		{Name: "untrusted", Does: "The chain leads to a root that the client does not know.", Drawing: "root -> int -> leaf; elsewhere -> stranger", Trust: "stranger", Want: Untrusted},
		{Name: "self-signed", Does: "The certificate is signed with its own key.", Drawing: "leaf; root -> other", Trust: "other", Want: Untrusted},

		{Name: "no staple, none elsewhere", Does: "The certificate names no source of status, and there is no staple.", Drawing: onlyStaple, Want: Unavailable},
		{Name: "staple for another certificate", Does: "The staple is authentic and about a sibling.", Drawing: onlyStaple, Want: BadEvidence, Arrange: func(p *PKI, leaf *Cert) []byte {
			return leaf.OCSP(OCSP{About: p.Cert("sibling")})
		}},
		{Name: "staple expired", Does: "The staple says good, and its nextUpdate has passed.", Drawing: onlyStaple, Want: Stale, Arrange: func(p *PKI, leaf *Cert) []byte {
			return leaf.OCSP(OCSP{Age: 2 * time.Hour, Life: time.Hour})
		}},
		{Name: "staple of tomorrow", Does: "The staple says good, from a day in the future on.", Drawing: onlyStaple, Want: Stale, Arrange: func(p *PKI, leaf *Cert) []byte {
			return leaf.OCSP(OCSP{Age: -24 * time.Hour})
		}},
		{Name: "staple signed by a sibling leaf", Does: "The staple says good, signed by an ordinary certificate of the same authority.", Drawing: onlyStaple, Want: BadEvidence, Arrange: func(p *PKI, leaf *Cert) []byte {
			return leaf.OCSP(OCSP{Signer: p.Cert("sibling")})
		}},
		{Name: "staple signed by the leaf itself", Does: "The staple says good, signed by the certificate that it is about.", Drawing: onlyStaple, Want: BadEvidence, Arrange: func(p *PKI, leaf *Cert) []byte {
			return leaf.OCSP(OCSP{Signer: leaf})
		}},
		{Name: "staple says unknown", Does: "The staple is authentic and says unknown.", Drawing: onlyStaple, Want: Unavailable, Arrange: func(p *PKI, leaf *Cert) []byte {
			return leaf.OCSP(OCSP{Force: true, Status: ocsp.Unknown})
		}},
		{Name: "staple is garbage", Does: "The staple is no OCSP response.", Drawing: onlyStaple, Want: BadEvidence, Arrange: func(p *PKI, leaf *Cert) []byte { return []byte("garbage") }},
		{Name: "staple is an unsigned tryLater", Does: "The staple is an error status, which anybody can make.", Drawing: onlyStaple, Want: Unavailable, Arrange: func(p *PKI, leaf *Cert) []byte {
			return ocsp.TryLaterErrorResponse
		}},
		{Name: "must-staple without a staple", Does: "The certificate demands a staple (RFC 7633), and there is none.", Drawing: "root -> int -> leaf muststaple", Want: MustStaple},
		{Name: "must-staple with an expired staple", Does: "The certificate demands a staple, and the one that comes has ended.", Drawing: "root -> int -> leaf muststaple", Want: MustStaple, Arrange: func(p *PKI, leaf *Cert) []byte {
			return leaf.OCSP(OCSP{Age: 2 * time.Hour, Life: time.Hour})
		}},
		{Name: "must-staple honoured", Does: "Nothing is wrong; the certificate demands a staple and it is there.", Drawing: "root -> int -> leaf muststaple", Want: Accepted, Arrange: func(p *PKI, leaf *Cert) []byte {
			return leaf.OCSP(OCSP{})
		}},
		{Name: "noRevAvail and pointers", Does: "The certificate says that there is no revocation information, and points to some (RFC 9608 forbids it).", Drawing: "root -> int -> leaf contradiction", Want: Contradiction},

		{Name: "good from a responder without the usage", Does: "The responder says good, signed by a certificate that is not for signing OCSP responses.", Drawing: onlyOCSP, Want: BadEvidence, Arrange: func(p *PKI, leaf *Cert) []byte {
			return p.replace("/int.ocsp", leaf.OCSP(OCSP{Signer: p.Cert("sibling")}))
		}},
		{Name: "unsigned tryLater", Does: "The responder answers tryLater, which is not signed.", Drawing: onlyOCSP, Want: Unavailable, Arrange: func(p *PKI, leaf *Cert) []byte {
			return p.replace("/int.ocsp", ocsp.TryLaterErrorResponse)
		}},
		{Name: "unsigned unauthorized", Does: "The responder answers unauthorized, which is not signed.", Drawing: onlyOCSP, Want: Unavailable, Arrange: func(p *PKI, leaf *Cert) []byte {
			return p.replace("/int.ocsp", ocsp.UnauthorizedErrorResponse)
		}},
		{Name: "OCSP replayed for another certificate", Does: "The responder replays a good answer about a sibling.", Drawing: onlyOCSP, Want: BadEvidence, Arrange: func(p *PKI, leaf *Cert) []byte {
			return p.replace("/int.ocsp", p.Cert("sibling").OCSP(OCSP{}))
		}},
		{Name: "endless OCSP response", Does: "The responder's answer does not end.", Drawing: onlyOCSP, Want: Unavailable, Arrange: func(p *PKI, leaf *Cert) []byte {
			p.Replace("/int.ocsp", Endless())
			return nil
		}},
		{Name: "slow OCSP response", Does: "The responder sends one octet and then nothing.", Drawing: onlyOCSP, Want: Unavailable, Stalls: true, Arrange: func(p *PKI, leaf *Cert) []byte {
			p.Replace("/int.ocsp", Slow())
			return nil
		}},

		{Name: "CRL of another scope", Does: "The CRL says that it is for another distribution point.", Drawing: onlyCRL, Want: BadEvidence, Arrange: func(p *PKI, leaf *Cert) []byte {
			return p.replace("/int.crl", p.Cert("int").CRL(CRL{Extensions: Extensions(ScopeURL(p.URL + "/elsewhere.crl"))}))
		}},
		{Name: "CRL for CA certificates", Does: "The CRL says that it is for CA certificates only.", Drawing: onlyCRL, Want: BadEvidence, Arrange: func(p *PKI, leaf *Cert) []byte {
			return p.replace("/int.crl", p.Cert("int").CRL(CRL{Extensions: Extensions(ScopeCACerts())}))
		}},
		{Name: "CRL of another issuer", Does: "The CRL is authentic and of another authority.", Drawing: onlyCRL, Want: BadEvidence, Arrange: func(p *PKI, leaf *Cert) []byte {
			return p.replace("/int.crl", p.Cert("root").CRL(CRL{}))
		}},
		{Name: "CRL with an unknown critical extension", Does: "The CRL has a critical extension that nobody knows.", Drawing: onlyCRL, Want: BadEvidence, Arrange: func(p *PKI, leaf *Cert) []byte {
			return p.replace("/int.crl", p.Cert("int").CRL(CRL{Extensions: Extensions(UnknownCritical)}))
		}},
		{Name: "CRL with another signature", Does: "One bit of the CRL's signature is turned over.", Drawing: onlyCRL, Want: BadEvidence, Arrange: func(p *PKI, leaf *Cert) []byte {
			list := p.Cert("int").CRL(CRL{})
			list[len(list)-1] ^= 1
			return p.replace("/int.crl", list)
		}},
		{Name: "CRL expired", Does: "The CRL's nextUpdate has passed.", Drawing: onlyCRL, Want: Stale, Arrange: func(p *PKI, leaf *Cert) []byte {
			return p.replace("/int.crl", p.Cert("int").CRL(CRL{Age: 48 * time.Hour}))
		}},
		{Name: "CRL rolled back", Does: "After a CRL of number 10, which ends within seconds, one of number 5 is served.", Drawing: onlyCRL, Want: Stale,
			Arrange: func(p *PKI, leaf *Cert) []byte {
				p.Replace("/int.crl", p.Cert("int").listing(CRL{Number: 10, Age: time.Second, Life: 4 * time.Second}))
				return nil
			},
			Turn:  func(p *PKI) { p.Replace("/int.crl", p.Cert("int").listing(CRL{Number: 5})) },
			Later: 5 * time.Second},
		{Name: "CRL is garbage", Does: "What is served is no CRL.", Drawing: onlyCRL, Want: BadEvidence, Arrange: func(p *PKI, leaf *Cert) []byte {
			return p.replace("/int.crl", []byte("garbage"))
		}},
		{Name: "CRL switched off", Does: "The CRL is not there: 404.", Drawing: onlyCRL, Want: Unavailable, Arrange: func(p *PKI, leaf *Cert) []byte {
			p.Replace("/int.crl", http.NotFoundHandler())
			return nil
		}},
		{Name: "endless CRL", Does: "The CRL does not end.", Drawing: onlyCRL, Want: Unavailable, Stalls: true, Arrange: func(p *PKI, leaf *Cert) []byte {
			p.Replace("/int.crl", Endless())
			return nil
		}},
		{Name: "slow CRL", Does: "One octet of the CRL comes, and then nothing.", Drawing: onlyCRL, Want: Unavailable, Stalls: true, Arrange: func(p *PKI, leaf *Cert) []byte {
			p.Replace("/int.crl", Slow())
			return nil
		}},

		{Name: "redirect to a private address", Does: "The CRL's address redirects to one of a private network.", Drawing: onlyCRL, Want: Unavailable, Guarded: true, Arrange: func(p *PKI, leaf *Cert) []byte {
			p.Replace("/int.crl", http.RedirectHandler("http://10.0.0.1/int.crl", http.StatusFound))
			return nil
		}},
		{Name: "redirect to a file", Does: "The CRL's address redirects to a file of the client.", Drawing: onlyCRL, Want: Unavailable, Arrange: func(p *PKI, leaf *Cert) []byte {
			p.Replace("/int.crl", http.RedirectHandler("file:///etc/hostname", http.StatusFound))
			return nil
		}},
		{Name: "redirect without end", Does: "The CRL's address redirects to itself.", Drawing: onlyCRL, Want: Unavailable, Arrange: func(p *PKI, leaf *Cert) []byte {
			p.Replace("/int.crl", http.RedirectHandler("/int.crl", http.StatusFound))
			return nil
		}},
		{Name: "LDAP URL", Does: "The CRL's address is of the scheme ldap.", Drawing: "root -> int -> leaf noaia cdp=ldap://127.0.0.1/cn=int?certificateRevocationList", Want: Unavailable},
		{Name: "file URL", Does: "The CRL's address is a file of the client.", Drawing: "root -> int -> leaf noaia cdp=file:///etc/hostname", Want: Unavailable},
		{Name: "private address", Does: "The CRL's address is one of a private network.", Drawing: "root -> int -> leaf noaia cdp=http://192.168.0.1/int.crl", Want: Unavailable, Guarded: true},
		{Name: "mapped private address", Does: "The CRL's address is an IPv4 address of a private network in the form of IPv6.", Drawing: "root -> int -> leaf noaia cdp=http://[::ffff:10.0.0.1]/int.crl", Want: Unavailable, Guarded: true},
		{Name: "DNS rebinding", Does: "The CRL's address has a name that leads to the status service once, and to a private network when it redirects to itself; to a foreign client it leads nowhere.",
			Drawing: "root -> int -> leaf noaia rebinding", Want: Unavailable, Guarded: true, Arrange: func(p *PKI, leaf *Cert) []byte {
				p.Replace("/int.crl", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("Connection", "close") // so that the name is looked up again
					http.Redirect(w, r, "/int.crl", http.StatusFound)
				}))
				return nil
			}},
		{Name: "a thousand distribution points", Does: "The certificate names a thousand places for its CRL, none of which answers.", Drawing: "root -> int -> leaf noaia points=1000", Want: Unavailable},
	}
}

// Slug returns the name as one word, for command lines.
func (h Hostile) Slug() string {
	return strings.ToLower(strings.NewReplacer(", ", "-", " ", "-").Replace(h.Name))
}

// Stage arranges the status service. It returns the certificate whose key the peer has, the certificate whose root the
// client trusts, and the peer's staple.
func (h Hostile) Stage(p *PKI) (leaf, trust *Cert, staple []byte) {
	leaf = p.Cert("leaf")
	if h.Arrange != nil {
		staple = h.Arrange(p, leaf)
	}
	trust = leaf
	if h.Trust != "" {
		trust = p.Cert(h.Trust)
	}
	return leaf, trust, staple
}

// Peer arranges a hostile peer and starts it. It returns the infrastructure, the peer's certificate, its address, and
// the client's configuration.
func (h Hostile) Peer(p *PKI) (leaf *Cert, address string, client *tls.Config) {
	leaf, trust, staple := h.Stage(p)
	return leaf, p.Listen(p.ServerConfig(leaf, staple)), p.ClientConfig(trust)
}
