package handshake

import (
	"cmp"
	"crypto/x509"
	"fmt"
	"net/url"
	"path/filepath"
	"time"

	"signet.example/signet/handshake/fetch"
	"signet.example/signet/pki"
)

// Config configures what a Checker accepts as evidence and where it looks for it. The zero Config is useful:
// HardFailIfCovered, sources from the certificates, and a fetcher that refuses private addresses and keeps what it
// fetched in memory.
type Config struct {
	// Policy applies to every issuer that has no policy of its own. Zero means HardFailIfCovered.
	Policy Policy

	// Issuers configures single issuers: a policy, and sources in addition to those that certificates name. An issuer,
	// which is a name and a key, may occur once, even if it has several certificates.
	Issuers []Issuer

	// Pins, if not empty, demands that a certificate of the chain above the leaf has the name and key of one of these.
	Pins []*x509.Certificate

	// Override is consulted when the policy would refuse. Nil lets every refusal stand.
	Override Override

	// Observe is called with the Result of every handshake that was checked, accepted or not, before the handshake goes
	// on. It must not block. Nil means no observer.
	Observe func(*Result)

	// Network says when the network may be asked during a handshake. Zero means when nothing at hand is conclusive.
	Network NetworkUse

	// Fetcher fetches and keeps CRLs and OCSP responses. Nil means fetch.New(fetch.Config{Now: Now}): guarded, in memory only.
	Fetcher *fetch.Fetcher

	// Budget bounds the time that one handshake spends on checking, all certificates and sources together. If one of
	// several places stays silent for its share of it, the next is asked. Zero means 5 seconds.
	Budget time.Duration

	// MaxAge bounds the age of evidence that says good, whatever its nextUpdate claims. Zero means that only nextUpdate
	// counts; then OCSP evidence without nextUpdate counts for at most 24 hours, and a CRL without nextUpdate does not
	// count.
	MaxAge time.Duration

	// Skew is how far clocks may differ: evidence dated at most this far in the future counts. Zero means 5 minutes.
	Skew time.Duration

	// Recheck is how often Run asks again about the certificates of tracked connections. Zero means one minute.
	Recheck time.Duration

	// Now is the clock. Nil means time.Now.
	Now func() time.Time
}

// NetworkUse says when the network may be asked during a handshake.
type NetworkUse uint8

// The uses of the network.
const (
	NetworkWhenNeeded NetworkUse = iota // when nothing at hand is conclusive
	NetworkNever                        // never: only staples, configured files and what is cached
)

// Issuer configures one issuer. It applies to certificates issued under this name and key.
type Issuer struct {
	// Certificate is any certificate of the issuer; only its subject and key are used. It is required.
	Certificate *x509.Certificate

	// Policy overrides Config.Policy for this issuer. Zero means Config.Policy.
	Policy Policy

	// CRLs are URLs (http, https) or absolute file names of complete or delta CRLs of this issuer, consulted in
	// addition to the distribution points of the certificate. A file is read again when it changes.
	CRLs []string

	// OCSP are URLs of responders for this issuer, asked before those that the certificate names.
	OCSP []string

	// DemandNonce accepts an answer from the network only if it repeats the nonce of its request (RFC 9654). Answers
	// are then not cached.
	DemandNonce bool
}

const (
	defaultBudget  = 5 * time.Second
	defaultSkew    = 5 * time.Minute
	defaultRecheck = time.Minute
)

func (c Config) withDefaults() (Config, error) {
	if c.Policy == policyUnset {
		c.Policy = HardFailIfCovered
	}
	c.Budget = cmp.Or(c.Budget, defaultBudget)
	c.Skew = cmp.Or(c.Skew, defaultSkew)
	c.Recheck = cmp.Or(c.Recheck, defaultRecheck)
	if c.Now == nil {
		c.Now = time.Now
	}
	if err := c.validate(); err != nil {
		return Config{}, &pki.Error{Kind: pki.KindInvalid, Op: "configure handshake checker", Err: err}
	}
	if c.Fetcher == nil {
		fetcher, err := fetch.New(fetch.Config{Now: c.Now})
		if err != nil {
			return Config{}, err
		}
		c.Fetcher = fetcher
	}
	return c, nil
}

func isWebURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https")
}

func (c Config) validate() error {
	if !c.Policy.valid() {
		return fmt.Errorf("policy %d does not exist", c.Policy)
	}
	if c.Budget < 0 || c.MaxAge < 0 || c.Skew < 0 || c.Recheck < 0 {
		return fmt.Errorf("a negative duration")
	}
	first := make(map[issuerKey]int)
	for i, issuer := range c.Issuers {
		if issuer.Certificate == nil {
			return fmt.Errorf("issuer %d has no certificate", i)
		}
		if other, twice := first[issuerKeyOf(issuer.Certificate)]; twice {
			return fmt.Errorf("issuers %d and %d are one: the same name and key; put the sources into one entry", other, i)
		}
		first[issuerKeyOf(issuer.Certificate)] = i
		for _, place := range issuer.CRLs {
			if !isWebURL(place) && !filepath.IsAbs(place) {
				return fmt.Errorf("issuer %d: CRL %.200q is neither a URL of http or https nor an absolute file name", i, place)
			}
		}
		for _, place := range issuer.OCSP {
			if !isWebURL(place) {
				return fmt.Errorf("issuer %d: responder %.200q is no URL of http or https", i, place)
			}
		}
		if issuer.Policy != policyUnset && !issuer.Policy.valid() {
			return fmt.Errorf("issuer %d: policy %d does not exist", i, issuer.Policy)
		}
	}
	return nil
}
