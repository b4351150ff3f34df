package starttls_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"signet.example/signet/handshake/wire/starttls"
)

// script is a peer: what it hears and what it says, in turn. A line that starts with "> " is said, one that starts
// with "< " has to be heard.
func play(t *testing.T, conn net.Conn, script []string) {
	t.Helper()
	defer conn.Close()
	for _, line := range script {
		if said, ok := strings.CutPrefix(line, "> "); ok {
			if _, err := io.WriteString(conn, said); err != nil {
				return // the client had heard enough
			}
			continue
		}
		want := strings.TrimPrefix(line, "< ")
		got := make([]byte, len(want))
		if _, err := io.ReadFull(conn, got); err != nil || string(got) != want {
			t.Errorf("the client said %q (%v), want %q", got, err, want)
			return
		}
	}
	_, _ = io.Copy(io.Discard, conn) // until the client leaves
}

const (
	ldapRequest = "\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037"
	ldapYes     = "\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00"
	ldapNo      = "\x30\x10\x02\x01\x01\x78\x0b\x0a\x01\x34\x04\x00\x04\x04busy"
	pgRequest   = "\x00\x00\x00\x08\x04\xd2\x16\x2f"
)

func TestUpgrade(t *testing.T) {
	for _, tt := range []struct {
		name     string
		protocol starttls.Protocol
		script   []string
		want     string // "" upgraded, "declined", "injected", or part of the error
	}{
		{"smtp", starttls.SMTP, []string{"> 220-mail\r\n220 ready\r\n", "< EHLO localhost\r\n", "> 250-mail\r\n250-PIPELINING\r\n250 STARTTLS\r\n", "< STARTTLS\r\n", "> 220 go\r\n"}, ""},
		{"smtp, lower case", starttls.SMTP, []string{"> 220 ready\n", "< EHLO localhost\r\n", "> 250 starttls\n", "< STARTTLS\r\n", "> 220\n"}, ""},
		{"smtp that does not offer", starttls.SMTP, []string{"> 220 ready\r\n", "< EHLO localhost\r\n", "> 250-mail\r\n250 XSTARTTLS\r\n"}, "declined"},
		{"smtp that will not", starttls.SMTP, []string{"> 220 ready\r\n", "< EHLO localhost\r\n", "> 250 STARTTLS\r\n", "< STARTTLS\r\n", "> 454 later\r\n"}, "declined"},
		{"smtp, command injected", starttls.SMTP, []string{"> 220 ready\r\n", "< EHLO localhost\r\n", "> 250 STARTTLS\r\n", "< STARTTLS\r\n", "> 220 go\r\n250 forged\r\n"}, "injected"},
		{"smtp, busy", starttls.SMTP, []string{"> 421 busy\r\n"}, "declined"},
		{"smtp, endless line", starttls.SMTP, []string{"> 220 " + strings.Repeat("x", 5000)}, "a line of more than"},
		{"smtp, endless answer", starttls.SMTP, []string{"> " + strings.Repeat("220-x\r\n", 100)}, "more than 64 lines"},
		{"smtp, breaks off", starttls.SMTP, []string{"> 220 rea"}, "deadline"},
		{"imap", starttls.IMAP, []string{"> * OK hello\r\n", "< s1 STARTTLS\r\n", "> * 1 something\r\ns1 OK go\r\n"}, ""},
		{"imap that will not", starttls.IMAP, []string{"> * OK hello\r\n", "< s1 STARTTLS\r\n", "> s1 BAD what\r\n"}, "declined"},
		{"imap, already authenticated", starttls.IMAP, []string{"> * PREAUTH hello\r\n"}, "declined"},
		{"imap, response injected", starttls.IMAP, []string{"> * OK hello\r\n", "< s1 STARTTLS\r\n", "> s1 OK go\r\n* forged\r\n"}, "injected"},
		{"imap, what turns text and ends lines", starttls.IMAP, []string{"> a\u202eb\u2028c\r\n"}, `"a?b?c"`},
		{"imap, escape sequence", starttls.IMAP, []string{"> \x1b[2J\r\n"}, `"?[2J"`},
		{"pop3", starttls.POP3, []string{"> +OK hello\r\n", "< STLS\r\n", "> +OK\r\n"}, ""},
		{"pop3 that will not", starttls.POP3, []string{"> +OK hello\r\n", "< STLS\r\n", "> -ERR what\r\n"}, "declined"},
		{"pop3, another word", starttls.POP3, []string{"> +OKAY hello\r\n"}, "declined"},
		{"pop3, response injected", starttls.POP3, []string{"> +OK hello\r\n", "< STLS\r\n", "> +OK go\r\n+OK forged\r\n"}, "injected"},
		{"ftp", starttls.FTP, []string{"> 220-files\r\nof every kind\r\n220 ready\r\n", "< AUTH TLS\r\n", "> 234 go\r\n"}, ""},
		{"ftp, lines that begin with digits", starttls.FTP, []string{"> 220-files\r\n2205 users online\r\n220\tor so\r\n220 ready\r\n", "< AUTH TLS\r\n", "> 234 go\r\n"}, ""},
		{"ftp that will not", starttls.FTP, []string{"> 220 ready\r\n", "< AUTH TLS\r\n", "> 530 log in\r\n"}, "declined"},
		{"ftp, not ready", starttls.FTP, []string{"> 120 in a minute\r\n"}, "declined"},
		{"ftp, endless answer", starttls.FTP, []string{"> 220-x\r\n" + strings.Repeat("x\r\n", 100)}, "more than 64 lines"},
		{"ftp, response injected", starttls.FTP, []string{"> 220 ready\r\n", "< AUTH TLS\r\n", "> 234 go\r\n230 forged\r\n"}, "injected"},
		{"ldap", starttls.LDAP, []string{"< " + ldapRequest, "> " + ldapYes}, ""},
		{"ldap that will not", starttls.LDAP, []string{"< " + ldapRequest, "> " + ldapNo}, "declined"},
		{"ldap, injected", starttls.LDAP, []string{"< " + ldapRequest, "> " + ldapYes + "\x30"}, "injected"},
		{"ldap, endless", starttls.LDAP, []string{"< " + ldapRequest, "> \x30\x82\xff\xff"}, "more than 8192"},
		{"ldap, absurd length", starttls.LDAP, []string{"< " + ldapRequest, "> \x30\x84\xff\xff\xff\xff"}, "length of 4 octets"},
		{"ldap, another answer", starttls.LDAP, []string{"< " + ldapRequest, "> " + strings.Replace(ldapYes, "\x02\x01\x01", "\x02\x01\x02", 1)}, "does not answer"},
		{"ldap, no ldap", starttls.LDAP, []string{"< " + ldapRequest, "> HT" + strings.Repeat("T", 100)}, "no LDAP message"},
		{"postgres", starttls.Postgres, []string{"< " + pgRequest, "> S"}, ""},
		{"postgres that will not", starttls.Postgres, []string{"< " + pgRequest, "> N"}, "declined"},
		{"postgres, injected", starttls.Postgres, []string{"< " + pgRequest, "> SR\x00\x00\x00\x08\x00\x00\x00\x00"}, "injected"},
		{"postgres, error", starttls.Postgres, []string{"< " + pgRequest, "> E\x00\x00\x00\x10evil"}, "declined"},
		{"postgres, no postgres", starttls.Postgres, []string{"< " + pgRequest, "> HTTP/1.1 400"}, "0x48"},
		{"unknown protocol", "gopher", nil, "want smtp, imap, pop3"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			client, server := loopback(t)
			done := make(chan struct{})
			go func() { defer close(done); play(t, server, tt.script) }()
			limit := time.Minute
			if tt.want == "deadline" {
				limit = 50 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			lines, err := starttls.Upgrade(ctx, client, tt.protocol, "")
			client.Close()
			<-done
			checkOutcome(t, err, tt.want)
			if err != nil && strings.Contains(err.Error(), "\n") {
				t.Errorf("an error of several lines: %q", err)
			}
			if tt.want == "" && len(lines) == 0 {
				t.Error("nothing of the conversation was kept")
			}
		})
	}
}

func checkOutcome(t *testing.T, err error, want string) {
	t.Helper()
	var declined *starttls.DeclinedError
	switch {
	case want == "":
		if err != nil {
			t.Errorf("Upgrade: %v", err)
		}
	case want == "declined":
		if !errors.As(err, &declined) {
			t.Errorf("Upgrade: %v, want a DeclinedError", err)
		}
	case want == "injected":
		if !errors.Is(err, starttls.ErrInjected) {
			t.Errorf("Upgrade: %v, want ErrInjected", err)
		}
	case want == "deadline":
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Upgrade: %v, want the deadline", err)
		}
	case err == nil || !strings.Contains(err.Error(), want):
		t.Errorf("Upgrade: %v, want %q", err, want)
	}
}

// loopback is a pair of sockets: a pipe would deliver one write in pieces, and injected octets apart from the answer.
func loopback(t *testing.T) (client, server net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if client, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

func FuzzUpgrade(f *testing.F) {
	for _, seed := range []string{"220 a\r\n250 STARTTLS\r\n220 b\r\n", "* OK\r\ns1 OK\r\n", "+OK\r\n+OK\r\n", "220-a\r\nb\r\n220 c\r\n234 d\r\n", ldapYes, ldapNo, "S", "N"} {
		for i := range uint8(6) {
			f.Add(i, []byte(seed))
		}
	}
	all := []starttls.Protocol{starttls.SMTP, starttls.IMAP, starttls.POP3, starttls.FTP, starttls.LDAP, starttls.Postgres}
	f.Fuzz(func(t *testing.T, which uint8, answer []byte) {
		conn := &recorded{Reader: bytes.NewReader(answer)}
		lines, err := starttls.Upgrade(context.Background(), conn, all[which%6], "client.example")
		if err == nil && conn.Reader.Len() > 0 {
			t.Errorf("upgraded with %d octets unread after %v", conn.Reader.Len(), lines)
		}
		for _, line := range lines {
			if strings.ContainsAny(line.Text, "\x1b\x00\r\n") {
				t.Errorf("a line that is not fit for a terminal: %q", line.Text)
			}
		}
	})
}

// recorded is a peer that has said everything already.
type recorded struct {
	net.Conn
	*bytes.Reader
}

func (r *recorded) Read(p []byte) (int, error)    { return r.Reader.Read(p) }
func (r *recorded) Write(p []byte) (int, error)   { return len(p), nil }
func (r *recorded) SetDeadline(t time.Time) error { return nil }
