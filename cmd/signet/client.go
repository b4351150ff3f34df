package main

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"time"

	"signet.example/signet/api/client"
	"signet.example/signet/internal/settings"
	"signet.example/signet/internal/written"
	"signet.example/signet/pki"
)

// serverFlags say which server a command talks to, and the credential. Without them the client section of the
// configuration counts; a machine without a signet.yaml needs all of them.
type serverFlags struct {
	Server    string `placeholder:"HOST:PORT" help:"Address of the API (client.server)." group:"Server"`
	TokenFile string `placeholder:"FILE" help:"File with the bearer token (client.token_file)." group:"Server"`
	Root      string `placeholder:"FILE" help:"PEM bundle that the server's certificate must chain to (client.root)." group:"Server"`
	Cert      string `placeholder:"FILE" help:"TLS client certificate to call with, instead of a token." group:"Server"`
	CertKey   string `placeholder:"FILE" help:"Its private key." group:"Server"`

	apiFile string // beside the configuration; see settings.State.API
}

// roots returns the trusted certificates of servers: the root and, on the server's own machine, the certificate that it
// uses while the root does not verify it.
func (f serverFlags) roots() (*x509.CertPool, error) {
	pool, err := client.ReadRoots(f.Root)
	if err != nil || f.apiFile == "" {
		return pool, err
	}
	text, err := os.ReadFile(f.apiFile)
	if errors.Is(err, fs.ErrNotExist) {
		return pool, nil
	}
	pool.AppendCertsFromPEM(text)
	return pool, err
}

// typed returns the flags as they are typed in a shell.
func (f serverFlags) typed() string {
	var words []string
	for _, flag := range [][2]string{{"--server", f.Server}, {"--token-file", f.TokenFile}, {"--root", f.Root}, {"--cert", f.Cert}, {"--cert-key", f.CertKey}} {
		if flag[1] != "" {
			words = append(words, flag[0], quoted(flag[1]))
		}
	}
	return strings.Join(words, " ")
}

// connect returns a client of the API.
func (a *app) connect(f serverFlags) (*client.Client, error) {
	const op = "reach the server"
	a.server = f.typed()
	if err := f.fill(a); err != nil {
		return nil, err
	}
	c := client.Config{Address: f.Server, RootsFrom: f.Root}
	var err error
	if c.Roots, err = f.roots(); err != nil {
		return nil, (&pki.Error{Kind: pki.KindInvalid, Op: op, Err: err}).InField("root").
			WithHint("copy root.pem from the server and name it with --root; it pins who may answer")
	}
	switch {
	case f.Cert != "" && f.CertKey == "":
		return nil, pki.Errorf(pki.KindInvalid, op, "--cert-key is missing").WithHint("name the private key of %s with it", f.Cert)
	case f.Cert != "":
		pair, err := tls.LoadX509KeyPair(f.Cert, f.CertKey)
		if err != nil {
			return nil, pki.Errorf(pki.KindInvalid, op, "read client certificate: %w", err).
				WithHint("give --cert and --cert-key as PEM files that belong together")
		}
		c.Certificate = &pair
	case f.TokenFile != "":
		if c.Token, err = client.ReadToken(f.TokenFile); err != nil {
			return nil, (&pki.Error{Kind: pki.KindUnauthenticated, Op: op, Err: err}).InField("token_file").
				WithHint("name a token with --token-file; an administrator makes one with `signet credential create`")
		}
	}
	return client.New(c)
}

// fill takes the values of missing flags from the configuration. If there is no configuration, on a machine that is
// only a client, the variables that override it are enough.
func (f *serverFlags) fill(a *app) error {
	config, err := a.loadConfig()
	if e, ok := errors.AsType[*pki.Error](err); ok && e.Kind == pki.KindNotFound {
		f.Server, f.Root = cmp.Or(f.Server, a.getenv("SIGNET_CLIENT_SERVER")), cmp.Or(f.Root, a.getenv("SIGNET_CLIENT_ROOT"))
		if f.Cert == "" {
			f.TokenFile = cmp.Or(f.TokenFile, a.getenv("SIGNET_CLIENT_TOKEN_FILE"))
		}
		if f.Server == "" || f.Root == "" || f.TokenFile == "" && f.Cert == "" {
			return e.
				WithHint("name the configuration with --config; on a machine that has none give --server, --root and --token-file, or set SIGNET_CLIENT_SERVER, SIGNET_CLIENT_ROOT and SIGNET_CLIENT_TOKEN_FILE")
		}
	} else if err != nil {
		return err
	} else {
		f.fillFrom(config)
	}
	return nil
}

func (f *serverFlags) fillFrom(config *settings.Config) {
	if f.Server == "" {
		f.Server = reachable(config.Client.Server)
	}
	if f.Root == "" {
		f.Root, f.apiFile = config.Path(config.Client.Root), config.State().API()
	}
	if f.TokenFile == "" && f.Cert == "" {
		f.TokenFile = config.Path(config.Client.TokenFile)
	}
}

// reachable turns a listening address into one to connect to: no host, or an unspecified one, is this machine.
func reachable(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return listen
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// certificateRef names a certificate on the command line: a file (or - for standard input), a serial, or issuer/serial.
type certificateRef struct {
	Certificate string `arg:"" help:"A certificate file (- for standard input), a serial number, or ISSUER/SERIAL."`
}

// der returns the certificate if the reference is a file; otherwise nil.
func (r certificateRef) der(a *app) (*x509.Certificate, error) {
	if r.Certificate != "-" {
		if _, err := os.Stat(r.Certificate); errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
	}
	return a.readCertificate(r.Certificate)
}

// isPath reports whether text can only be a path: a serial number has no dot and at most one slash.
func isPath(text string) bool { return strings.Contains(text, ".") || strings.Count(text, "/") > 1 }

// find asks the server for the certificate.
func (r certificateRef) find(a *app, c *client.Client) (*client.Certificate, error) {
	const op = "find certificate"
	certificate, err := r.der(a)
	if err != nil {
		return nil, err
	}
	var filter client.CertificateFilter
	if certificate != nil {
		if filter.Serial, err = pki.SerialFromBig(certificate.SerialNumber); err != nil {
			return nil, pki.Errorf(pki.KindNotFound, op, "%w: no certificate of this server has such a serial", err)
		}
	} else {
		issuer, serial, both := strings.Cut(r.Certificate, "/")
		if !both {
			serial = issuer
		}
		if filter.Serial, err = pki.ParseSerial(serial); err != nil {
			if isPath(r.Certificate) {
				return nil, pki.Errorf(pki.KindNotFound, op, "there is no file %s", r.Certificate).
					WithHint("name a file, or a serial number, which `signet list` shows")
			}
			return nil, pki.Errorf(pki.KindInvalid, op, "%q is neither a file here nor a serial number", r.Certificate).
				WithHint("`signet list` shows serial numbers")
		}
		if both {
			if filter.Issuer, err = findIssuer(a, c, issuer); err != nil {
				return nil, err
			}
		}
	}
	if filter.Serial.IsZero() { // to the server an empty serial is no condition: every certificate would match
		return nil, pki.Errorf(pki.KindNotFound, op, "no certificate of this server has the serial number 0").
			WithHint("`signet list` shows serial numbers")
	}
	page, err := c.Certificates(a.ctx, filter, client.Page{Size: 10})
	if err != nil {
		return nil, err
	}
	found := page.Items
	if certificate != nil { // two issuers may use the same serial; the file decides
		found = found[:0]
		for _, f := range page.Items {
			if string(f.DER) == string(certificate.Raw) {
				found = append(found, f)
			}
		}
	}
	switch len(found) {
	case 1:
		return &found[0], nil
	case 0:
		return nil, pki.Errorf(pki.KindNotFound, op, "this server has no certificate %s that you may see", r.Certificate).
			WithHint("`signet list` shows serial numbers; `signet status FILE` says whether a certificate is from here at all")
	}
	return nil, pki.Errorf(pki.KindInvalid, op, "%d issuers have a certificate with serial %s", len(found), filter.Serial).
		WithHint("name one as ISSUER/SERIAL: %s/%s", found[0].Issuer, found[0].Serial)
}

// duration is a flag for a duration, with days and years too: 90d, 1y, 12h.
type duration time.Duration

// UnmarshalText reads a duration.
func (d *duration) UnmarshalText(text []byte) error {
	parsed, err := written.ParseDuration(string(text))
	if err == nil && parsed == 0 { // zero means that the flag is not given
		return fmt.Errorf("%q is no time at all", text)
	}
	*d = duration(parsed)
	return err
}

// instant is a flag for a time: 2026-11-16, or 2026-11-16T12:00:00Z.
type instant struct{ time.Time }

// UnmarshalText reads a time.
func (t *instant) UnmarshalText(text []byte) error {
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if parsed, err := time.Parse(layout, string(text)); err == nil {
			t.Time = parsed.UTC()
			return nil
		}
	}
	return fmt.Errorf("%q: want a date such as 2026-11-16 or a time such as 2026-11-16T12:00:00Z", text)
}
