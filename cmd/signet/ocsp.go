package main

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"signet.example/signet/ca/keys"
	"signet.example/signet/handshake/fetch"
	"signet.example/signet/handshake/verify"
	"signet.example/signet/ocsp"
	"signet.example/signet/pki"
)

type ocspCmd struct {
	Query   ocspQueryCmd   `cmd:"" help:"Ask a responder about a certificate and judge its answer."`
	Request ocspRequestCmd `cmd:"" help:"Write an OCSP request to send with another tool."`
}

// ocspTarget is a certificate in question and its issuer's.
type ocspTarget struct {
	Certificate string `arg:"" help:"The certificate's file; - is standard input (signet show --pem SERIAL prints one)."`
	Issuer      string `placeholder:"FILE" help:"Certificate of its issuer (default: the second certificate of the file)."`
	Hash        string `default:"sha1" enum:"sha1,sha256" help:"Hash that names the certificate: sha1, which every responder knows, or sha256."`
	Nonce       string `default:"no" enum:"no,ask,demand" help:"no; ask for a fresh answer; or demand one, and accept none from a cache."`
}

type ocspQueryCmd struct {
	ocspTarget
	URL      string `name:"url" placeholder:"URL" help:"Ask here (default: the URL in the certificate)."`
	Post     bool   `help:"Use POST even if GET is possible."`
	Response string `placeholder:"FILE" help:"Write the answer here, in DER."`
}

func (ocspQueryCmd) Help() string {
	return `The answer counts only if it is about this certificate, fresh, and signed by the issuer or by a responder it appointed.
The exit status is 0 for good and 10 for anything else.

Examples:
  signet ocsp query app.example.pem
  signet ocsp query leaf.pem --issuer issuing.pem --nonce demand --url http://pki.example/ocsp/0123456789abcdef0123`
}

// Run queries and judges.
func (c *ocspQueryCmd) Run(a *app) error {
	certificate, issuer, err := c.read(a)
	if err != nil {
		if e, ok := errors.AsType[*pki.Error](err); ok && e.Kind == pki.KindNotFound && isSerial(c.Certificate) {
			return e.
				WithHint("responders are asked with the certificate: signet show --pem %s > FILE; the server itself knows serial numbers: signet status %s", c.Certificate, c.Certificate)
		}
		return err
	}
	var nonce []byte
	if c.Nonce != "no" {
		nonce = randomNonce()
	}
	request, der, err := c.request(certificate.Raw, issuer, nonce)
	if err != nil {
		return err
	}
	responders := []string{c.URL}
	if c.URL == "" {
		if responders, err = overHTTP(opQuery, c.Certificate+" names no responder", "name one with --url", certificate.OCSPServer); err != nil {
			return err
		}
	}
	answer, responder, err := inTurn(a, responders, func(responder string) ([]byte, error) { return c.ask(a, responder, der) })
	if err != nil {
		return err
	}
	if c.Response != "" {
		if err := writeFile(c.Response, answer); err != nil {
			return err
		}
	}
	query := ocsp.Query{Certificate: certificate, Issuers: []*x509.Certificate{issuer}, Time: time.Now(), Skew: clockSkew, Nonce: request.Nonce}
	said, err := ocsp.Verify(answer, query)
	if e, ok := errors.AsType[*ocsp.NonceError](err); ok && e.Got == nil && c.Nonce == "ask" {
		query.Nonce = nil // a responder may pre-produce its answers (RFC 9919)
		said, err = ocsp.Verify(answer, query)
	}
	result := describeAnswer(certificate, responder, said, err)
	result.IssuerKey = hex.EncodeToString(request.Items[0].ID.KeyHash)
	if err := a.show(result, func(p *printer) { printAnswer(p, c.Certificate, result, said) }); err != nil {
		return err
	}
	if said.Status != pki.StatusGood {
		return answerNo("the responder does not say good")
	}
	return nil
}

// isSerial reports whether text is meant as a serial number, not as a file.
func isSerial(text string) bool {
	_, err := pki.ParseSerial(text)
	return err == nil
}

const opQuery = "query OCSP"

// ask returns the answer of a responder, if it looks like an OCSP response.
func (c *ocspQueryCmd) ask(a *app, responder string, der []byte) ([]byte, error) {
	answer, err := c.send(a, responder, der)
	if err == nil && (len(answer) == 0 || answer[0] != 0x30) { // not a DER SEQUENCE
		return nil, pki.Errorf(pki.KindInvalid, opQuery, "what %s answered is not an OCSP response%s", responder, looksLike(answer)).
			WithHint("is a responder at this address? --url names another")
	}
	return answer, err
}

// send follows RFC 9919: GET if the URL is short, so that caches can answer; POST if caches must not answer, or if the
// GET is refused, since a responder need not support it (RFC 6960, Appendix A).
func (c *ocspQueryCmd) send(a *app, responder string, der []byte) ([]byte, error) {
	if address, get := ocsp.URL(responder, der); get && !c.Post && c.Nonce == "no" {
		answer, err := a.fetch(opQuery, fetch.Request{URL: address})
		if status := httpStatus(err); status < 400 || status > 499 {
			return answer, err
		}
	}
	return a.fetch(opQuery, fetch.Request{URL: responder, Body: der, Type: "application/ocsp-request"})
}

type ocspRequestCmd struct {
	leafArg
	Issuer string `placeholder:"FILE" help:"Certificate of its issuer (default: the second certificate of the file)."`
	Hash   string `default:"sha1" enum:"sha1,sha256" help:"Hash that names the certificate: sha1, which every responder knows, or sha256."`
	Nonce  string `default:"none" placeholder:"HEX" help:"none, random, or the nonce in hexadecimal, 1 to 128 octets."`
	Out    string `short:"o" required:"" placeholder:"FILE" help:"Write the request here, in DER."`
}

func (ocspRequestCmd) Help() string {
	return `The exit status is 0 if the request was written, 1 if a certificate does not parse, 2 if the command itself went wrong.

Examples:
  signet ocsp request app.example.pem --out request.der
  signet ocsp request app.pem --issuer issuing.pem --hash sha256 --nonce random --out request.der
  curl -s --data-binary @request.der -H 'Content-Type: application/ocsp-request' http://pki.example/ocsp/ID > answer.der`
}

// Run writes one request.
func (c *ocspRequestCmd) Run(a *app) error {
	const op = "make OCSP request"
	leaf, err := c.file(op)
	if err != nil {
		return err
	}
	nonce, err := parseNonce(c.Nonce)
	if err != nil {
		return pki.Errorf(pki.KindInvalid, op, "%w", err).InField("nonce").WithHint("give none, random, or hexadecimal digits")
	}
	ders, err := a.readForeign(leaf)
	if err != nil {
		return err
	}
	if c.Issuer != "" {
		above, err := a.readForeign(c.Issuer)
		if err != nil {
			return err
		}
		ders = append(ders[:1], above...)
	}
	if len(ders) < 2 {
		return pki.Errorf(pki.KindInvalid, op, "%s does not hold the certificate of the issuer", leaf).WithHint("name it with --issuer")
	}
	issuer, err := verify.ParseCertificate(ders[1])
	if err != nil {
		return unparsed(pki.Errorf(pki.KindInvalid, op, "the certificate of the issuer does not parse: %w", err))
	}
	_, der, err := ocspTarget{Hash: c.Hash}.request(ders[0], issuer, nonce)
	if err != nil {
		return unparsed(err)
	}
	if err := writeFile(c.Out, der); err != nil {
		return ownFault(err)
	}
	var responders []string
	stranger := false
	// A certificate that crypto/x509 refuses can be asked about, too.
	if certificate, err := verify.ParseCertificate(ders[0]); err == nil {
		responders = certificate.OCSPServer
		stranger = issuer.CheckSignature(certificate.SignatureAlgorithm, certificate.RawTBSCertificate, certificate.Signature) != nil
	}
	result := map[string]any{"request_file": c.Out, "octets": len(der), "responders": responders, "issuer_did_not_sign": stranger}
	return a.show(result, func(p *printer) {
		p.line("wrote an OCSP request of %d octets to %s", len(der), c.Out)
		if stranger {
			p.line("note: the issuer that was named did not sign this certificate: a responder will not know it")
		}
		for _, responder := range responders {
			p.next("curl -s --data-binary @%s -H 'Content-Type: application/ocsp-request' %s > answer.der", c.Out, responder)
		}
	})
}

// parseNonce parses the value of --nonce for a request.
func parseNonce(text string) ([]byte, error) {
	switch text {
	case "none":
		return nil, nil
	case "random":
		return randomNonce(), nil
	}
	nonce, err := hex.DecodeString(text)
	if err == nil && (len(nonce) < ocsp.MinNonce || len(nonce) > ocsp.MaxNonce) {
		err = fmt.Errorf("%d octets: a nonce has %d to %d", len(nonce), ocsp.MinNonce, ocsp.MaxNonce)
	}
	return nonce, err
}

func randomNonce() []byte {
	nonce := make([]byte, ocsp.RequesterNonce)
	rand.Read(nonce) // never fails (crypto/rand)
	return nonce
}

// read reads the certificate and its issuer's from one file or two.
func (t ocspTarget) read(a *app) (certificate, issuer *x509.Certificate, err error) {
	const op = "read certificate"
	chain, err := a.readCertificates(t.Certificate)
	if err != nil {
		return nil, nil, err
	}
	if t.Issuer != "" {
		issuer, err = a.readCertificate(t.Issuer)
		return chain[0], issuer, err
	}
	if len(chain) < 2 {
		return nil, nil, pki.Errorf(pki.KindInvalid, op, "%s does not hold the certificate of the issuer", t.Certificate).
			WithHint("name it with --issuer")
	}
	return chain[0], chain[1], nil
}

// request returns the OCSP request.
func (t ocspTarget) request(certificate []byte, issuer *x509.Certificate, nonce []byte) (*ocsp.Request, []byte, error) {
	const op = "make OCSP request"
	from, err := ocsp.IssuerOf(issuer)
	if err != nil {
		return nil, nil, pki.Errorf(pki.KindInvalid, op, "%w", err)
	}
	serial, err := ocsp.SerialOfDER(certificate)
	if err != nil {
		return nil, nil, pki.Errorf(pki.KindInvalid, op, "%w", err)
	}
	hash := crypto.SHA1 // it identifies, and signs nothing: RFC 9919, Section 2.1.1 still profiles it
	if t.Hash == "sha256" {
		hash = crypto.SHA256
	}
	request := ocsp.NewRequest(from.CertID(hash, serial))
	request.Nonce = nonce
	der, err := request.Marshal()
	if err != nil {
		return nil, nil, pki.Errorf(pki.KindInternal, op, "%w", err)
	}
	return request, der, nil
}

// ocspAnswer is what `signet ocsp query --output json` prints.
type ocspAnswer struct {
	Serial    string `json:"serial"`
	IssuerKey string `json:"issuer_key_hash"` // hexadecimal, with the algorithm of --hash
	Responder string `json:"responder"`       // URL
	// Status is good, revoked, not-issued or unknown; invalid or stale if the answer must not be relied on.
	Status     string     `json:"status"`
	Problem    string     `json:"problem,omitempty"`
	Reason     string     `json:"reason,omitempty"`
	RevokedAt  *time.Time `json:"revoked_at,omitempty"`
	ThisUpdate *time.Time `json:"this_update,omitempty"`
	NextUpdate *time.Time `json:"next_update,omitempty"`
	SignedBy   string     `json:"signed_by,omitempty"`
	Key        string     `json:"key,omitempty"` // the key that signed
	Delegated  bool       `json:"delegated"`
	Checks     []string   `json:"checks,omitempty"` // checks that passed; absent if there is a problem
	Nonce      bool       `json:"nonce_matched"`
	Hint       string     `json:"hint,omitempty"` // what to do about the problem
}

func describeAnswer(certificate *x509.Certificate, responder string, said ocsp.Result, err error) ocspAnswer {
	out := ocspAnswer{Serial: certificate.SerialNumber.Text(16), Responder: responder, Status: said.Status.String(), Nonce: said.NonceMatched}
	if err != nil {
		out.Status, out.Problem = pki.StatusInvalid.String(), err.Error()
		if _, ok := errors.AsType[*ocsp.StaleError](err); ok {
			out.Status = pki.StatusStale.String()
		}
		if e, ok := errors.AsType[*ocsp.UnsuccessfulError](err); ok {
			out.Hint = map[ocsp.ResponseStatus]string{
				ocsp.Unauthorized: "it does not answer for this issuer, or knows nothing of this certificate: is it the right responder, and --issuer the one that signed?",
				ocsp.TryLater:     "ask again in a moment",
			}[e.Status]
		}
		if e, ok := errors.AsType[*ocsp.NonceError](err); ok && e.Got == nil {
			out.Hint = "this responder makes its answers beforehand (RFC 9919): `--nonce ask` takes one; a Signet makes them afresh with `ocsp.nonce: live`"
		}
		return out
	}
	out.ThisUpdate, out.SignedBy, out.Delegated = &said.ThisUpdate, pki.NameText(said.Responder.Certificate.RawSubject), said.Responder.Delegated
	out.Checks = []string{"issuer and serial number", "the signature"}
	if said.Responder.Delegated {
		out.Checks = append(out.Checks, "that the issuer appointed the responder")
	}
	if out.Checks = append(out.Checks, "that it is in force now"); said.NonceMatched {
		out.Checks = append(out.Checks, "that it was made for this request")
	}
	out.Key = keys.AlgorithmOf(said.Responder.Certificate.PublicKey).String()
	if !said.NextUpdate.IsZero() {
		out.NextUpdate = &said.NextUpdate
	}
	if said.NeverIssued { // RFC 6960, Section 2.2, encodes it as a hold since 1970
		out.Status = pki.StatusNotIssued.String()
		out.Hint = "its issuer made no certificate with this serial number: if the issuer's key signed it all the same, others have that key. Tell the operators of the authority (of a Signet, `signet status` says more)"
	} else if said.Status == pki.StatusRevoked {
		out.Reason, out.RevokedAt = said.Reason.String(), &said.RevokedAt
	}
	return out
}

func printAnswer(p *printer, what string, answer ocspAnswer, said ocsp.Result) {
	if answer.Problem != "" {
		p.line("%s: nothing is known by this answer: %s", what, answer.Problem)
		p.fields("responder", answer.Responder)
		if answer.Hint != "" {
			p.step(answer.Hint)
		}
		return
	}
	revoked := ""
	if answer.RevokedAt != nil {
		revoked = on(*answer.RevokedAt)
	}
	p.line("%s: %s", what, answer.Status)
	signer := answer.SignedBy
	if answer.Delegated {
		signer += ", appointed by the issuer"
	}
	p.fields("serial", answer.Serial, "revoked", revoked, "reason", answer.Reason, "from", on(said.ThisUpdate), "until", on(said.NextUpdate), "signed by", signer, "key", answer.Key, "responder", answer.Responder, "checked", strings.Join(answer.Checks, ", "))
	if answer.Hint != "" {
		p.step(answer.Hint)
	}
}
