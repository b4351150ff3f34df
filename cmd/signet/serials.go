package main

import (
	"strings"

	"signet.example/signet/api/client"
	"signet.example/signet/pki"
)

// maxListed is the largest number of certificates that one job takes as a list (Selector.certificates).
const maxListed = 50_000

// serialFlags name certificates individually.
type serialFlags struct {
	Serials string `placeholder:"FILE" help:"Instead, the certificates in a file (- for standard input), one per line: SERIAL, ISSUER/SERIAL, or as signet list --export csv writes them."`
	Issuer  string `placeholder:"ISSUER" help:"Issuer of serial numbers in --serials without one: its label or id."`
}

// only returns an error unless the certificates are named in one way: by --serials, or by one of the command's other
// ways.
func (f serialFlags) only(op, others string, said ...string) error {
	ways := 0
	for _, way := range append(said, f.Serials) {
		if way != "" {
			ways++
		}
	}
	switch {
	case ways != 1:
		return pki.Errorf(pki.KindInvalid, op, "it wants %s or --serials, one of them", others).WithHint("--help says more")
	case f.Issuer != "" && f.Serials == "":
		return pki.Errorf(pki.KindInvalid, op, "it goes with --serials").InField("--issuer").
			WithHint("elsewhere: --where issuer=%s, or ISSUER/SERIAL", f.Issuer)
	}
	return nil
}

// selector returns the selector for a job: a condition or, if there is none, the certificates of the file.
func (f serialFlags) selector(a *app, api *client.Client, where string) (client.Selector, error) {
	if where != "" {
		return client.Selector{Where: where}, nil
	}
	text, err := a.readInput(f.Serials)
	if err != nil {
		return client.Selector{}, err
	}
	names, err := readSerials(string(text), f.Issuer, func(name string) (pki.IssuerID, error) { return findIssuer(a, api, name) })
	return client.Selector{Certificates: names}, err
}

// readSerials reads one certificate per line: a serial number of the given issuer, ISSUER/SERIAL, or the columns issuer
// and serial with any others after them, optionally below a header. It ignores empty lines and lines that begin with #.
// Any other line is an error: a list of revocations must be understood completely.
func readSerials(text, alone string, find func(name string) (pki.IssuerID, error)) ([]client.CertificateName, error) {
	const op = "read serial numbers"
	issuers := map[string]pki.IssuerID{}
	var names []client.CertificateName
	// Spreadsheets write a byte order mark.
	for i, line := range strings.Split(strings.TrimPrefix(text, "\ufeff"), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || i == 0 && strings.HasPrefix(line, "issuer,serial") {
			continue
		}
		issuer, serial := alone, line
		if columns := strings.SplitN(line, ",", 3); len(columns) > 1 {
			issuer, serial = columns[0], columns[1]
		} else if before, after, both := strings.Cut(line, "/"); both {
			issuer, serial = before, after
		}
		if issuer == "" {
			return nil, pki.Errorf(pki.KindInvalid, op, "line %d: it names no issuer", i+1).InField("--serials").
				WithHint("use --issuer, or write ISSUER/SERIAL")
		}
		number, err := pki.ParseSerial(serial)
		if err != nil {
			return nil, pki.Errorf(pki.KindInvalid, op, "line %d: %w", i+1, err).InField("--serials")
		}
		if _, known := issuers[issuer]; !known {
			if issuers[issuer], err = find(issuer); err != nil {
				return nil, pki.Errorf(pki.KindOf(err), op, "line %d: %w", i+1, err).InField("--serials").
					WithHint("`signet issuer list` shows ids, labels and names")
			}
		}
		names = append(names, client.CertificateName{Issuer: issuers[issuer], Serial: number})
	}
	switch {
	case len(names) == 0:
		return nil, pki.Errorf(pki.KindInvalid, op, "there are none").InField("--serials")
	case len(names) > maxListed:
		return nil, pki.Errorf(pki.KindInvalid, op, "%d serial numbers: a job takes %d", len(names), maxListed).InField("--serials").
			WithHint("cut the file, and make a job of each part")
	}
	return names, nil
}
