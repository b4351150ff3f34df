package crlserver_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"signet.example/signet/crl"
	"signet.example/signet/crl/crlserver"
	"signet.example/signet/pki"
)

// reading is what one reader finds on a list.
type reading map[pki.Serial]listed

// listed is one entry; times in Unix seconds, since every reader has its own type.
type listed struct {
	reason                pki.Reason
	revokedAt, invalidity int64
}

// threeReaders reads a list with our reader, with crypto/x509 and with OpenSSL, and demands that they see the same.
func threeReaders(t *testing.T, der []byte) reading {
	t.Helper()
	ours, standard, foreign := readOurs(t, der), readStandard(t, der), readOpenSSL(t, der)
	if !maps.Equal(ours, standard) {
		t.Fatalf("we read\n%v\nand crypto/x509\n%v", ours, standard)
	}
	if !maps.Equal(ours, foreign) {
		t.Fatalf("we read\n%v\nand OpenSSL\n%v", ours, foreign)
	}
	return ours
}

func readOurs(t *testing.T, der []byte) reading {
	t.Helper()
	list, err := crl.Parse(der)
	if err != nil {
		t.Fatal(err)
	}
	all := make(reading)
	for e := range list.Entries() {
		all[must(pki.SerialFromBytes(e.Serial))] = listed{e.Reason, e.RevokedAt.Unix(), seconds(e.InvalidityAt)}
	}
	return all
}

// seconds is zero for no time.
func seconds(at time.Time) int64 {
	if at.IsZero() {
		return 0
	}
	return at.Unix()
}

var oidInvalidity = asn1.ObjectIdentifier{2, 5, 29, 24}

func readStandard(t *testing.T, der []byte) reading {
	t.Helper()
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		t.Fatal(err)
	}
	all := make(reading)
	for _, e := range list.RevokedCertificateEntries {
		entry := listed{reason: pki.Reason(e.ReasonCode), revokedAt: e.RevocationTime.Unix()}
		for _, extension := range e.Extensions {
			if extension.Id.Equal(oidInvalidity) {
				var at time.Time
				if _, err := asn1.UnmarshalWithParams(extension.Value, &at, "generalized"); err != nil {
					t.Fatal(err)
				}
				entry.invalidity = at.Unix()
			}
		}
		all[must(pki.SerialFromBig(e.SerialNumber))] = entry
	}
	return all
}

var (
	opensslEntry      = regexp.MustCompile(`Serial Number: ([0-9A-F]+)\n\s+Revocation Date: (.+)\n`)
	opensslReason     = regexp.MustCompile(`X509v3 CRL Reason Code: \n\s+(.+)\n`)
	opensslInvalidity = regexp.MustCompile(`Invalidity Date: \n\s+(.+)\n`)
)

// opensslReasons is how OpenSSL prints reasons.
var opensslReasons = map[string]pki.Reason{
	"Unspecified": pki.Unspecified, "Key Compromise": pki.KeyCompromise, "Superseded": pki.Superseded, "Certificate Hold": pki.CertificateHold, "Remove From CRL": pki.RemoveFromCRL,
}

func readOpenSSL(t *testing.T, der []byte) reading {
	t.Helper()
	cmd := exec.Command("openssl", "crl", "-inform", "DER", "-noout", "-text")
	cmd.Stdin = bytes.NewReader(der)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text := string(out)
	all := make(reading)
	found := opensslEntry.FindAllStringSubmatchIndex(text, -1)
	for i, at := range found {
		end := len(text)
		if i+1 < len(found) {
			end = found[i+1][0]
		}
		number, ok := new(big.Int).SetString(text[at[2]:at[3]], 16)
		if !ok {
			t.Fatalf("openssl prints the serial number %q", text[at[2]:at[3]])
		}
		entry := listed{revokedAt: opensslTime(t, text[at[4]:at[5]])}
		if reason := opensslReason.FindStringSubmatch(text[at[0]:end]); reason != nil {
			known, ok := opensslReasons[reason[1]]
			if !ok {
				t.Fatalf("openssl prints the reason %q", reason[1])
			}
			entry.reason = known
		}
		if invalidity := opensslInvalidity.FindStringSubmatch(text[at[0]:end]); invalidity != nil {
			entry.invalidity = opensslTime(t, invalidity[1])
		}
		all[must(pki.SerialFromBig(number))] = entry
	}
	return all
}

func opensslTime(t *testing.T, text string) int64 {
	t.Helper()
	at, err := time.Parse("Jan _2 15:04:05 2006 GMT", text)
	if err != nil {
		t.Fatal(err)
	}
	return at.Unix()
}

// relyingParty has OpenSSL verify certificates of every serial number that the model may revoke, by lists, as those do who
// keep them in files.
type relyingParty struct {
	dir   string
	names map[string]pki.Position // by file
	args  []string                // all files
}

func newRelyingParty(t *testing.T, a *authority) *relyingParty {
	t.Helper()
	r := &relyingParty{dir: t.TempDir(), names: make(map[string]pki.Position)}
	writePEM(t, filepath.Join(r.dir, "ca.pem"), "CERTIFICATE", a.cert.Raw)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range modelPositions() {
		list := crlserver.List{Series: crlserver.Series{Issuer: a.issuer, Shard: p.Shard(), Sharded: true}, Kind: crlserver.KindShard}
		template := &x509.Certificate{SerialNumber: serial(p.Epoch, p.Index).Big(), Subject: pkix.Name{CommonName: "app"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(0, 1, 0),
			CRLDistributionPoints: []string{crlserver.URL(base, list)}}
		der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
		if err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("%d-%d.pem", p.Epoch, p.Index)
		writePEM(t, filepath.Join(r.dir, name), "CERTIFICATE", der)
		r.names[name], r.args = p, append(r.args, name)
	}
	return r
}

func writePEM(t *testing.T, name, kind string, ders ...[]byte) {
	t.Helper()
	var text []byte
	for _, der := range ders {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})...)
	}
	write(t, name, text)
}

// agrees has OpenSSL judge every certificate by lists, and compares those in scope with the model.
func (r *relyingParty) agrees(t *testing.T, m *ledgerModel, in func(pki.Shard) bool, lists ...[]byte) {
	t.Helper()
	writePEM(t, filepath.Join(r.dir, "lists.pem"), "X509 CRL", lists...)
	cmd := exec.Command("openssl", append([]string{"verify", "-x509_strict", "-crl_check", "-extended_crl", "-use_deltas", "-CAfile", "ca.pem", "-CRLfile", "lists.pem"}, r.args...)...)
	cmd.Dir = r.dir
	said, _ := cmd.CombinedOutput() // it fails if one is revoked
	out, revoked := string(said), m.revoked(in)
	for name, p := range r.names {
		_, isRevoked := revoked[serial(p.Epoch, p.Index)]
		if good := strings.Contains(out, name+": OK\n"); in(p.Shard()) && good == isRevoked {
			t.Fatalf("%s: revoked is %t, and openssl verify says good is %t\n%s", name, isRevoked, good, out)
		}
	}
	if n := strings.Count(out, "error 23 at 0 depth lookup: certificate revoked"); n != len(revoked) {
		t.Fatalf("openssl verify calls %d revoked, want %d\n%s", n, len(revoked), out)
	}
}
