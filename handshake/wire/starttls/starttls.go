// Package starttls takes a connection that begins in plain text to the point where TLS begins, in six protocols: SMTP
// (RFC 3207), IMAP (RFC 9051, Section 6.2.1), POP3 (RFC 2595, Section 4), FTP (RFC 4217, Section 4), LDAP (RFC 4511,
// Section 4.14) and PostgreSQL (its SSLRequest message).
//
// Everything before TLS is in the clear, and an attacker on the way can change it. So the package trusts none of it. A
// peer that declines TLS is an error, and never a reason to go on without it. Octets that arrive before our ClientHello
// are an injection (CVE-2011-0411, CVE-2021-23222) and end the connection.
package starttls

import (
	"bufio"
	"context"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"signet.example/signet/pki"
)

// Protocol is a protocol that can be upgraded to TLS.
type Protocol string

// The protocols.
const (
	SMTP     Protocol = "smtp"
	IMAP     Protocol = "imap"
	POP3     Protocol = "pop3"
	FTP      Protocol = "ftp"
	LDAP     Protocol = "ldap"
	Postgres Protocol = "postgres"
)

// Bounds on what a peer may send before TLS begins.
const (
	maxLine  = 2048 // octets of a line
	maxLines = 64   // of one answer
	maxLDAP  = 8192 // octets of an LDAP message
)

// ErrInjected means that the peer, or an attacker on the way, sent more than the answer before TLS began. Such plain text
// would be taken for part of the protected session.
var ErrInjected = errors.New("octets arrived after the answer and before TLS: injected by the peer or on the way")

// DeclinedError means that the peer does not upgrade to TLS. An attacker on the way may have forged its answer.
type DeclinedError struct {
	Protocol Protocol
	Answer   string // its answer, bounded and safe for a terminal
}

// Error names protocol and answer.
func (e *DeclinedError) Error() string {
	return fmt.Sprintf("the %s server does not offer TLS: it says %q", e.Protocol, e.Answer)
}

// Line is one line of the conversation before TLS.
type Line struct {
	Ours bool   `json:"ours"`
	Text string `json:"text"` // safe for a terminal; "(12 octets)" if it is not text
}

// Upgrade conducts the conversation that the protocol requires on a new connection. It returns when the next octet has
// to be a ClientHello, with the conversation so far (on an error too). name is the name we give ourselves in SMTP;
// empty means "localhost". The deadline and the end of ctx hold for the conversation only; no deadline is left on conn.
// After an error the connection is of no use.
func Upgrade(ctx context.Context, conn net.Conn, protocol Protocol, name string) ([]Line, error) {
	if name == "" {
		name = "localhost"
	}
	if strings.ContainsAny(name, " \r\n") || len(name) > 255 {
		return nil, pki.Errorf(pki.KindInvalid, "start TLS", "%q is not a host name", name)
	}
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return nil, fmt.Errorf("start TLS: %w", err)
		}
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) }) // an error shows in the read that follows
	d := &dialogue{conn: conn, in: bufio.NewReaderSize(conn, maxLine), protocol: protocol}
	err := d.upgrade(name)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err == nil && d.in.Buffered() > 0 {
		err = ErrInjected
	}
	if err != nil {
		switch {
		case ctx.Err() != nil:
			err = fmt.Errorf("%w: %w", ctx.Err(), err)
		case errors.Is(err, os.ErrDeadlineExceeded): // the connection's clock was a little faster than the context's
			err = fmt.Errorf("%w: %w", context.DeadlineExceeded, err)
		}
		return d.lines, fmt.Errorf("start TLS: %s: %w", protocol, err)
	}
	return d.lines, conn.SetDeadline(time.Time{})
}

type dialogue struct {
	conn     net.Conn
	in       *bufio.Reader
	protocol Protocol
	lines    []Line
}

func (d *dialogue) upgrade(name string) error {
	switch d.protocol {
	case SMTP:
		return d.smtp(name)
	case IMAP:
		return d.imap()
	case POP3:
		return d.pop3()
	case FTP:
		return d.ftp()
	case LDAP:
		return d.ldap()
	case Postgres:
		return d.postgres()
	}
	return pki.Errorf(pki.KindInvalid, "choose protocol", "%q: want smtp, imap, pop3, ftp, ldap or postgres", d.protocol)
}

func (d *dialogue) smtp(name string) error {
	if _, err := d.reply("220"); err != nil {
		return err
	}
	if err := d.say("EHLO " + name); err != nil {
		return err
	}
	offers, err := d.reply("250")
	if err != nil {
		return err
	}
	offered := false
	for _, line := range offers {
		offered = offered || strings.EqualFold(strings.TrimSpace(line), "STARTTLS")
	}
	if !offered {
		return &DeclinedError{SMTP, "no STARTTLS among its extensions"}
	}
	if err := d.say("STARTTLS"); err != nil {
		return err
	}
	_, err = d.reply("220")
	return err
}

// reply reads one reply of SMTP or FTP, which has one or more lines (RFC 5321, Section 4.2), and returns their texts.
// In FTP the lines between the first and the last need not repeat the code, and may begin with any digits; the last has
// the code and a space (RFC 959, Section 4.2).
func (d *dialogue) reply(want string) ([]string, error) {
	var texts []string
	for i := range maxLines {
		line, err := d.hear()
		if err != nil {
			return nil, err
		}
		text, coded := strings.CutPrefix(line, want)
		last := coded && (text == "" || text[0] == ' ')
		more := coded && strings.HasPrefix(text, "-") || d.protocol == FTP && i > 0
		if !last && !more {
			return nil, &DeclinedError{d.protocol, printable(line)}
		}
		texts = append(texts, text[min(1, len(text)):])
		if last {
			return texts, nil
		}
	}
	return nil, fmt.Errorf("an answer of more than %d lines", maxLines)
}

func (d *dialogue) imap() error {
	greeting, err := d.hear()
	if err != nil {
		return err
	}
	// After "* PREAUTH" the upgrade cannot go on: STARTTLS is not allowed (RFC 9051, Section 7.1.4).
	if !strings.HasPrefix(strings.ToUpper(greeting), "* OK") {
		return &DeclinedError{IMAP, printable(greeting)}
	}
	const tag = "s1"
	if err := d.say(tag + " STARTTLS"); err != nil {
		return err
	}
	for range maxLines {
		line, err := d.hear()
		if err != nil {
			return err
		}
		answer, tagged := strings.CutPrefix(line, tag+" ")
		switch {
		case tagged && strings.HasPrefix(strings.ToUpper(answer), "OK"):
			return nil
		case tagged:
			return &DeclinedError{IMAP, printable(line)}
		case !strings.HasPrefix(line, "* "):
			return &DeclinedError{IMAP, printable(line)}
		}
	}
	return fmt.Errorf("an answer of more than %d lines", maxLines)
}

func (d *dialogue) pop3() error {
	if err := d.positive(); err != nil {
		return err
	}
	if err := d.say("STLS"); err != nil {
		return err
	}
	return d.positive()
}

// positive reads one line of POP3, which must be a positive response (RFC 1939, Section 3).
func (d *dialogue) positive() error {
	line, err := d.hear()
	if err != nil {
		return err
	}
	if word, _, _ := strings.Cut(line, " "); word != "+OK" {
		return &DeclinedError{POP3, printable(line)}
	}
	return nil
}

func (d *dialogue) ftp() error {
	if _, err := d.reply("220"); err != nil {
		return err
	}
	if err := d.say("AUTH TLS"); err != nil {
		return err
	}
	_, err := d.reply("234")
	return err
}

// ldapStartTLS is an LDAPMessage with number 1 that holds an ExtendedRequest for 1.3.6.1.4.1.1466.20037.
var ldapStartTLS = append([]byte{0x30, 0x1d, 0x02, 0x01, 0x01, 0x77, 0x18, 0x80, 0x16}, "1.3.6.1.4.1.1466.20037"...)

func (d *dialogue) ldap() error {
	if err := d.send(ldapStartTLS, "ExtendedRequest StartTLS (1.3.6.1.4.1.1466.20037)"); err != nil {
		return err
	}
	message, err := d.ldapMessage()
	if err != nil {
		return err
	}
	code, text, err := parseLDAP(message)
	if err != nil {
		return err
	}
	answer := fmt.Sprintf("result %d %s", code, printable(text))
	d.lines = append(d.lines, Line{Text: "ExtendedResponse: " + strings.TrimSpace(answer)})
	if code != 0 {
		return &DeclinedError{LDAP, strings.TrimSpace(answer)}
	}
	return nil
}

// ldapMessage reads one message, whose length must be definite (RFC 4511, Section 5.1).
func (d *dialogue) ldapMessage() ([]byte, error) {
	head, err := d.in.Peek(2)
	if err != nil {
		return nil, ended(err)
	}
	length, size := int(head[1]), 2
	if head[1] >= 0x80 {
		extra := int(head[1] & 0x7f)
		if extra == 0 || extra > 2 {
			return nil, fmt.Errorf("an LDAP message with a length of %d octets", extra)
		}
		if head, err = d.in.Peek(2 + extra); err != nil {
			return nil, ended(err)
		}
		length, size = 0, 2+extra
		for _, b := range head[2:] {
			length = length<<8 | int(b)
		}
	}
	if length > maxLDAP {
		return nil, fmt.Errorf("an LDAP message of %d octets: more than %d", length, maxLDAP)
	}
	message := make([]byte, size+length)
	_, err = io.ReadFull(d.in, message)
	return message, ended(err)
}

// parseLDAP reads result code and diagnostic message of an ExtendedResponse (RFC 4511, Section 4.12).
func parseLDAP(message []byte) (code asn1.Enumerated, text string, err error) {
	var outer struct {
		ID       int
		Response asn1.RawValue
	}
	// BER as LDAP uses it, with definite lengths and without options, is close enough to DER for encoding/asn1.
	if rest, err := asn1.Unmarshal(message, &outer); err != nil || len(rest) > 0 {
		return 0, "", fmt.Errorf("an answer that is no LDAP message: %v", err)
	}
	const extendedResponse = 24
	if outer.ID != 1 || outer.Response.Class != asn1.ClassApplication || outer.Response.Tag != extendedResponse {
		return 0, "", errors.New("an LDAP message that does not answer the request")
	}
	rest, err := asn1.Unmarshal(outer.Response.Bytes, &code)
	if err != nil {
		return 0, "", fmt.Errorf("an LDAP answer without result code: %w", err)
	}
	var matched, diagnostic []byte
	if rest, err = asn1.Unmarshal(rest, &matched); err == nil {
		_, err = asn1.Unmarshal(rest, &diagnostic)
	}
	if err != nil {
		return 0, "", fmt.Errorf("an LDAP answer that breaks off: %w", err)
	}
	return code, string(diagnostic), nil
}

// sslRequest is the code of PostgreSQL's request for TLS.
const sslRequest = 80877103

func (d *dialogue) postgres() error {
	request := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, 8), sslRequest)
	if err := d.send(request, "SSLRequest"); err != nil {
		return err
	}
	answer, err := d.in.ReadByte()
	if err != nil {
		return ended(err)
	}
	d.lines = append(d.lines, Line{Text: printable(string(rune(answer)))})
	switch answer {
	case 'S':
		return nil
	case 'N':
		return &DeclinedError{Postgres, "N"}
	case 'E':
		// The error message behind it is not shown: it is unauthenticated (CVE-2024-10977).
		return &DeclinedError{Postgres, "E"}
	}
	return fmt.Errorf("an answer that is none of PostgreSQL's: 0x%02x", answer)
}

// hear reads a line and returns it without its end.
func (d *dialogue) hear() (string, error) {
	line, err := d.in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return "", fmt.Errorf("a line of more than %d octets", maxLine)
	}
	if err != nil {
		return "", ended(err)
	}
	text := strings.TrimRight(string(line), "\r\n")
	d.lines = append(d.lines, Line{Text: printable(text)})
	return text, nil
}

func (d *dialogue) say(line string) error { return d.send([]byte(line+"\r\n"), line) }

func (d *dialogue) send(p []byte, shown string) error {
	d.lines = append(d.lines, Line{Ours: true, Text: shown})
	_, err := d.conn.Write(p)
	return err
}

// ended replaces io.EOF by io.ErrUnexpectedEOF.
func ended(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// printable makes a peer's text safe for a terminal and short enough for an error.
func printable(text string) string {
	const longest = 200
	if len(text) > longest {
		text = text[:longest] + "…"
	}
	return strings.Map(func(r rune) rune {
		if pki.Unprintable(r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
}
