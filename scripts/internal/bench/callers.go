package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"

	"signet.example/signet/api/client"
)

// The callers share the processors with the measured process, so they are cheap, as wrk is: they put requests together
// from octets made beforehand, and look only at the status and the length of most answers. One answer in checkEvery is
// parsed: it must be a certificate with the requested name and key. On the wire everything is as the ordinary client
// has it.
const checkEvery = 64

// issuingCallers issues for the key of each CSR, under a new name each time.
type issuingCallers struct {
	site *site
	csrs [][]byte
	keys [][]byte // SubjectPublicKeyInfo of the CSR
}

func (s *site) issuingCallers(csrs [][]byte) (*issuingCallers, error) {
	c := &issuingCallers{site: s, csrs: csrs}
	for _, csr := range csrs {
		parsed, err := x509.ParseCertificateRequest(csr)
		if err != nil {
			return nil, err
		}
		c.keys = append(c.keys, parsed.RawSubjectPublicKeyInfo)
	}
	return c, nil
}

// check compares a certificate with the request for it.
func (c *issuingCallers) check(der []byte, n int, name string) error {
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	if !bytes.Equal(certificate.RawSubjectPublicKeyInfo, c.keys[n%len(c.keys)]) || len(certificate.DNSNames) != 1 || certificate.DNSNames[0] != name {
		return fmt.Errorf("asked for %s and got a certificate for %q", name, certificate.DNSNames)
	}
	return nil
}

// overGRPC issues over one connection, as the ordinary client does.
func (c *issuingCallers) overGRPC(ctx context.Context) (func(context.Context, int, int) error, func() error, error) {
	connection, err := dialWire(ctx, c.site.addresses.API, &tls.Config{RootCAs: c.site.roots, MinVersion: tls.VersionTLS13},
		"/signet.v1.CertificateService/IssueCertificate", c.site.token)
	if err != nil {
		return nil, nil, err
	}
	heads := make([][]byte, len(c.csrs)) // CSR and profile; the name follows
	for i, csr := range c.csrs {
		heads[i] = protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), csr)
		heads[i] = protowire.AppendString(protowire.AppendTag(heads[i], 3, protowire.BytesType), "server")
	}
	issue := func(ctx context.Context, _, n int) error {
		name := "host" + strconv.Itoa(n) + ".example"
		if n%checkEvery == 0 {
			issued, err := c.site.api.Issue(ctx, client.IssueRequest{CSR: c.csrs[n%len(c.csrs)], Profile: "server", Identifiers: []string{name}})
			if err != nil {
				return err
			}
			return c.check(issued.Certificate.DER, n, name)
		}
		head := heads[n%len(heads)]
		message := append(grpcMessage(len(head)+len(name)+2), head...)
		message = protowire.AppendString(protowire.AppendTag(message, 4, protowire.BytesType), name)
		length, err := connection.call(ctx, message)
		if err == nil && length < 1000 {
			err = fmt.Errorf("an answer of %d octets holds no certificate and chain", length)
		}
		return err
	}
	return issue, connection.Close, nil
}

// overREST issues on one kept connection per caller.
func (c *issuingCallers) overREST() func(context.Context, int, int) error {
	type connection struct {
		*tls.Conn
		answers *bufio.Reader
	}
	connections := make([]*connection, 1024) // by caller
	heads := make([]string, len(c.csrs))
	for i, csr := range c.csrs {
		text, err := json.Marshal(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr})))
		if err != nil {
			panic("bench: a text always encodes: " + err.Error())
		}
		heads[i] = `{"csr_pem":` + string(text) + `,"profile":"server","identifiers":["`
	}
	return func(ctx context.Context, caller, n int) error {
		at := connections[caller]
		if at == nil {
			dialer := tls.Dialer{Config: &tls.Config{RootCAs: c.site.roots, NextProtos: []string{"http/1.1"}}}
			made, err := dialer.DialContext(ctx, "tcp", c.site.addresses.API)
			if err != nil {
				return err
			}
			at = &connection{made.(*tls.Conn), bufio.NewReader(made)}
			connections[caller] = at
		}
		name := "rest" + strconv.Itoa(n) + ".example"
		head, tail := heads[n%len(heads)], `"]}`
		if _, err := io.WriteString(at, "POST /v1/certificates HTTP/1.1\r\nHost: "+c.site.addresses.API+"\r\nAuthorization: Bearer "+c.site.token+
			"\r\nContent-Type: application/json\r\nContent-Length: "+strconv.Itoa(len(head)+len(name)+len(tail))+"\r\n\r\n"+head+name+tail); err != nil {
			return err
		}
		answer, err := http.ReadResponse(at.answers, nil)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		if answer.StatusCode != http.StatusOK || n%checkEvery == 0 {
			return c.checkAnswer(answer, n, name)
		}
		length, err := io.Copy(io.Discard, answer.Body)
		if err == nil && length < 1000 {
			err = fmt.Errorf("an answer of %d octets holds no certificate and chain", length)
		}
		return err
	}
}

func (c *issuingCallers) checkAnswer(answer *http.Response, n int, name string) error {
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", answer.Status, text)
	}
	var issued struct{ PEM string }
	if err := json.Unmarshal(text, &issued); err != nil {
		return err
	}
	block, _ := pem.Decode([]byte(issued.PEM))
	if block == nil {
		return errors.New("an answer without a certificate")
	}
	return c.check(block.Bytes, n, name)
}
