package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"signet.example/signet/crl"
)

// What a delta takes off is not revoked, of an indirect list it is said whose a serial is, and where deltas are.
func TestShowDeltaAndIndirect(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Odd CA"}, KeyUsage: x509.KeyUsageCRLSign, SubjectKeyId: []byte("odd")}
	encode := func(value any) []byte {
		t.Helper()
		der, err := asn1.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	tagged := func(tag int, content ...byte) asn1.RawValue {
		return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, IsCompound: true, Bytes: content}
	}
	// of is the entry extension certificateIssuer (RFC 5280, Section 5.3.3).
	of := func(name string) []pkix.Extension {
		directoryName := encode(tagged(4, encode(pkix.Name{CommonName: name}.ToRDNSequence())...))
		return []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 29}, Critical: true, Value: encode([]asn1.RawValue{{FullBytes: directoryName}})}}
	}
	entry := func(serial int64, reason int, extensions []pkix.Extension) x509.RevocationListEntry {
		return x509.RevocationListEntry{SerialNumber: big.NewInt(serial), RevocationTime: now.Add(-time.Hour), ReasonCode: reason, ExtraExtensions: extensions}
	}
	url := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte("http://odd.example/delta.crl")}
	freshest := encode([]struct{ Name asn1.RawValue }{{tagged(0, encode(tagged(0, encode(url)...))...)}})
	dir := t.TempDir()
	for name, list := range map[string]*x509.RevocationList{
		"base": {RevokedCertificateEntries: []x509.RevocationListEntry{entry(5, 1, nil)},
			ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 46}, Value: freshest}}},
		"delta": {RevokedCertificateEntries: []x509.RevocationListEntry{entry(5, 8, nil), entry(6, 4, nil)},
			ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 27}, Critical: true, Value: encode(1)}}},
		"indirect": {RevokedCertificateEntries: []x509.RevocationListEntry{entry(5, 4, of("First CA")), entry(7, 1, nil), entry(5, 1, of("Second CA")), entry(7, 0, of("Odd CA"))},
			ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: []byte{0x30, 3, 0x84, 1, 0xff}}}},
	} {
		list.Number, list.ThisUpdate, list.NextUpdate = big.NewInt(7), now, now.Add(time.Hour)
		der, err := x509.CreateRevocationList(rand.Reader, list, ca, key)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name+".crl"), der, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		args   string
		status int
		says   string // with single spaces
	}{
		{"base.crl", 0, "deltas http://odd.example/delta.crl"},
		{"base.crl --output json", 0, `"deltas": [ "http://odd.example/delta.crl" ]`},
		{"base.crl --serial 05", 10, "05 is on the list revoked"},
		{"base.crl --serial 05 --output json", 10, `"listed": true, "entry": { "serial": "05",`},
		{"base.crl --serial 06 --output json", 0, `"listed": false, "entries": []`},
		{"base.crl --serial 06", 0, "06 is not on the list\n"},
		{"delta.crl --serial 05", 0, "05 is removed from the list: it is no longer on hold"},
		{"delta.crl --serial 05 --output json", 0, `"listed": false, "entries": [ { "serial": "05",`},
		{"delta.crl --serial 06", 10, "06 is on the list revoked"},
		{"delta.crl --serial 07", 0, "07 is not on this delta: the list before it still applies"},
		{"delta.crl --serial 07 --output json", 0, `"listed": false, "entries": []`},
		{"indirect.crl --serial 05", 10, "05 is on the list of CN=First CA revoked"},
		{"indirect.crl --serial 05", 10, "05 is on the list of CN=Second CA revoked"},
		{"indirect.crl --serial 05 --output json", 10, `"reason": "superseded", "issuer": "CN=First CA" }, "entries": [`},
		{"indirect.crl --serial 07", 10, "07 is on the list of CN=First CA revoked"},
		{"indirect.crl --serial 07", 10, "07 is on the list revoked"},
	} {
		command := exec.CommandContext(t.Context(), "signet", append([]string{"crl", "show"}, strings.Fields(test.args)...)...)
		command.Dir = dir
		out, err := command.CombinedOutput()
		status := 0
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			status = exit.ExitCode()
		} else if err != nil {
			t.Fatal(err)
		}
		if said := strings.Join(strings.Fields(string(out)), " ") + "\n"; status != test.status || !strings.Contains(said, test.says) {
			t.Errorf("signet crl show %s ended with %d, want %d and %q:\n%s", test.args, status, test.status, test.says, out)
		}
	}
}

// The clocks of two machines are a little apart: a list counts a minute before it begins, and a minute after its end.
func TestJudgeListBySkewedClock(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	from := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	until := from.Add(time.Hour)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Odd CA"}, NotBefore: from, NotAfter: until,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCRLSign, SubjectKeyId: []byte("odd")}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	if der, err = x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(7), ThisUpdate: from, NextUpdate: until}, ca, key); err != nil {
		t.Fatal(err)
	}
	list, err := crl.Parse(der)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		at   time.Time
		says string // empty: believable
	}{
		{from.Add(-61 * time.Second), "it is from the future"}, {from.Add(-60 * time.Second), ""},
		{until.Add(59 * time.Second), ""}, {until.Add(60 * time.Second), "it is stale"},
	} {
		err := judgeList(list, ca, test.at)
		if (err == nil) != (test.says == "") || err != nil && !strings.Contains(err.Error(), test.says) {
			t.Errorf("at %s: %v; want %q", test.at, err, test.says)
		}
	}
	list.NextUpdate = from.Add(-time.Second)
	if err := judgeList(list, ca, from); err == nil {
		t.Error("a list that ends before it begins is believed")
	}
}
