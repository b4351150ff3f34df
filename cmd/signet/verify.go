// Certificates of other CAs may have negative serial numbers, against RFC 5280, Section 4.1.2.2. A program that judges
// foreign certificates must be able to read them. Signet itself issues none.
//
//go:debug x509negativeserial=1

package main

import (
	"bytes"
	"encoding/pem"
	"strings"

	"signet.example/signet/handshake/verify"
	"signet.example/signet/pki"
)

type verifyCmd struct {
	Chain        verifyChainCmd    `cmd:"" help:"May this certificate be accepted?"`
	CRL          verifyCRLCmd      `cmd:"" name:"crl" help:"What do these CRLs say about a certificate?"`
	OCSP         verifyOCSPCmd     `cmd:"" name:"ocsp" help:"What does this OCSP response say about a certificate?"`
	OCSPResponse verifyResponseCmd `cmd:"" name:"ocsp-response" help:"Was this OCSP response signed by an authorised responder?"`
	Batch        verifyBatchCmd    `cmd:"" help:"Judge many cases: JSON lines in, JSON lines out."`
}

func (verifyCmd) Help() string {
	return `Everything that is looked at is given: no network, no clock, no roots of the system. Files are DER or PEM.
The exit status is 0 for accepted or good, 1 for rejected, revoked or unknown, 2 if the command itself went wrong. Input of
others that does not parse is rejected.`
}

// leafArg names one certificate.
type leafArg struct {
	Certificate string `arg:"" optional:"" help:"The certificate; - is standard input."`
	Leaf        string `placeholder:"FILE" help:"The certificate, in place of the argument."`
}

// file is the one that is named.
func (l leafArg) file(op string) (string, error) {
	if (l.Certificate == "") == (l.Leaf == "") {
		return "", pki.Errorf(pki.KindInvalid, op, "want one certificate").WithHint("name it as the argument or with --leaf")
	}
	return l.Certificate + l.Leaf, nil
}

type verifyChainCmd struct {
	leafArg
	Roots         []string `required:"" sep:"none" placeholder:"FILE" help:"Trusted certificates."`
	Intermediates []string `sep:"none" placeholder:"FILE" help:"Untrusted certificates: issuers, CRL issuers, OCSP responders."`
	Time          string   `required:"" placeholder:"RFC3339" help:"When."`
	DNS           *string  `name:"dns" placeholder:"NAME" help:"Demand this name."`
	IP            *string  `name:"ip" placeholder:"ADDR" help:"Demand this address."`
	EKU           string   `name:"eku" default:"any" enum:"serverAuth,clientAuth,any" help:"Purpose: serverAuth, clientAuth or any."`
	CRL           []string `name:"crl" sep:"none" placeholder:"FILE" help:"CRLs at hand."`
	OCSP          []string `name:"ocsp" sep:"none" placeholder:"FILE" help:"OCSP responses at hand."`
	Revocation    string   `default:"off" enum:"off,soft-leaf,soft-chain,hard-leaf,hard-chain" help:"off, or how far and how strictly: soft-leaf, soft-chain, hard-leaf, hard-chain."`
	CRLExpiration string   `name:"crl-expiration" default:"enforce" enum:"enforce,ignore" help:"enforce the nextUpdate of CRLs, or ignore it."`
	MaxAge        *string  `placeholder:"DUR" help:"How old CRLs and responses may be, as in 168h."`
	Policy        []string `sep:"none" placeholder:"OID" help:"Acceptable certificate policies. They bind where a certificate of the chain demands a policy; see --explicit-policy."`
	Explicit      bool     `name:"explicit-policy" help:"Demand that one of --policy (any, if none is given) is valid for the whole chain."`
}

func (verifyChainCmd) Help() string {
	return `Examples:
  signet verify chain app.pem --roots root.pem --intermediates issuing.pem --time 2026-09-01T00:00:00Z --dns app.example
  signet verify chain app.pem --roots root.pem --intermediates issuing.pem --time 2026-09-01T00:00:00Z \
    --crl issuing.crl --crl root.crl --revocation hard-chain`
}

// Run judges one chain.
func (c *verifyChainCmd) Run(a *app) error {
	question := verify.Case{
		Kind: verify.KindChain, Time: c.Time, EKU: c.EKU, DNS: c.DNS, IP: c.IP, Revocation: verify.Revocation(c.Revocation),
		CRLExpiration: c.CRLExpiration, MaxAge: c.MaxAge, Policies: c.Policy, ExplicitPolicy: c.Explicit,
	}
	return a.judge(&question, inputs{
		{c.Roots, &question.Roots}, {c.Intermediates, &question.Intermediates}, {c.CRL, &question.CRLs}, {c.OCSP, &question.OCSPs},
	}, &c.leafArg)
}

type verifyCRLCmd struct {
	leafArg
	CRL    []string `name:"crl" required:"" sep:"none" placeholder:"FILE" help:"CRLs: complete, delta, indirect, in any order."`
	Issuer []string `required:"" sep:"none" placeholder:"FILE" help:"Certificates of the issuer, taken as given."`
	Time   string   `required:"" placeholder:"RFC3339" help:"When."`
	MaxAge *string  `placeholder:"DUR" help:"How old CRLs may be, as in 168h."`
}

func (verifyCRLCmd) Help() string {
	return `Examples:
  signet verify crl app.pem --crl issuing.crl --issuer issuing.pem --time 2026-09-01T00:00:00Z
  signet verify crl app.pem --crl complete.crl --crl delta.crl --issuer issuing.pem --time 2026-09-01T00:00:00Z --max-age 168h`
}

// Run judges by CRLs alone.
func (c *verifyCRLCmd) Run(a *app) error {
	question := verify.Case{Kind: verify.KindCRL, Time: c.Time, MaxAge: c.MaxAge}
	return a.judge(&question, inputs{{c.CRL, &question.CRLs}, {c.Issuer, &question.Issuers}}, &c.leafArg)
}

type verifyOCSPCmd struct {
	leafArg
	OCSP   []string `name:"ocsp" required:"" sep:"none" placeholder:"FILE" help:"OCSP responses."`
	Issuer []string `required:"" sep:"none" placeholder:"FILE" help:"Certificates of the issuer, taken as given."`
	Time   string   `required:"" placeholder:"RFC3339" help:"When."`
	MaxAge *string  `placeholder:"DUR" help:"How old responses may be, as in 168h."`
	Nonce  *string  `placeholder:"HEX" help:"Demand this nonce."`
}

func (verifyOCSPCmd) Help() string {
	return `Examples:
  signet verify ocsp app.pem --ocsp answer.der --issuer issuing.pem --time 2026-09-01T00:00:00Z`
}

// Run judges by OCSP responses alone.
func (c *verifyOCSPCmd) Run(a *app) error {
	question := verify.Case{Kind: verify.KindOCSP, Time: c.Time, MaxAge: c.MaxAge, Nonce: c.Nonce}
	return a.judge(&question, inputs{{c.OCSP, &question.OCSPs}, {c.Issuer, &question.Issuers}}, &c.leafArg)
}

type verifyResponseCmd struct {
	OCSP         []string `name:"ocsp" required:"" sep:"none" placeholder:"FILE" help:"OCSP responses."`
	Roots        []string `required:"" sep:"none" placeholder:"FILE" help:"Trusted certificates."`
	Untrusted    []string `sep:"none" placeholder:"FILE" help:"Other certificates that may be needed."`
	PartialChain bool     `help:"A trusted certificate need not be its own issuer."`
	Time         string   `required:"" placeholder:"RFC3339" help:"When."`
}

func (verifyResponseCmd) Help() string {
	return `Examples:
  signet verify ocsp-response --ocsp answer.der --roots root.pem --untrusted issuing.pem --time 2026-09-01T00:00:00Z`
}

// Run judges the signers of responses.
func (c *verifyResponseCmd) Run(a *app) error {
	question := verify.Case{Kind: verify.KindOCSPResponse, Time: c.Time, PartialChain: c.PartialChain}
	return a.judge(&question, inputs{{c.OCSP, &question.OCSPs}, {c.Roots, &question.Roots}, {c.Untrusted, &question.Untrusted}}, nil)
}

type verifyBatchCmd struct{}

func (verifyBatchCmd) Help() string {
	return `One case a line, in the fields of the other commands, with binary fields in base64 of DER and "kind" one of verify, crl-status,
ocsp-status, ocsp-verify. One result a line, in the same order. The exit status is 0 if every line was answered.

Example:
  signet verify batch < cases.jsonl > results.jsonl`
}

// Run judges line by line.
func (c *verifyBatchCmd) Run(a *app) error {
	if err := verify.Batch(a.in, a.out); err != nil {
		return pki.Errorf(pki.KindInvalid, "verify batch", "%w", err)
	}
	return nil
}

// inputs are files, and the fields of the question for their contents.
type inputs []struct {
	files []string
	into  *[]verify.DER
}

// judge reads the files, judges the question and prints the result. leaf is nil if no certificate is judged.
func (a *app) judge(question *verify.Case, in inputs, leaf *leafArg) error {
	if err := checkDemands(question); err != nil {
		return err
	}
	if err := question.Check(); err != nil {
		return pki.Errorf(pki.KindInvalid, "verify", "%w", err)
	}
	for _, input := range in {
		for _, file := range input.files {
			ders, err := a.readForeign(file)
			if err != nil {
				return err
			}
			*input.into = append(*input.into, ders...)
		}
	}
	if leaf != nil {
		file, err := leaf.file("verify")
		if err != nil {
			return err
		}
		ders, err := a.readForeign(file)
		if err != nil {
			return err
		}
		question.Leaf = ders[0]
		question.Intermediates = append(question.Intermediates, ders[1:]...) // from a file with the whole chain
	}
	result := verify.Judge(question)
	if err := a.show(result, func(p *printer) { printJudgement(p, result) }); err != nil {
		return err
	}
	if result.Result != verify.Accept && result.Result != verify.Good {
		return refusal(string(result.Result))
	}
	return nil
}

// checkDemands refuses an empty demand: an unset shell variable would make it, and nothing would be demanded.
func checkDemands(question *verify.Case) error {
	for _, demand := range []struct {
		flag  string
		value *string
	}{{"--dns", question.DNS}, {"--ip", question.IP}, {"--max-age", question.MaxAge}, {"--nonce", question.Nonce}} {
		if demand.value != nil && *demand.value == "" {
			return pki.Errorf(pki.KindInvalid, "verify", "%s is empty", demand.flag).
				WithHint("give it a value, or leave it out to demand nothing")
		}
	}
	return nil
}

func printJudgement(p *printer, result verify.Result) {
	text := string(result.Result)
	if result.Class != verify.ClassNone && string(result.Class) != string(result.Result) {
		text += " (" + string(result.Class) + ")"
	}
	if result.Detail != "" {
		text += ": " + result.Detail
	}
	p.line("%s", text)
	for _, c := range result.PerCert {
		p.line("  %s", strings.Join(strings.Fields(c.Serial+" "+c.Status+" "+c.Source+" "+c.Reason), "  "))
	}
}

// readForeign reads everything in a foreign file: each PEM block, or all of it. If it cannot be read, the command
// fails. If it does not parse, the judgement says so.
func (a *app) readForeign(path string) ([]verify.DER, error) {
	data, err := a.readInput(path)
	if err != nil {
		return nil, ownFault(err)
	}
	var ders []verify.DER
	rest := bytes.TrimSpace(data)
	for len(rest) > 0 {
		block, after := pem.Decode(rest)
		if block == nil {
			break
		}
		// With which a server's file may begin.
		if rest = after; !strings.HasSuffix(block.Type, "KEY") && !strings.HasSuffix(block.Type, "PARAMETERS") {
			ders = append(ders, block.Bytes)
		}
	}
	if len(ders) == 0 {
		return []verify.DER{data}, nil
	}
	return ders, nil
}
