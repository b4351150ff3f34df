package main

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"io"
	"strings"
	"time"

	"signet.example/signet/api/client"
	"signet.example/signet/internal/durable"
)

// export writes every page as it arrives, so the memory it needs does not grow with the inventory.
func (c *listCmd) export(a *app, api *client.Client, filter client.CertificateFilter, token string) error {
	if c.Out == "" {
		buffered := bufio.NewWriter(a.out)
		if _, err := c.stream(a, api, filter, token, buffered); err != nil {
			return err
		}
		return buffered.Flush()
	}
	file, err := durable.Create(c.Out, 0o644)
	if err != nil {
		return fileError("export certificates", err)
	}
	defer file.Abandon()
	written, err := c.stream(a, api, filter, token, file)
	if err == nil {
		err = file.Commit()
	}
	if err != nil {
		return err
	}
	result := exportResult{c.Out, c.Export, written}
	return a.show(result, func(p *printer) { p.line("wrote %s to %s", counted(written, "certificate"), c.Out) })
}

func (c *listCmd) stream(a *app, api *client.Client, filter client.CertificateFilter, token string, w io.Writer) (written int, err error) {
	write, flush := writeJSONLines(w)
	if c.Export == "csv" {
		if write, flush, err = writeCSV(w); err != nil {
			return 0, err
		}
	}
	limit := 0
	if c.Limit != nil {
		limit = *c.Limit
	}
	bar := a.progress("certificates", func() int { return c.expected(a, api, filter, limit) })
	defer bar.done()
	read := func(p client.Page) (*client.List[client.Certificate], error) {
		return api.Certificates(a.ctx, filter, p)
	}
	_, err = eachPage(limit, token, read, func(page []client.Certificate) error {
		for i := range page {
			if err := write(&page[i]); err != nil {
				return err
			}
		}
		written += len(page)
		bar.add(len(page))
		return flush()
	})
	return written, err
}

// expected returns how many certificates will come, or -1 if that is unknown; the server may estimate.
func (c *listCmd) expected(a *app, api *client.Client, filter client.CertificateFilter, limit int) int {
	if c.Page != "" {
		return -1
	}
	count, err := api.CountCertificates(a.ctx, filter)
	if err != nil || !count.Exact {
		return -1
	}
	if limit > 0 {
		return min(limit, int(count.Count))
	}
	return int(count.Count)
}

// exportResult is what `signet list --export --out --output json` prints.
type exportResult struct {
	File         string `json:"file"`
	Format       string `json:"format"`
	Certificates int    `json:"certificates"`
}

// writeJSONLines writes one certificate per line, as GET /v1/certificates returns it.
func writeJSONLines(w io.Writer) (write func(*client.Certificate) error, flush func() error) {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return func(c *client.Certificate) error { return enc.Encode(c) }, func() error { return nil }
}

var csvColumns = []string{"issuer", "serial", "status", "reason", "revoked_at", "profile", "account", "subject", "identifiers",
	"not_before", "not_after", "issued_at", "key_hash", "fingerprint"}

// writeCSV writes a header and one certificate per line (RFC 4180). No cell can begin like a spreadsheet formula: the
// subject begins with the name of an attribute, and the characters of the account and of the other columns exclude it.
func writeCSV(w io.Writer) (write func(*client.Certificate) error, flush func() error, err error) {
	out := csv.NewWriter(w)
	write = func(c *client.Certificate) error {
		reason, revokedAt := "", ""
		if c.Revocation != nil {
			reason, revokedAt = c.Revocation.Reason.String(), c.Revocation.RevokedAt.UTC().Format(time.RFC3339)
		}
		return out.Write([]string{c.Issuer.String(), c.Serial.String(), c.Status.String(), reason, revokedAt, c.Profile, c.Account, c.Subject,
			strings.Join(texts(c.Identifiers), " "), c.NotBefore.UTC().Format(time.RFC3339), c.NotAfter.UTC().Format(time.RFC3339),
			c.IssuedAt.UTC().Format(time.RFC3339), c.KeyHash.String(), c.Fingerprint})
	}
	flush = func() error { out.Flush(); return out.Error() }
	return write, flush, out.Write(csvColumns)
}
