package main

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"

	"signet.example/signet/crl"
	"signet.example/signet/handshake"
	"signet.example/signet/handshake/fetch"
	"signet.example/signet/handshake/wire"
	"signet.example/signet/pki"
)

type handshakeCmd struct {
	Connect    handshakeConnectCmd    `cmd:"" help:"Connect to a TLS server, and see every step of the handshake."`
	Serve      handshakeServeCmd      `cmd:"" help:"Run a TLS server that shows its clients, and misbehaves on request."`
	Survey     handshakeSurveyCmd     `cmd:"" help:"Find out which versions, suites and groups a TLS server supports."`
	Compromise handshakeCompromiseCmd `cmd:"" help:"Demonstrate what a leaked server key decrypts, and what it does not."`
}

// trustFlags say which CAs to trust and how to check revocation.
type trustFlags struct {
	Policy       string        `default:"hard-if-covered" enum:"hard,hard-if-covered,soft,report" help:"What to do if the status of a certificate is not known: hard, hard-if-covered (refuse where --crl or --ocsp is given), soft or report."`
	CRL          []string      `name:"crl" sep:"none" placeholder:"FILE|URL" help:"Use this CRL too."`
	OCSP         []string      `name:"ocsp" sep:"none" placeholder:"URL" help:"Ask this OCSP responder first."`
	AllowPrivate bool          `help:"Fetch CRLs and OCSP responses from private and loopback addresses too."`
	Allow        []string      `name:"allow" placeholder:"NETWORK" help:"Fetch from this network too, though it is not public, such as 10.0.0.0/8."`
	Cache        string        `placeholder:"DIR" help:"Keep CRLs, OCSP responses and revocations that were seen in this directory, for the next time."`
	Offline      bool          `help:"Fetch nothing: staples and --crl files only."`
	Budget       time.Duration `default:"5s" help:"Time for checking revocation."`
}

// defaultPolicy is the default of --policy.
const defaultPolicy = "hard-if-covered"

var policies = map[string]handshake.Policy{"hard": handshake.HardFail, "hard-if-covered": handshake.HardFailIfCovered, "soft": handshake.SoftFail, "report": handshake.ReportOnly}

// config returns the configuration of a checker; the sources apply to every one of issuers.
func (f *trustFlags) config(issuers []*x509.Certificate) (handshake.Config, error) {
	cfg := handshake.Config{Policy: policies[f.Policy], Budget: f.Budget}
	if f.Offline {
		cfg.Network = handshake.NetworkNever
	}
	var allow []netip.Prefix
	if f.AllowPrivate {
		allow = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	}
	for _, text := range f.Allow {
		network, err := netip.ParsePrefix(text)
		if err != nil {
			return cfg, pki.Errorf(pki.KindInvalid, "allow network", "%.60q is not a network", text).
				WithHint("write it as 10.0.0.0/8 or fd00::/8")
		}
		allow = append(allow, network)
	}
	var err error
	if cfg.Fetcher, err = fetch.New(fetch.Config{Allow: allow, Dir: f.Cache}); err != nil {
		return cfg, err
	}
	if len(f.CRL)+len(f.OCSP) == 0 {
		return cfg, nil
	}
	lists, err := absolute(f.CRL)
	if err != nil {
		return cfg, err
	}
	names := make(map[string][]byte) // a list may have many megabytes: each is read once
	for _, source := range lists {
		names[source] = issuerOfFile(source)
	}
	for _, c := range onePerIssuer(issuers) {
		own := slices.DeleteFunc(slices.Clone(lists), func(source string) bool { return ofAnother(names[source], c, issuers) })
		cfg.Issuers = append(cfg.Issuers, handshake.Issuer{Certificate: c, CRLs: own, OCSP: f.OCSP})
	}
	return cfg, nil
}

// onePerIssuer returns one certificate of each issuer. An issuer is a name and a key, and may have several
// certificates.
func onePerIssuer(certificates []*x509.Certificate) (issuers []*x509.Certificate) {
	for _, c := range certificates {
		if !slices.ContainsFunc(issuers, func(other *x509.Certificate) bool {
			return bytes.Equal(other.RawSubject, c.RawSubject) && bytes.Equal(other.RawSubjectPublicKeyInfo, c.RawSubjectPublicKeyInfo)
		}) {
			issuers = append(issuers, c)
		}
	}
	return issuers
}

// ofAnother reports whether the issuer of a CRL in a file (issuerOfFile) is one of issuers other than c. Fetched lists,
// indirect lists and lists of unknown issuers are for all.
func ofAnother(issuer []byte, c *x509.Certificate, issuers []*x509.Certificate) bool {
	return issuer != nil && !crl.SameName(issuer, c.RawSubject) && isNamed(issuer, issuers)
}

// issuerOfFile returns the name of the issuer whose certificates a CRL in a file is about. It is nil for fetched lists,
// for indirect lists, and for a file that does not parse, which the checker reports.
func issuerOfFile(source string) []byte {
	if strings.Contains(source, "://") {
		return nil
	}
	text, err := os.ReadFile(source)
	if err != nil {
		return nil
	}
	if block, _ := pem.Decode(text); block != nil {
		text = block.Bytes
	}
	list, err := crl.Parse(text)
	if err != nil || list.IDP != nil && list.IDP.Indirect {
		return nil
	}
	return list.Issuer
}

func isNamed(issuer []byte, issuers []*x509.Certificate) bool {
	return slices.ContainsFunc(issuers, func(c *x509.Certificate) bool { return crl.SameName(issuer, c.RawSubject) })
}

// strangersList returns an error if the issuer of a CRL in a file is not one of issuers: the list would have no effect.
func (f *trustFlags) strangersList(issuers []*x509.Certificate) error {
	for _, source := range f.CRL {
		if issuer := issuerOfFile(source); issuer != nil && !isNamed(issuer, issuers) {
			return pki.Errorf(pki.KindInvalid, "read CRL", "the issuer of %s is none of the certificates of --client-ca and --cert, so the list would have no effect", source).
				WithHint("add the certificate of its issuer to the file of --cert, behind the chain; in --client-ca it would be trusted, and not looked at itself")
		}
	}
	return nil
}

// absolute makes file names absolute and leaves URLs alone.
func absolute(sources []string) ([]string, error) {
	var out []string
	for _, s := range sources {
		if scheme, _, ok := strings.Cut(s, "://"); ok && scheme != "http" && scheme != "https" {
			return nil, pki.Errorf(pki.KindInvalid, "read CRL", "%.200q: only http and https are fetched", s).
				WithHint("save the list to a file, and give that")
		} else if !ok {
			if _, err := os.Stat(s); err != nil {
				return nil, fileError("read CRL", err)
			}
			var err error
			if s, err = filepath.Abs(s); err != nil {
				return nil, fileError("read CRL", err)
			}
		}
		out = append(out, s)
	}
	return out, nil
}

// readPair reads a chain and its key. Without a certificate it returns none.
func (a *app) readPair(cert, key string) ([]tls.Certificate, error) {
	if cert == "" && key == "" {
		return nil, nil
	}
	if cert == "" || key == "" {
		return nil, pki.Errorf(pki.KindInvalid, "read key pair", "a certificate needs its key, and a key its certificate").
			WithHint("give both --cert and --key")
	}
	signer, err := readKey(key)
	if err != nil {
		return nil, err
	}
	chain, err := a.readCertificates(cert)
	if err != nil {
		return nil, err
	}
	pair := tls.Certificate{PrivateKey: signer, Leaf: chain[0]}
	for _, c := range chain {
		pair.Certificate = append(pair.Certificate, c.Raw)
	}
	if ours, err := pki.HashPublicKey(signer.Public()); err != nil || ours != pki.HashSPKI(chain[0].RawSubjectPublicKeyInfo) {
		return nil, pki.Errorf(pki.KindInvalid, "read key pair", "%s is not the key of %s", key, cert)
	}
	return []tls.Certificate{pair}, nil
}

// narrator shows steps to a person or a program.
type narrator struct {
	app    *app
	format string // text, json or none
	print  wire.Printer
}

func (a *app) narrator(format string) *narrator {
	if format == "" {
		format = "text"
		if a.json {
			format = "json"
		}
	}
	n := &narrator{app: a, format: format, print: wire.Printer{W: a.out}}
	if terminal := terminalOf(a.out); terminal != nil {
		n.print.Colour = a.getenv("NO_COLOR") == ""
		if width, _, err := term.GetSize(int(terminal.Fd())); err == nil {
			n.print.Width = min(width, 100)
		}
	}
	return n
}

func (n *narrator) step(s wire.Step) {
	switch n.format {
	case "text":
		_ = n.print.Step(s) // a reader that went away is noticed at the end
	case "json":
		n.object(s)
	}
}

// object writes one JSON object on a line.
func (n *narrator) object(value any) {
	enc := json.NewEncoder(n.app.out)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(value) // as above
}

// verdict prints the result.
func (n *narrator) verdict(v verdict) error {
	if n.format == "json" || n.app.json {
		n.object(v)
		return nil
	}
	_, err := fmt.Fprintln(n.app.out, visible(v.text())) // a certificate may contain what a terminal would obey
	return err
}

// verdict is the last line of a handshake.
type verdict struct {
	Result   string     `json:"result"` // accepted or refused
	Decision string     `json:"decision,omitempty"`
	Class    wire.Class `json:"class,omitempty"`
	Reason   string     `json:"reason,omitempty"`
	Hint     string     `json:"hint,omitempty"`
	Server   string     `json:"server"`
	Version  string     `json:"version,omitempty"`
	Suite    string     `json:"cipher_suite,omitempty"`
	Group    string     `json:"group,omitempty"`
	Protocol string     `json:"protocol,omitempty"`
}

func (v verdict) text() string {
	if v.Result == "refused" {
		text := "refused: " + v.Server + ": " + v.Reason
		if v.Hint != "" {
			text += "\n  next: " + v.Hint
		}
		return text
	}
	text := fmt.Sprintf("accepted: %s, %s with %s", v.Server, v.Version, v.Suite)
	if v.Group != "" {
		text += " over " + v.Group
	}
	if v.Decision != "" && v.Decision != handshake.Accepted.String() {
		text += " (" + v.Decision + ")"
	}
	if v.Decision == handshake.AcceptedUnproved.String() {
		text += "\n  next: no source said whether it is in force; to insist, give --policy hard, and --allow-private if the authority is on this network"
	}
	return text
}

// trustOf converts a checker's result for step 4.
func trustOf(r *handshake.Result) wire.Trust {
	t := wire.Trust{Accepted: r.Trust == nil}
	for _, c := range r.Chain {
		t.Path = append(t.Path, wire.NameOf(c))
	}
	if r.Trust == nil {
		if len(t.Path) > 0 {
			t.Root = t.Path[len(t.Path)-1]
		}
		return t
	}
	t.Problem = r.Trust.Error()
	if e, ok := errors.AsType[*handshake.UntrustedError](r.Trust); ok {
		t.Miss, t.Problem = e.Miss.String(), cmp.Or(e.Explanation, t.Problem)
	}
	if r.Decision() == handshake.AcceptedOverridden || r.Decision() == handshake.AcceptedReportOnly {
		t.Accepted, t.Note = true, "Decision: "+r.Decision().String()+"."
	}
	return t
}

// revocationOf converts a checker's result for step 5.
func revocationOf(r *handshake.Result, policy string) wire.Revocation {
	out := wire.Revocation{Accepted: r.Err() == nil, Policy: policy, Decision: r.Decision().String()}
	if err := r.Objection(); err != nil {
		out.Problem = err.Error()
		if unavailable, ok := errors.AsType[*handshake.UnavailableError](err); ok {
			// The sources asked follow.
			out.Problem = fmt.Sprintf("no source gave the status of %s", wire.NameOf(unavailable.Certificate))
		}
	} else if r.Decision() == handshake.AcceptedUnproved {
		out.Problem = "not everything is proved, and the policy tolerates it"
	}
	for i := range r.Certificates {
		out.Certificates = append(out.Certificates, statusOf(&r.Certificates[i]))
	}
	return out
}

func statusOf(c *handshake.CertificateResult) wire.CertificateStatus {
	s := wire.CertificateStatus{Subject: wire.NameOf(c.Certificate), Serial: c.Certificate.SerialNumber.Text(16), Status: c.Status}
	if d := c.Decisive; d != nil {
		s.Source, s.Location, s.Age = d.Source.String(), d.Location, d.Age
		if !d.NextUpdate.IsZero() {
			s.Next = &d.NextUpdate
		}
		if !d.RevokedAt.IsZero() {
			s.RevokedAt, s.Reason = &d.RevokedAt, d.Reason.String()
		}
	}
	for i := range c.Evidence {
		e := &c.Evidence[i]
		if e.Err == nil || e.Source == handshake.SourceNone && e.Status.Conclusive() {
			continue
		}
		s.Asked = append(s.Asked, e.String())
	}
	return s
}

// nextForPrivate is the hint if a source was not asked because of its address.
const nextForPrivate = "the authority is on a network that is not public: fetch from there with --allow-private, or with --allow NETWORK"

// hintFor returns what to do about a refused handshake.
func hintFor(err error) string {
	untrusted, ok := errors.AsType[*handshake.UntrustedError](err)
	if !ok {
		if _, ok := errors.AsType[*fetch.AddressError](err); ok {
			return nextForPrivate
		}
		if _, ok := errors.AsType[*handshake.UnavailableError](err); ok {
			return "give a source with --crl or --ocsp (and --allow-private if it is on this network), or use --policy soft"
		}
		if _, ok := errors.AsType[*handshake.StaleError](err); ok {
			return "if the clock of this machine is right, the authority is late; --policy soft goes on without it"
		}
		return ""
	}
	switch untrusted.Miss {
	case handshake.MissUnknownIssuer, handshake.MissSelfSigned:
		return "if you know this authority, trust it with --roots FILE"
	case handshake.MissMissingIntermediate:
		return "the server should send its intermediate; until then add it with --roots FILE"
	case handshake.MissWrongName:
		return "check the name, or demand another with --servername NAME"
	case handshake.MissNotPinned:
		return "if the server has a new issuer, pin that with --pin; if not, another authority issued this"
	}
	return ""
}

// readSome reads until the peer closes or is quiet for a while.
func readSome(conn *tls.Conn, quiet time.Duration, most int) ([]byte, error) {
	var got []byte
	buffer := make([]byte, 16<<10)
	for len(got) < most {
		if err := conn.SetReadDeadline(time.Now().Add(quiet)); err != nil {
			return got, err
		}
		n, err := conn.Read(buffer)
		got = append(got, buffer[:n]...)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, os.ErrDeadlineExceeded):
			return got, nil
		case err != nil:
			return got, err
		}
	}
	return got, nil
}
