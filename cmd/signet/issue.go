package main

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"os"
	"strings"
	"time"
	"unicode"

	"signet.example/signet/api/client"
	"signet.example/signet/internal/durable"
	"signet.example/signet/pki"
)

type issueCmd struct {
	Names     []string `arg:"" optional:"" name:"name" help:"Names for the certificate. Without any, those of --csr."`
	Profile   string   `short:"p" placeholder:"NAME" help:"Profile to issue under (default: the only one that the credential names, or server)."`
	CSR       string   `name:"csr" placeholder:"FILE" help:"Use this request (PEM or DER, - for standard input) instead of making a key."`
	Lifetime  duration `placeholder:"DURATION" help:"Lifetime, such as 30d; at most what the profile allows."`
	Issuer    string   `placeholder:"NAME" help:"Issuer (id, label or name), if the profile leaves a choice."`
	RequestID string   `placeholder:"ID" help:"Repeating a request with the same id within 24 hours returns the first certificate. Only with --csr is it the same: without, the key or its signature is new each time."`
	Out       string   `short:"o" placeholder:"STEM" help:"Write STEM.pem and STEM.key (default: the first name); STEM.pem is taken for STEM."`
	Batch     string   `placeholder:"FILE" help:"Issue every line of a CSV or JSONL file, into the directory --out (default: FILE.out)."`
	Wait      duration `placeholder:"DURATION" help:"If the profile needs an approval, how long to wait for it, such as 1h."`
	IfMissing bool     `help:"Do nothing, successfully, if STEM.pem is there already."`
	keyFlags
	serverFlags
}

func (issueCmd) Help() string {
	return `The private key is made here, written for you only, and never leaves this machine: the server sees a signed request.

Examples:
  signet issue app.example www.app.example 192.0.2.7
  signet issue --profile client --lifetime 30d jane@app.example
  signet issue --csr app.csr
  signet issue --key app.example.key --out app.renewed app.example
  signet issue --batch fleet.csv --profile client
  signet issue --profile code-signing --cn "Release 7" --wait 8h

Under a profile that needs an approval the request is checked and filed; the exit status is 10 until there is a certificate,
and ` + "`signet requests collect`" + ` fetches it.

A batch has the columns (or JSON fields) names, profile, lifetime and csr; names are separated by spaces. A line that fails
does not stop the others. Running it again continues where it ended, even if lines were added or removed; results.jsonl beside
the certificates says which file belongs to which line.`
}

// Run requests one certificate and writes it beside its key.
func (c *issueCmd) Run(a *app) error {
	if c.Batch != "" {
		return c.runBatch(a)
	}
	c.Out = strings.TrimSuffix(c.Out, ".pem")
	names, err := parseNames(c.Names)
	if err != nil {
		return err
	}
	request := client.IssueRequest{Profile: c.Profile, Identifiers: texts(names), Lifetime: time.Duration(c.Lifetime), RequestID: c.RequestID}
	if request.RequestID == "" {
		request.RequestID = newRequestID()
	}
	if c.IfMissing {
		stem, err := c.stem("issue certificate", c.Out, names)
		path := stem + ".pem"
		if _, missing := os.Stat(path); err == nil && missing == nil {
			return a.show(map[string]any{"certificate_file": path, "issued": nil}, func(p *printer) { p.line("%s is there already; nothing was done", path) })
		}
	}
	api, err := a.connect(c.serverFlags)
	if err != nil {
		return err
	}
	defer api.Close()
	stem, key, err := c.prepare(a, names, &request)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(stem + ".pem"); err == nil { // before a certificate exists that has no file to go to
		taken := pki.Errorf(pki.KindConflict, "issue certificate", "%s.pem exists already and is not overwritten; nothing was issued", stem).
			WithHint("move it away, or choose another file with --out")
		return errors.Join(taken, key.undo())
	}
	if err := c.address(a, api, &request); err != nil {
		return errors.Join(err, key.undo())
	}
	issued, err := api.Issue(a.ctx, request)
	if pending, ok := errors.AsType[*client.PendingError](err); ok {
		waiting := collector{api: api, path: stem + ".pem", key: key}
		return waiting.collect(a, pending.Request, time.Duration(c.Wait))
	}
	if err != nil {
		return c.refused(err, key, stem, request)
	}
	if err := durable.WriteNew(stem+".pem", issued.PEM, 0o644); err != nil {
		return errors.Join(err, pki.Errorf(pki.KindConflict, "issue certificate", "certificate %s was issued, and is not in a file", issued.Certificate.Serial).
			WithHint("signet show --pem %s", issued.Certificate.Serial))
	}
	return reportIssued(a, issued, key, stem+".pem")
}

// address sets the profile and, if given, the issuer of a request.
func (c *issueCmd) address(a *app, api *client.Client, request *client.IssueRequest) (err error) {
	if request.Profile == "" {
		if request.Profile, err = api.DefaultProfile(a.ctx); err != nil {
			return err
		}
	}
	request.Issuer, err = optionalIssuer(a, api, c.Issuer)
	return err
}

// prepare makes the request with a local key, or reads a request made elsewhere.
func (c *issueCmd) prepare(a *app, names []pki.Identifier, request *client.IssueRequest) (stem string, key *localKey, err error) {
	const op = "issue certificate"
	if c.CSR != "" {
		if c.Key != "" {
			return "", nil, pki.Errorf(pki.KindInvalid, op, "--csr and --key exclude each other: the request holds the key")
		}
		csr, err := a.readRequest(c.CSR)
		if err != nil {
			return "", nil, err
		}
		request.CSR = csr.Raw
		return c.stemOfCSR(csr, names), nil, nil
	}
	if stem, err = c.stem(op, c.Out, names); err != nil {
		return "", nil, err
	}
	if key, err = c.open(stem + ".key"); err != nil {
		return "", nil, err
	}
	if request.CSR, err = key.request(c.CommonName, names); err != nil {
		return "", nil, errors.Join(err, key.undo())
	}
	return stem, key, nil
}

// stemOfCSR returns the file name, from the first name.
func (c *issueCmd) stemOfCSR(csr *x509.CertificateRequest, names []pki.Identifier) string {
	if c.Out != "" {
		return c.Out
	}
	if len(names) > 0 {
		return fileStem(names[0])
	}
	first := csr.Subject.CommonName
	switch {
	case len(csr.DNSNames) > 0:
		first = csr.DNSNames[0]
	case len(csr.IPAddresses) > 0:
		first = csr.IPAddresses[0].String()
	case len(csr.EmailAddresses) > 0:
		first = csr.EmailAddresses[0]
	}
	if first == "" {
		first = "certificate"
	}
	return fileStem(pki.Identifier{Value: first})
}

// refused removes a key that was made in vain, unless the certificate may exist nevertheless.
func (c *issueCmd) refused(err error, key *localKey, stem string, request client.IssueRequest) error {
	unknown := pki.KindOf(err) == pki.KindUnavailable || pki.KindOf(err) == pki.KindInternal
	if unknown && !errors.Is(err, client.ErrNotReached) {
		return c.unknown(err, key, stem, request)
	}
	return errors.Join(err, key.undo())
}

// unknown keeps a request whose answer was lost, unless it is in a file already, and says how to ask again. A new
// request for the same key would differ, because its signature is random, and the server repeats its answer only for
// the same octets.
func (c *issueCmd) unknown(err error, key *localKey, stem string, request client.IssueRequest) error {
	path, instead := c.CSR, ""
	switch {
	case key != nil && !key.made:
		instead = " in place of --key"
	case c.CSR == "-":
		instead = " in place of --csr -"
	}
	if key != nil || c.CSR == "-" {
		var notKept error
		if path, notKept = keepRequest(stem, request.CSR); notKept != nil {
			e := pki.Errorf(pki.KindUnavailable, "issue certificate", "whether it was issued is not known, and its request could not be kept: %w", errors.Join(err, notKept))
			if key == nil {
				return e.WithHint("look for it with `signet list`")
			}
			return e.WithHint("look for it with `signet list`; the key is in %s", key.path)
		}
	}
	if e, ok := errors.AsType[*pki.Error](err); ok {
		return e.
			WithHint("whether it was issued is not known; the same command with --csr %s --request-id %s%s gives the same certificate if it was", shellWord(path), shellWord(request.RequestID), instead)
	}
	return err
}

// shellWord quotes a word for a shell if necessary.
func shellWord(word string) string {
	const plain = "-_./:=@,+%" // besides letters and digits
	if strings.ContainsFunc(word, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune(plain, r)
	}) {
		return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
	}
	return word
}

// keepRequest writes a request beside the future certificate, under an unused name.
func keepRequest(stem string, der []byte) (path string, err error) {
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	path = stem + ".csr"
	if err = durable.WriteNew(path, text, 0o644); pki.KindOf(err) != pki.KindConflict {
		return path, err
	}
	path = stem + "." + newRequestID() + ".csr"
	return path, durable.WriteNew(path, text, 0o644)
}

func reportIssued(a *app, issued *client.Issued, key *localKey, path string) error {
	result := issueResult{Issued: issued, CertificateFile: path}
	if key != nil {
		result.KeyFile, result.KeyMade = key.path, key.made
	}
	return a.show(result, func(p *printer) {
		crt := issued.Certificate
		first := "issued a certificate for "
		if issued.Repeated {
			first = "had already issued, for this request id, a certificate for "
		}
		p.line("%s", first+title(crt.Identifiers, crt.Subject))
		pairs := []string{"serial", crt.Serial.String(), "issuer", crt.Issuer.String(), "profile", crt.Profile, "valid", span(crt.NotBefore, crt.NotAfter), "certificate", path + " (with its chain, as a server wants it)"}
		if key != nil {
			pairs = append(pairs, "key", describeKey(key))
		}
		p.fields(pairs...)
		p.next("signet status %s      or, if it must end: signet revoke %s", path, path)
	})
}

// issueResult is what `signet issue --output json` prints.
type issueResult struct {
	Issued          *client.Issued `json:"issued"`             // the response of POST /v1/certificates
	CertificateFile string         `json:"certificate_file"`   // path of the chain
	KeyFile         string         `json:"key_file,omitempty"` // path of the private key
	KeyMade         bool           `json:"key_made"`           // whether this command made it
}

// newRequestID returns a random id for a request, so that repeating the request is safe.
func newRequestID() string {
	var id [16]byte
	rand.Read(id[:]) // never fails (crypto/rand)
	return hex.EncodeToString(id[:])
}
