package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"signet.example/signet/crl"
	"signet.example/signet/handshake/fetch"
	"signet.example/signet/pki"
)

type crlCmd struct {
	Import crlImportCmd `cmd:"" help:"Publish the revocation list of an off-line issuer, signed at a ceremony."`
	Fetch  crlFetchCmd  `cmd:"" help:"Get a revocation list from the server, a URL or the URLs of a certificate."`
	Show   crlShowCmd   `cmd:"" help:"Show what a revocation list says."`
	Verify crlVerifyCmd `cmd:"" help:"Verify the signature of a revocation list, and that it is fresh."`
}

type crlFetchCmd struct {
	From  string `arg:"" help:"Issuer id or label, an http URL, or a certificate file."`
	Shard string `placeholder:"EPOCH-BLOCK" help:"With an issuer: this shard instead of the complete list."`
	Out   string `short:"o" default:"-" placeholder:"FILE" help:"Write it here; - is standard output."`
	PEM   bool   `name:"pem" help:"Write PEM instead of DER."`
	serverFlags
}

func (crlFetchCmd) Help() string {
	return `Examples:
  signet crl fetch issuing --out issuing.crl
  signet crl fetch http://pki.example/crl/0123456789abcdef0123.crl | signet crl show -
  signet crl fetch app.example.pem --pem`
}

// Run gets one list.
func (c *crlFetchCmd) Run(a *app) error {
	got, err := c.get(a)
	if err != nil {
		return err
	}
	der, list := got.der, got.list
	if c.Out == "-" && !c.PEM && a.toTerminal() {
		return pki.Errorf(pki.KindInvalid, "fetch CRL", "a list in DER is not for a terminal").
			WithHint("use --out FILE, or --pem, or pipe it into `signet crl show -`")
	}
	data := der
	if c.PEM {
		data = pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
	}
	if c.Out == "-" {
		_, err := a.out.Write(data)
		return err
	}
	if err := writeFile(c.Out, data); err != nil {
		return err
	}
	return a.show(describeList(list), func(p *printer) {
		p.line("wrote %s", c.Out)
		printList(p, list)
		p.step(c.verification(a, list))
	})
}

// verification returns the command that verifies a fetched list. A certificate's file usually has its issuer's behind
// it.
func (c *crlFetchCmd) verification(a *app, list *crl.List) string {
	if !strings.HasPrefix(c.From, "http") && missing(c.From) {
		return fmt.Sprintf("signet issuer show %s --pem > issuer.pem; signet crl verify %s --issuer issuer.pem", quoted(c.From), quoted(c.Out))
	}
	if chain, err := a.readCertificates(c.From); err == nil && issuerOf(list, chain) != nil {
		return fmt.Sprintf("signet crl verify %s --issuer %s", quoted(c.Out), quoted(c.From))
	}
	return fmt.Sprintf("signet crl verify %s --issuer FILE, the certificate of its issuer", quoted(c.Out))
}

// issuerOf returns the certificate whose subject is the issuer of a list, or nil.
func issuerOf(list *crl.List, chain []*x509.Certificate) *x509.Certificate {
	for _, certificate := range chain {
		if bytes.Equal(certificate.RawSubject, list.Issuer) {
			return certificate
		}
	}
	return nil
}

// fetched is a fetched list and its octets.
type fetched struct {
	der  []byte
	list *crl.List
}

func (c *crlFetchCmd) get(a *app) (fetched, error) {
	const op = "fetch CRL"
	ask := func(url string) (fetched, error) {
		data, err := a.fetch(op, fetch.Request{URL: url})
		if err != nil {
			return fetched{}, err
		}
		return readFetched(op, url, data)
	}
	if strings.HasPrefix(c.From, "http://") || strings.HasPrefix(c.From, "https://") {
		return ask(c.From)
	}
	if _, err := os.Stat(c.From); err == nil {
		certificate, err := a.readCertificate(c.From)
		if err != nil {
			return fetched{}, err
		}
		addresses, err := overHTTP(op, c.From+" names no CRL", "signet crl fetch URL asks anywhere", certificate.CRLDistributionPoints)
		if err != nil {
			return fetched{}, err
		}
		list, _, err := inTurn(a, addresses, ask)
		return list, err
	}
	api, err := a.connect(c.serverFlags)
	if err != nil {
		return fetched{}, err
	}
	defer api.Close()
	issuer, err := findIssuer(a, api, c.From)
	if err != nil {
		return fetched{}, err
	}
	data, err := api.CRL(a.ctx, issuer, c.Shard)
	if err != nil {
		return fetched{}, err
	}
	return readFetched(op, c.From, data)
}

func readFetched(op, from string, data []byte) (fetched, error) {
	if block, _ := pem.Decode(data); block != nil && block.Type == "X509 CRL" { // some servers send PEM
		data = block.Bytes
	}
	list, err := crl.Parse(data)
	if err != nil {
		return fetched{}, pki.Errorf(pki.KindInvalid, op, "what %s gave is not a CRL%s: %w", from, looksLike(data), err)
	}
	return fetched{data, list}, nil
}

// overHTTP returns the addresses with http and https. Certificates of directories name others as well.
func overHTTP(op, none, hint string, addresses []string) (over []string, err error) {
	for _, address := range addresses {
		if scheme, _, _ := strings.Cut(address, ":"); strings.EqualFold(scheme, "http") || strings.EqualFold(scheme, "https") {
			over = append(over, address)
		}
	}
	if len(over) > 0 {
		return over, nil
	}
	if len(addresses) > 0 {
		none += " by HTTP, but " + strings.Join(addresses, ", ")
	}
	return nil, pki.Errorf(pki.KindNotFound, op, "%s", none).WithHint("%s", hint)
}

// inTurn asks addresses, at least one, in order until one answers, and returns that one. It prints the errors of those
// before. If none answers, the error is that of the last.
func inTurn[T any](a *app, addresses []string, ask func(address string) (T, error)) (answer T, from string, err error) {
	for i, address := range addresses {
		if answer, err = ask(address); err == nil || a.ctx.Err() != nil {
			return answer, address, err
		}
		if i+1 < len(addresses) {
			a.note("note: %v; asking %s", err, addresses[i+1])
		}
	}
	return answer, "", err
}

// looksLike describes octets that should have been DER, as far as a glance tells.
func looksLike(data []byte) string {
	text := bytes.ToLower(bytes.TrimLeft(data[:min(len(data), 512)], " \t\r\n\ufeff"))
	block, _ := pem.Decode(data)
	switch {
	case len(data) == 0:
		return ", but empty"
	case bytes.HasPrefix(data, []byte{0x1f, 0x8b}):
		return ", but compressed (gzip)"
	case bytes.HasPrefix(text, []byte("<")):
		return ", but a web page"
	case block != nil:
		return ", but PEM of a " + block.Type
	}
	return ""
}

// fetch fetches a URL given by the user. The guards against foreign URLs are open, since it was given on the command
// line.
func (a *app) fetch(op string, request fetch.Request) ([]byte, error) {
	f, err := fetch.New(fetch.Config{Allow: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}})
	if err != nil {
		return nil, pki.Errorf(pki.KindInternal, op, "%w", err)
	}
	request.MaxBytes, request.Timeout = maxInput, 30*time.Second
	response, err := f.Do(a.ctx, request)
	if err != nil {
		at, parseErr := url.Parse(request.URL)
		written := parseErr == nil && (at.Scheme == "http" || at.Scheme == "https") && at.Host != "" && at.User == nil
		// Every address is allowed; redirects are not.
		if failed, ok := errors.AsType[*fetch.Error](err); ok && failed.Cause == fetch.NotAllowed && !written {
			return nil, pki.Errorf(pki.KindInvalid, op, "%w", failed.Err).InField("URL").WithHint("write it as http://pki.example/...")
		}
		if status := httpStatus(err); status != 0 {
			return nil, badStatus(op, status, err)
		}
		if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
			return nil, pki.Errorf(pki.KindUnavailable, op, "%w", err).WithHint("CRLs and OCSP responses are served over plain http: the address is in the certificate")
		}
		host := request.URL
		if written { // the path of an OCSP request is the request
			host = at.Scheme + "://" + at.Host
		}
		return nil, pki.Errorf(pki.KindUnavailable, op, "%w", err).WithHint("is %s up, and can it be reached from here?", host)
	}
	return response.Body, nil
}

// httpStatus returns the status with which a server refused; 0 if there was no answer.
func httpStatus(err error) int {
	if failed, ok := errors.AsType[*fetch.Error](err); ok && failed.Cause == fetch.BadStatus {
		return failed.Status
	}
	return 0
}

// badStatus returns the error about a server that is up but did not answer with what was asked for.
func badStatus(op string, status int, err error) error {
	switch {
	case status == http.StatusNotFound || status == http.StatusGone:
		return pki.Errorf(pki.KindNotFound, op, "%w", err).WithHint("the server answers, but has nothing there: check the address")
	case status >= 500 || status == http.StatusTooManyRequests:
		return pki.Errorf(pki.KindUnavailable, op, "%w", err).
			WithHint("the server is up, but busy or in trouble (%d %s): ask again later", status, http.StatusText(status))
	}
	return pki.Errorf(pki.KindRefused, op, "%w", err).
		WithHint("the server is up, but refuses the request (%d %s): check the address, and any proxy in front of the server", status, http.StatusText(status))
}

type crlShowCmd struct {
	File   string `arg:"" help:"A CRL in DER or PEM; - is standard input."`
	Serial string `placeholder:"HEX" help:"Show only what it says about this serial; exit status 10 if it revokes it."`
	Limit  int    `short:"n" default:"20" help:"Print at most this many entries; 0: all of them."`
}

func (crlShowCmd) Help() string {
	return `It shows what the list says; "signet crl verify" says whether to rely on it. Two issuers may have used the same serial
number: of an indirect list every entry with it is shown, with its issuer. A delta takes certificates that are no longer on
hold off the list (removeFromCRL).

Examples:
  signet crl show issuing.crl
  signet crl show issuing.crl --serial 41aa...`
}

// Run prints one list.
func (c *crlShowCmd) Run(a *app) error {
	list, err := a.readCRL(c.File)
	if err != nil {
		return err
	}
	if c.Serial != "" {
		return c.lookup(a, list)
	}
	shown := shownList{listSummary: describeList(list), Entries: []listEntry{}}
	for e := range list.Entries() {
		if c.Limit > 0 && len(shown.Entries) == c.Limit {
			break
		}
		shown.Entries = append(shown.Entries, describeEntry(list, e))
	}
	return a.show(shown, func(p *printer) {
		p.line("%s", c.File)
		printList(p, list)
		var rows [][]string
		for _, e := range shown.Entries {
			rows = append(rows, []string{e.Serial, on(e.RevokedAt), strings.TrimSuffix(e.Reason+", of "+e.Issuer, ", of ")})
		}
		if len(rows) > 0 {
			p.table([]string{"SERIAL", "REVOKED", "REASON"}, rows)
		}
		if more := list.Len() - len(rows); more > 0 {
			p.next("%d more entries: --limit 0 for all", more)
		}
	})
}

// lookup looks up one serial.
func (c *crlShowCmd) lookup(a *app, list *crl.List) error {
	serial, err := pki.ParseSerial(c.Serial)
	if err != nil {
		return (&pki.Error{Kind: pki.KindInvalid, Op: "show CRL", Err: err}).InField("--serial")
	}
	said := lookedUp{Serial: serial.String(), Entries: []listEntry{}}
	for e := range list.Entries() {
		if number, err := pki.SerialFromBytes(e.Serial); err == nil && number == serial {
			entry := describeEntry(list, e)
			said.Entries = append(said.Entries, entry)
			if said.Entry == nil && e.Reason != pki.RemoveFromCRL {
				said.Listed, said.Entry = true, &entry
			}
		}
	}
	if err := a.show(said, func(p *printer) { printLookedUp(p, list, said) }); err != nil || !said.Listed {
		return err
	}
	return answerNo("the serial is on the list")
}

// printLookedUp prints what a list says about one serial.
func printLookedUp(p *printer, list *crl.List, said lookedUp) {
	for _, e := range said.Entries {
		verb := "is on the list"
		if e.Reason == pki.RemoveFromCRL.String() {
			verb = "is removed from the list: it is no longer on hold"
		}
		lost := ""
		if e.InvalidityAt != nil {
			lost = on(*e.InvalidityAt)
		}
		p.line("%s %s", said.Serial, verb)
		p.fields("of", e.Issuer, "revoked", on(e.RevokedAt), "reason", e.Reason, "key lost", lost)
	}
	switch {
	case len(said.Entries) > 0:
	case list.Delta:
		p.line("%s is not on this delta: the list before it still applies", said.Serial)
	default:
		p.line("%s is not on the list", said.Serial)
	}
}

type crlVerifyCmd struct {
	File   string `arg:"" help:"A CRL in DER or PEM; - is standard input."`
	Issuer string `required:"" placeholder:"FILE" help:"Certificate of the issuer; a file may hold others too."`
}

func (crlVerifyCmd) Help() string {
	return `Checks the signature, that the issuer may sign CRLs, that the list is neither too old nor from the future (by more than a
minute: clocks differ), and that it has no critical extension that is not understood. The exit status is 10 if the list must
not be believed. It shows what the list covers: that a certificate is not on a delta, on a list of authorities or on one for
some reasons only, proves nothing.

Examples:
  signet crl verify issuing.crl --issuer issuing.pem
  signet crl fetch app.example.pem --out app.crl
  signet crl verify app.crl --issuer app.example.pem`
}

// Run checks one list.
func (c *crlVerifyCmd) Run(a *app) error {
	list, err := a.readCRL(c.File)
	if err != nil {
		return err
	}
	chain, err := c.chain(a)
	if err != nil {
		return err
	}
	result := verifiedList{listSummary: describeList(list), Believable: true}
	if issuer := issuerOf(list, chain); issuer == nil {
		result.Believable, result.Problem = false, fmt.Sprintf("no certificate in %s is of its issuer, %s", c.Issuer, result.Issuer)
	} else if err := judgeList(list, issuer, time.Now()); err != nil {
		result.Believable, result.Problem = false, err.Error()
	} else {
		result.Checks = []string{"the signature", "that its issuer may sign lists", "that it is in force now", "that nothing critical in it is unknown"}
	}
	if err := a.show(result, func(p *printer) {
		if result.Believable {
			p.line("%s is authentic and fresh", c.File)
		} else {
			p.line("%s must not be believed: %s", c.File, result.Problem)
		}
		printList(p, list)
		p.fields("checked", strings.Join(result.Checks, ", "))
	}); err != nil {
		return err
	}
	if !result.Believable {
		return answerNo(result.Problem)
	}
	return nil
}

// chain reads the file that holds the issuer's certificate.
func (c *crlVerifyCmd) chain(a *app) ([]*x509.Certificate, error) {
	chain, err := a.readCertificates(c.Issuer)
	if err != nil {
		return nil, pki.Errorf(pki.KindOf(err), "verify CRL", "%w", err).
			WithHint("`signet issuer show NAME --pem` prints an issuer's certificate")
	}
	return chain, nil
}

// clockSkew is how far the clock of the signer of an answer or list and that of this machine may differ.
const clockSkew = time.Minute

// judgeList returns why a list must not be relied on at a time.
func judgeList(list *crl.List, issuer *x509.Certificate, now time.Time) error {
	switch {
	case list.ThisUpdate.After(now.Add(clockSkew)):
		return fmt.Errorf("it is from the future: thisUpdate is %s", on(list.ThisUpdate))
	case list.NextUpdate.IsZero():
		return errors.New("it has no nextUpdate, so it is unknown whether it is fresh") // RFC 5280, Section 5.1.2.5
	case list.NextUpdate.Before(list.ThisUpdate):
		return errors.New("its nextUpdate is before its thisUpdate")
	case !list.NextUpdate.Add(clockSkew).After(now):
		return fmt.Errorf("it is stale: nextUpdate was %s", on(list.NextUpdate))
	}
	return errors.Join(list.Verify(issuer), list.Unusable)
}

// readCRL reads a list in DER or PEM.
func (a *app) readCRL(path string) (*crl.List, error) {
	der, err := a.readDER(path, "CRL", "X509 CRL")
	if err != nil {
		return nil, err
	}
	list, err := crl.Parse(der)
	if err != nil {
		return nil, pki.Errorf(pki.KindInvalid, "read CRL", "%s is not a CRL: %w", path, err)
	}
	return list, nil
}

// listSummary is what the crl commands print about a list.
type listSummary struct {
	Version    int        `json:"version"`
	Issuer     string     `json:"issuer"`
	Signature  string     `json:"signature"` // algorithm
	Number     string     `json:"number,omitempty"`
	BaseNumber string     `json:"base_number,omitempty"` // of a delta
	ThisUpdate time.Time  `json:"this_update"`
	NextUpdate *time.Time `json:"next_update,omitempty"`
	Entries    int        `json:"revoked"`
	Scope      []string   `json:"scope,omitempty"`    // fields of the critical issuing distribution point
	Covers     []string   `json:"covers,omitempty"`   // what narrows or widens it; absent: everything from its issuer
	Deltas     []string   `json:"deltas,omitempty"`   // where its deltas are (freshestCRL)
	Unusable   string     `json:"unusable,omitempty"` // why the list must not be used; absent if it may be
}

type shownList struct {
	listSummary
	Entries []listEntry `json:"entries"`
}

type verifiedList struct {
	listSummary
	Believable bool     `json:"believable"`
	Problem    string   `json:"problem,omitempty"`
	Checks     []string `json:"checks,omitempty"` // checks that passed; absent if there is a problem
}

// lookedUp is what `signet crl show --serial` prints as JSON.
type lookedUp struct {
	Serial  string      `json:"serial"`
	Listed  bool        `json:"listed"`          // at least one entry revokes the serial
	Entry   *listEntry  `json:"entry,omitempty"` // the first such entry
	Entries []listEntry `json:"entries"`
}

type listEntry struct {
	Serial       string     `json:"serial"`
	RevokedAt    time.Time  `json:"revoked_at"`
	Reason       string     `json:"reason"`
	InvalidityAt *time.Time `json:"invalidity_at,omitempty"`
	Issuer       string     `json:"issuer,omitempty"` // of the certificate, if it differs from the list's
}

func describeList(list *crl.List) listSummary {
	s := listSummary{Version: list.Version, Issuer: pki.NameText(list.Issuer), Signature: list.Algorithm.String(), ThisUpdate: list.ThisUpdate, Entries: list.Len()}
	if list.HasNumber {
		s.Number = numberText(list.Number)
	}
	if list.Delta {
		s.BaseNumber = numberText(list.BaseNumber)
	}
	if !list.NextUpdate.IsZero() {
		s.NextUpdate = &list.NextUpdate
	}
	if list.IDP != nil {
		for _, name := range list.IDP.Names {
			s.Scope = append(s.Scope, generalName(name))
		}
		s.Covers = coverage(list.IDP)
	}
	if list.Delta {
		s.Covers = append(s.Covers, "changes only")
	}
	for _, point := range list.Freshest {
		for _, name := range point.Names {
			s.Deltas = append(s.Deltas, generalName(name))
		}
	}
	if list.Unusable != nil {
		s.Unusable = list.Unusable.Error()
	}
	return s
}

// coverage describes an issuing distribution point.
func coverage(scope *crl.IssuingDistributionPoint) (words []string) {
	for _, part := range []struct {
		word string
		is   bool
	}{
		{"user certificates only", scope.OnlyUserCerts}, {"authorities only", scope.OnlyCACerts}, {"attribute certificates only", scope.OnlyAttributeCerts},
		{"some reasons only", scope.OnlySomeReasons != crl.AllReasons}, {"certificates of other issuers too", scope.Indirect},
	} {
		if part.is {
			words = append(words, part.word)
		}
	}
	return words
}

func describeEntry(list *crl.List, e crl.Entry) listEntry {
	number := e.Serial
	if len(number) > 1 && number[0] == 0 { // the octet that keeps an INTEGER positive is not shown
		number = number[1:]
	}
	out := listEntry{Serial: hex.EncodeToString(number), RevokedAt: e.RevokedAt, Reason: e.Reason.String()}
	if !e.InvalidityAt.IsZero() {
		out.InvalidityAt = &e.InvalidityAt
	}
	if !bytes.Equal(e.Issuer, list.Issuer) {
		out.Issuer = pki.NameText(e.Issuer)
	}
	return out
}

func printList(p *printer, list *crl.List) {
	s := describeList(list)
	delta, entries := "", "revoked"
	if list.Delta {
		delta, entries = "changes since number "+s.BaseNumber, "changed" // some may be released
	}
	p.fields("issuer", s.Issuer, "number", s.Number, "delta", delta, "from", on(list.ThisUpdate), "until", on(list.NextUpdate),
		"signature", s.Signature, "scope", strings.Join(s.Scope, ", "), "covers", strings.Join(s.Covers, ", "), "deltas", strings.Join(s.Deltas, ", "), "unusable", s.Unusable, entries, fmt.Sprint(s.Entries))
}
