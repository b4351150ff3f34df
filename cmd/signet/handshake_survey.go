package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"signet.example/signet/handshake/wire/protocol"
	"signet.example/signet/handshake/wire/starttls"
	"signet.example/signet/handshake/wire/survey"
	"signet.example/signet/pki"
)

type handshakeSurveyCmd struct {
	Server     string        `arg:"" name:"host:port" help:"The server to survey; the port may be left out."`
	ServerName string        `name:"servername" placeholder:"NAME" help:"Ask for this name (default: the host)."`
	StartTLS   string        `name:"starttls" enum:"smtp,imap,pop3,ftp,ldap,postgres," default:"" placeholder:"PROTOCOL" help:"Begin in plain text: smtp, imap, pop3, ftp, ldap or postgres."`
	Timeout    time.Duration `default:"5s" help:"Time for one connection."`
	Most       int           `default:"120" help:"Connections to make at most."`
}

func (handshakeSurveyCmd) Help() string {
	return `One handshake shows what a server picked; this shows what it could have picked: every version, cipher suite and group, in its order of preference.
It takes some dozens of connections, none of which is finished. Ask only servers whose owners would not mind.

Examples:
  signet handshake survey www.example.com
  signet handshake survey mail.example:25 --starttls smtp --output json`
}

// surveyed is the result of a survey.
type surveyed struct {
	Server string `json:"server"`
	*survey.Report
	Remarks []string `json:"remarks"`
}

// Run surveys one server.
func (c *handshakeSurveyCmd) Run(a *app) error {
	host, address, err := splitServer(c.Server, c.StartTLS)
	if err != nil {
		return ownFault(err)
	}
	name := c.ServerName
	if name == "" && net.ParseIP(host) == nil {
		name = host
	}
	report, err := survey.Run(a.ctx, survey.Config{ServerName: name, Timeout: c.Timeout, Most: c.Most, Dial: func(ctx context.Context) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err != nil || c.StartTLS == "" {
			return conn, err
		}
		if _, err = starttls.Upgrade(ctx, conn, starttls.Protocol(c.StartTLS), ""); err != nil {
			conn.Close()
		}
		return conn, err
	}})
	if err != nil {
		kind, hint := pki.KindUnavailable, fmt.Sprintf("check that %s can be reached from here", address)
		if _, declined := errors.AsType[*starttls.DeclinedError](err); declined {
			kind, hint = pki.KindInvalid, declinedHint(c.StartTLS)
		} else if errors.Is(err, survey.ErrNotTLS) {
			kind, hint = pki.KindInvalid, "that port speaks something else; "+plainTextHint(c.StartTLS)
		}
		return ownFault((&pki.Error{Kind: kind, Op: "handshake", Err: err}).WithHint("%s", hint))
	}
	answer := surveyed{address, report, remarks(report)}
	if err := a.show(answer, answer.print); err != nil {
		return ownFault(err)
	}
	return nil
}

func (s surveyed) print(p *printer) {
	p.line("%s, after %d connections", s.Server, s.Connections)
	p.line("")
	var rows [][]string
	for _, v := range s.Versions {
		if len(v.Suites) == 0 {
			word := "not spoken"
			if v.Refusal == "" {
				word = "not asked"
			}
			rows = append(rows, []string{"  " + v.Version.String(), word, v.Refusal})
		}
		for i, suite := range v.Suites {
			head := ""
			if i == 0 {
				head = "  " + v.Version.String()
			}
			rows = append(rows, []string{head, suite.String(), classWords[suite.Strength()]})
		}
	}
	for i, g := range s.Groups {
		rows = append(rows, []string{map[bool]string{true: "  groups"}[i == 0], g.String(), map[bool]string{true: "resists quantum computers"}[g.PostQuantum()]})
	}
	p.table([]string{"  VERSION", "SUITE", "CLASS"}, rows)
	p.line("")
	for _, r := range s.Remarks {
		p.line("- %s", r)
	}
}

var classWords = map[protocol.Strength]string{
	protocol.Strong: "strong", protocol.Aging: "aging: CBC mode", protocol.Legacy: "legacy: no forward secrecy", protocol.Broken: "broken", protocol.StrengthUnknown: "unknown",
}

// remarks returns the conclusions from a report.
func remarks(r *survey.Report) []string {
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	var weak, old []string
	spoken := false
	for _, v := range r.Versions {
		spoken = spoken || len(v.Suites) > 0
		if len(v.Suites) > 0 && v.Version < tls.VersionTLS12 {
			old = append(old, v.Version.String())
		}
		for _, s := range v.Suites {
			if (s.Strength() == protocol.Legacy || s.Strength() == protocol.Broken) && v.Version == tls.VersionTLS12 {
				weak = append(weak, s.String())
			}
		}
		if len(v.Suites) > 1 && r.Complete { // otherwise it is unknown
			say("%s", orderOf(v))
		}
	}
	switch {
	case !spoken && !r.Complete:
		say("It took none of our hellos so far: not enough connections to tell (--most).")
	case !spoken:
		say("It took none of our hellos: it may speak something else than TLS, or demand another name (--servername), or begin in plain text (--starttls).")
	case len(r.Versions[0].Suites) == 0:
		say("It does not speak TLS 1.3.")
	case len(r.Groups) > 0 && !anyPostQuantum(r.Groups):
		say("No group of it resists quantum computers: what is recorded today may be read one day.")
	}
	if len(old) > 0 {
		say("%s should be switched off (RFC 8996).", strings.Join(old, " and "))
	}
	if len(weak) > 0 {
		say("In TLS 1.2 %d suites have no forward secrecy or are broken, and should be switched off: %s.", len(weak), strings.Join(weak, ", "))
	}
	if !r.Complete {
		say("The survey is not complete: it was ended after %d connections.", r.Connections)
	}
	return out
}

// orderOf says whose order of suites counts, and what follows from it.
func orderOf(v survey.Version) string {
	best, worst := v.Suites[0].Strength(), v.Suites[0].Strength()
	for _, s := range v.Suites {
		best, worst = max(best, s.Strength()), min(worst, s.Strength())
	}
	switch {
	case v.ServerOrder && v.Suites[0].Strength() == best:
		return fmt.Sprintf("In %s it goes by an order of its own, which begins with the strongest class that it has.", v.Version)
	case v.ServerOrder:
		return fmt.Sprintf("In %s it goes by an order of its own, which does not begin with the strongest class that it has.", v.Version)
	case best == worst:
		return fmt.Sprintf("In %s it goes by the client's order. All it has is of one class.", v.Version)
	}
	return fmt.Sprintf("In %s it goes by the client's order: a client that prefers a weak suite gets it.", v.Version)
}

func anyPostQuantum(groups []protocol.Group) bool {
	for _, g := range groups {
		if g.PostQuantum() {
			return true
		}
	}
	return false
}

// splitServer splits HOST:PORT, with the protocol's default port.
func splitServer(server, protocol string) (host, address string, err error) {
	host, port, splitErr := net.SplitHostPort(server)
	if splitErr != nil {
		host, port = strings.Trim(server, "[]"), map[string]string{"": "443", "smtp": "25", "imap": "143", "pop3": "110", "ftp": "21", "ldap": "389", "postgres": "5432"}[protocol]
	}
	if host == "" || strings.ContainsAny(host, "/ ") {
		return "", "", pki.Errorf(pki.KindInvalid, "connect", "%q is no HOST:PORT", server).WithHint("write it as www.example.com:443")
	}
	return host, net.JoinHostPort(host, port), nil
}
