package server

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"signet.example/signet/ca"
	"signet.example/signet/ocsp/ocspserver"
	"signet.example/signet/pki"
)

// issuersInterval is how often this instance looks for changes to issuers made by others.
const issuersInterval = 2 * time.Second

// followIssuers keeps the issuer files and the responder's issuers in step with the database.
func (s *Server) followIssuers(ctx context.Context) {
	if err := s.loadIssuers(ctx); err != nil && ctx.Err() == nil {
		s.report("issuers")(err)
	}
}

// issuersChanged publishes a change that this instance has just made. Before the caller is told of a new issuer, its
// certificate, its OCSP and its first lists are published or under way. A part that fails is retried by the loops that
// follow the database.
func (s *Server) issuersChanged(ctx context.Context) {
	if err := s.loadIssuers(ctx); err != nil {
		s.report("issuers")(err)
		return
	}
	if err := s.delegation.Round(ctx); err != nil {
		s.report("OCSP delegation")(err)
	}
	s.publisher.Reload()
}

func (s *Server) loadIssuers(ctx context.Context) error {
	s.issuers.loading.Lock()
	defer s.issuers.loading.Unlock()
	issuers, err := s.store.Issuers(ctx)
	if err != nil {
		return err
	}
	var answered []ocspserver.Issuer
	for _, issuer := range issuers {
		certificate, err := chosenCertificate(issuer)
		if err != nil {
			return err
		}
		if certificate == nil || !s.hasOCSP(issuer) {
			continue
		}
		answers := s.config.OCSP.For(issuer.Label)
		answer := ocspserver.Issuer{Certificate: certificate, Public: issuer.Visibility == ca.Public, Foreign: issuer.Foreign,
			Validity: answers.Lifetime, Retention: issuer.Retention}
		if answers.Nonce == "live" {
			answer.Nonce = ocspserver.NonceLive
		}
		answered = append(answered, answer)
	}
	paths, err := s.pathsOf(ctx, issuers)
	if err != nil {
		return err
	}
	s.issuers.set(issuers, paths)
	return s.responder.SetIssuers(answered)
}

func chosenCertificate(issuer ca.Issuer) (*x509.Certificate, error) {
	if len(issuer.Certificates) == 0 {
		return nil, nil
	}
	certificate, err := x509.ParseCertificate(issuer.Certificates[0].DER)
	if err != nil {
		return nil, pki.Errorf(pki.KindInternal, "read issuer certificate", "issuer %s: %w", issuer.Label, err)
	}
	return certificate, nil
}

// issuerFiles serves the targets of AIA caIssuers: /issuers/{issuer}.cer, the chosen certificate in DER, and .p7c, all
// of them (RFC 5280, Section 4.2.2.1). For people and scripts it also serves bundles for a given date.
type issuerFiles struct {
	loading sync.Mutex // held from reading to applying, so that an older reading never replaces a newer one
	known   atomic.Pointer[[]ca.Issuer]
	files   atomic.Pointer[map[string]issuerFile]
	paths   atomic.Pointer[map[string][]ca.Path] // by issuer
	pooled  [sha256.Size]byte                    // hash of the certificates used for paths; guarded by loading
	now     func() time.Time
}

type issuerFile struct {
	contentType, etag string
	body              []byte
}

func (f *issuerFiles) set(issuers []ca.Issuer, paths map[string][]ca.Path) {
	files := make(map[string]issuerFile)
	for _, issuer := range issuers {
		for suffix, file := range map[string]issuerFile{
			".cer": {contentType: "application/pkix-cert", body: issuer.CertificateFile()},
			".p7c": {contentType: "application/pkcs7-mime", body: issuer.CertificatesFile()},
		} {
			if file.body != nil {
				file.etag = etagOf(file.body)
				files[issuer.ID.String()+suffix] = file
			}
		}
	}
	f.known.Store(&issuers)
	f.paths.Store(&paths)
	f.files.Store(&files)
}

// pathsOf finds the paths from every issuer to the roots, if the issuers or their revocations have changed. The caller
// holds s.issuers.loading.
func (s *Server) pathsOf(ctx context.Context, issuers []ca.Issuer) (map[string][]ca.Path, error) {
	pool, err := ca.CertificatesInForce(ctx, issuers, s.universe, s.store.BlockedKeys)
	if err != nil {
		return nil, err
	}
	digest := sha256.New()
	for _, c := range pool {
		digest.Write(c.Raw)
	}
	sum := [sha256.Size]byte(digest.Sum(nil))
	if known := s.issuers.paths.Load(); known != nil && sum == s.issuers.pooled {
		return *known, nil
	}
	paths := make(map[string][]ca.Path)
	for _, issuer := range issuers {
		paths[issuer.ID.String()] = ca.Paths(issuer, pool)
	}
	s.issuers.pooled = sum
	return paths, nil
}

// bundle returns what is served at /issuers/{issuer}/chain.pem and roots.pem: what is valid at the date ?at=, or now.
func (f *issuerFiles) bundle(issuer, name, at string) (file issuerFile, ok bool, err error) {
	paths, known := (*f.paths.Load())[issuer]
	if !known || name != "chain.pem" && name != "roots.pem" {
		return file, false, nil
	}
	date := f.now()
	if at != "" {
		if date, err = time.Parse(time.RFC3339, at); err != nil {
			date, err = time.Parse(time.DateOnly, at)
		}
		if err != nil {
			return file, true, pki.Errorf(pki.KindInvalid, "get bundle", "want ?at=2027-01-31 or ?at=2027-01-31T12:00:00Z")
		}
	}
	b := ca.BundleAt(paths, date)
	file = issuerFile{contentType: "application/pem-certificate-chain", body: ca.PEM(b.Chain)}
	if name == "roots.pem" {
		file.body = ca.PEM(b.Roots)
	}
	file.etag = etagOf(file.body)
	return file, len(file.body) > 0, nil
}

func etagOf(body []byte) string {
	sum := sha256.Sum256(body)
	return `"` + hex.EncodeToString(sum[:16]) + `"`
}

// ServeHTTP answers GET and HEAD.
func (f *issuerFiles) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, "/issuers/")
	file, ok := (*f.files.Load())[name]
	if issuer, which, below := strings.Cut(name, "/"); below {
		var err error
		if file, ok, err = f.bundle(issuer, which, r.URL.Query().Get("at")); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
	}
	switch {
	case !ok:
		http.Error(w, "there is no such issuer, or no way from it to a root that holds then", http.StatusNotFound)
		return
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "only GET and HEAD are served here", http.StatusMethodNotAllowed)
		return
	}
	w.Header().Set("Content-Type", file.contentType)
	w.Header().Set("Etag", file.etag)
	w.Header().Set("Cache-Control", "public, max-age=3600")
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(string(file.body)))
}

// labelOf returns the name of an issuer for people.
func (s *Server) labelOf(id pki.IssuerID) string {
	for _, issuer := range *s.issuers.known.Load() {
		if issuer.ID == id {
			return issuer.Label
		}
	}
	return id.String()
}

// strayURLs describes the issuers that put another URL than public_url into certificates. Only issuers created from now
// on use public_url.
func (s *Server) strayURLs() (stray []string) {
	for _, issuer := range *s.issuers.known.Load() {
		if issuer.State == ca.IssuerActive && issuer.KeyURI != "" && issuer.BaseURL != s.config.PublicURL {
			stray = append(stray, fmt.Sprintf("what %s issues names %s; if it should follow public_url: signet issuer update %s --base-url %s",
				issuer.Label, issuer.BaseURL, issuer.Label, s.config.PublicURL))
		}
	}
	return stray
}

// PublicURL is the name of the Readiness check made by checkPublicURL.
const PublicURL = "public_url"

// checkPublicURL warns of issuers that do not use public_url. That may be intended: an adopted issuer keeps its URLs.
func (s *Server) checkPublicURL(add func(name, state, detail string)) {
	add(PublicURL, "ok", strings.Join(s.strayURLs(), "; "))
}

// expiryWarning is the last fraction of an issuer's lifetime, during which operators are warned.
const expiryWarning = 0.1

// checkIssuer warns of an issuer that cannot issue because it was revoked, and of one whose certificate expires soon.
func (s *Server) checkIssuer(ctx context.Context, add func(name, state, detail string), issuer ca.Issuer) {
	if s.authority != nil && issuer.KeyURI != "" && issuer.State == ca.IssuerActive {
		err := s.authority.Standing(ctx, issuer.ID)
		if err != nil && !ca.Fallen(err) {
			add("issuer/"+issuer.Label, "warning", "whether it stands cannot be determined now: "+pki.Explain(err))
			return
		}
		if err != nil {
			add("issuer/"+issuer.Label, "warning", "it issues nothing, and its status is served: "+pki.Explain(err))
			return
		}
	}
	s.checkExpiry(add, issuer)
}

// givenUp reports whether an issuer is meant to expire: it is retired, or it no longer issues and its successor does.
func (s *Server) givenUp(issuer ca.Issuer) bool {
	return issuer.State == ca.IssuerRetired || issuer.State == ca.IssuerDisabled &&
		slices.ContainsFunc(*s.issuers.known.Load(), func(other ca.Issuer) bool { return other.Succeeds == issuer.ID && other.State == ca.IssuerActive })
}

// checkExpiry warns of an issuer whose certificate expires soon: its successor has to be in trust stores before.
func (s *Server) checkExpiry(add func(name, state, detail string), issuer ca.Issuer) {
	label, now := issuer.Label, s.options.Now()
	certificate, err := chosenCertificate(issuer)
	if err != nil {
		add("issuer/"+label, "failed", err.Error())
		return
	}
	if certificate == nil {
		return
	}
	left := certificate.NotAfter.Sub(now)
	switch {
	case issuer.Ended(now) && issuer.State == ca.IssuerRetired:
		add("issuer/"+label, "ok", "it is retired and its certificate has expired")
	case issuer.Ended(now):
		add("issuer/"+label, "warning",
			"its certificate has expired: nothing it signed is valid any more; if it has a successor, signet issuer state "+label+" retired")
	case issuer.ChosenEnded(now):
		add("issuer/"+label, "warning",
			"the certificate that is chosen has expired, and another of it has not: it signs nothing but lists until that is chosen: signet issuer choose "+label+" FILE")
	case !s.givenUp(issuer) && left < time.Duration(expiryWarning*float64(certificate.NotAfter.Sub(certificate.NotBefore))):
		add("issuer/"+label, "warning", "its certificate ends at "+certificate.NotAfter.UTC().Format(time.RFC3339)+": create its successor now")
	default:
		add("issuer/"+label, "ok", "certificate until "+certificate.NotAfter.UTC().Format(time.RFC3339))
	}
}
