package survey_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"slices"
	"testing"
	"time"

	"signet.example/signet/handshake/wire/protocol"
	"signet.example/signet/handshake/wire/survey"
)

// TestRun surveys crypto/tls, whose abilities are known.
func TestRun(t *testing.T) {
	for _, tt := range []struct {
		name   string
		config *tls.Config
		want   map[protocol.Version][]uint16
		groups []protocol.Group
		order  bool // of TLS 1.2 is the server's own
	}{
		{"TLS 1.3 only", &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{newCert(t, false)}}, map[protocol.Version][]uint16{
			tls.VersionTLS13: {tls.TLS_AES_128_GCM_SHA256, tls.TLS_AES_256_GCM_SHA384, tls.TLS_CHACHA20_POLY1305_SHA256},
		}, []protocol.Group{0x11ec, 0x11eb, 0x11ed, 29, 23, 24, 25}, false},
		{"one group", &tls.Config{MinVersion: tls.VersionTLS13, CurvePreferences: []tls.CurveID{tls.CurveP384}, Certificates: []tls.Certificate{newCert(t, false)}}, map[protocol.Version][]uint16{
			tls.VersionTLS13: {tls.TLS_AES_128_GCM_SHA256, tls.TLS_AES_256_GCM_SHA384, tls.TLS_CHACHA20_POLY1305_SHA256},
		}, []protocol.Group{24}, false},
		{"old and weak", &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS12, Certificates: []tls.Certificate{newCert(t, true)},
			CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA}}, map[protocol.Version][]uint16{
			tls.VersionTLS12: {tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA},
			tls.VersionTLS11: {tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA},
			tls.VersionTLS10: {tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA},
		}, nil, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			report, err := survey.Run(t.Context(), survey.Config{Dial: serve(t, func(conn net.Conn) { _ = tls.Server(conn, tt.config).Handshake() }), ServerName: "app.example"})
			if err != nil {
				t.Fatal(err)
			}
			// crypto/tls has an order of its own, except that in TLS 1.3 it heeds a client that puts ChaCha20 first.
			if ours := report.Versions[1]; tt.order != ours.ServerOrder {
				t.Errorf("%s goes by its own order: %v", ours.Version, ours.ServerOrder)
			}
			if !report.Complete || report.Connections == 0 || len(report.Versions) != 4 {
				t.Errorf("report %+v", report)
			}
			for _, v := range report.Versions {
				var got []uint16
				for _, s := range v.Suites {
					got = append(got, uint16(s))
				}
				want := slices.Clone(tt.want[v.Version])
				if slices.Sort(got); !slices.Equal(got, sorted(want)) {
					t.Errorf("%s: %v, want %v (%s)", v.Version, v.Suites, want, v.Refusal)
				}
				if len(got) == 0 && v.Refusal == "" {
					t.Errorf("%s: nothing, and no reason", v.Version)
				}
			}
			if !slices.Equal(sorted(report.Groups), sorted(tt.groups)) {
				t.Errorf("groups %v, want %v", report.Groups, tt.groups)
			}
		})
	}
}

func sorted[T ~uint16](list []T) []T {
	list = slices.Clone(list)
	slices.Sort(list)
	return list
}

// TestRunFails has peers that are no TLS servers.
func TestRunFails(t *testing.T) {
	for name, tt := range map[string]struct {
		serve func(net.Conn)
		cfg   survey.Config
		want  error
	}{
		"plain text": {func(c net.Conn) { io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n") }, survey.Config{}, survey.ErrNotTLS},
		"silent":     {func(c net.Conn) { io.Copy(io.Discard, c) }, survey.Config{Timeout: 30 * time.Millisecond}, context.DeadlineExceeded},
	} {
		tt.cfg.Dial = serve(t, tt.serve)
		if _, err := survey.Run(t.Context(), tt.cfg); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
	closes := serve(t, func(net.Conn) {})
	report, err := survey.Run(t.Context(), survey.Config{Dial: closes})
	if err != nil || report.Versions[0].Refusal != "closed the connection" || len(report.Groups) != 0 {
		t.Errorf("a server that closes: %+v, %v", report, err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{newCert(t, false)}}
	always := serve(t, func(c net.Conn) { _ = tls.Server(c, config).Handshake() })
	if report, err = survey.Run(t.Context(), survey.Config{Dial: always, Most: 3}); err != nil || report.Complete || report.Connections != 3 {
		t.Errorf("with at most 3 connections: %+v, %v", report, err)
	}
}

// serve gives every connection to a function and closes it afterwards.
func serve(t *testing.T, each func(net.Conn)) func(context.Context) (net.Conn, error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				each(conn)
			}()
		}
	}()
	return func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", ln.Addr().String())
	}
}

func newCert(t *testing.T, old bool) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "app.example"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	if old {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// FuzzRun surveys a server that says anything.
func FuzzRun(f *testing.F) {
	f.Add([]byte("\x15\x03\x01\x00\x02\x02\x28"))
	f.Add([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
	f.Add([]byte("\x16\x03\x03\x00\x2c\x02\x00\x00\x28\x03\x03abcdefghijklmnopqrstuvwxyz012345\x00\x13\x01\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, said []byte) {
		report, err := survey.Run(t.Context(), survey.Config{Most: 4, Dial: func(context.Context) (net.Conn, error) {
			return &puppet{said: said}, nil
		}})
		if (report == nil) != (err != nil) {
			t.Errorf("%v and %v", report, err)
		}
		if report != nil && report.Connections > 4 {
			t.Errorf("%d connections", report.Connections)
		}
	})
}

// puppet is a peer that has said everything already.
type puppet struct {
	net.Conn
	said []byte
}

func (p *puppet) Read(b []byte) (int, error) {
	if len(p.said) == 0 {
		return 0, io.EOF
	}
	n := copy(b, p.said)
	p.said = p.said[n:]
	return n, nil
}

func (p *puppet) Write(b []byte) (int, error) { return len(b), nil }
func (p *puppet) Close() error                { return nil }
