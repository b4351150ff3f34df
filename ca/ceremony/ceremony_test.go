package ceremony_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"signet.example/signet/ca"
	"signet.example/signet/ca/ceremony"
	"signet.example/signet/ca/keys"
	"signet.example/signet/ca/profile"
	"signet.example/signet/crl"
	"signet.example/signet/pki"
)

// room is a directory of ceremonies, with a clock moved by hand.
type room struct {
	t      *testing.T
	dir    string
	keys   keys.Store
	now    time.Time
	change func(*ceremony.Config) // of the next ceremonies
	asked  []string
}

func newRoom(t *testing.T) *room {
	return &room{t: t, dir: t.TempDir(), keys: memory{}, now: time.Now().UTC().Truncate(time.Second).Add(-10 * time.Minute)}
}

// memory keeps keys without encrypting them: stretching a passphrase takes longer than all the rest.
type memory map[string]*keys.Key

func (m memory) URI(name string) string { return "memory:" + name }

func (m memory) Create(_ context.Context, name string, algorithm keys.Algorithm) (*keys.Key, error) {
	if m[m.URI(name)] != nil {
		return nil, pki.Errorf(pki.KindConflict, "create key", "there is one")
	}
	signer, err := keys.Generate(algorithm)
	m[m.URI(name)] = &keys.Key{Signer: signer, URI: m.URI(name)}
	return m[m.URI(name)], err
}

func (m memory) Open(_ context.Context, uri string) (*keys.Key, error) {
	if key := m[uri]; key != nil {
		return key, nil
	}
	return nil, pki.Errorf(pki.KindNotFound, "open key", "there is none")
}

func (r *room) ceremony() *ceremony.Ceremony {
	r.t.Helper()
	c, err := ceremonyOf(r)
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

func ceremonyOf(r *room) (*ceremony.Ceremony, error) {
	r.t.Helper()
	profiles, err := profile.Open("")
	if err != nil {
		r.t.Fatal(err)
	}
	config := ceremony.Config{Dir: r.dir, Keys: r.keys, Profiles: profiles, Program: ceremony.Program{Version: "v1", SHA256: "00"}, Now: func() time.Time { return r.now },
		Present: []string{"Ada Lovelace, key holder", "Charles Babbage, witness"}, Confirm: func(question string) (string, error) {
			r.asked = append(r.asked, question)
			return "yes", nil
		}}
	if r.change != nil {
		r.change(&config)
	}
	return ceremony.New(config)
}

func (r *room) root(n ca.NewIssuer) *ceremony.Result {
	r.t.Helper()
	if n.Subject.CommonName == "" {
		n.Subject.CommonName = "Ceremony Root 1"
	}
	n.Label, n.BaseURL = "root", "http://pki.test"
	result, err := r.ceremony().Root(r.t.Context(), n)
	if err != nil {
		r.t.Fatal(err)
	}
	return result
}

// request is what signet issuer create --offline makes.
func request(t *testing.T, name string) ceremony.Input {
	t.Helper()
	key, err := keys.Generate(keys.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	return requestOf(t, name, key)
}

func requestOf(t *testing.T, name string, key crypto.Signer) ceremony.Input {
	t.Helper()
	return requestFor(t, pkix.Name{CommonName: name}.ToRDNSequence(), key)
}

func requestFor(t *testing.T, name pkix.RDNSequence, key crypto.Signer) ceremony.Input {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{RawSubject: rawName(t, name)}, key)
	if err != nil {
		t.Fatal(err)
	}
	return ceremony.Input{Name: "issuing.csr", Data: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})}
}

func (r *room) verified(result *ceremony.Result) *ceremony.Verified {
	r.t.Helper()
	v, err := ceremony.Verify(result.Record)
	if err != nil {
		r.t.Fatal(err)
	}
	if v.Digest != result.Digest {
		r.t.Errorf("%s has the digest %s, and %s was said", result.Record, v.Digest, result.Digest)
	}
	return v
}

func certificates(t *testing.T, path string) (all []*x509.Certificate) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	return all
}

func openssl(t *testing.T, arguments ...string) (string, error) {
	t.Helper()
	out, err := exec.Command("openssl", arguments...).CombinedOutput()
	return string(out), err
}

// A root is made, signs an issuing CA, and lists it as revoked; openssl reads and believes each step, and each record
// verifies.
func TestTheWholeLife(t *testing.T) {
	for _, algorithm := range []keys.Algorithm{keys.ECDSAP384, keys.RSA2048, keys.Ed25519} {
		t.Run(algorithm.String(), func(t *testing.T) {
			r := newRoom(t)
			made := r.root(ca.NewIssuer{Algorithm: algorithm, PathLength: new(1), Permitted: profile.SubtreesConfig{DNS: []string{"corp.test"}}})
			root := certificates(t, made.Product)[0]
			if root.MaxPathLen != 1 || !slices.Equal(root.PermittedDNSDomains, []string{"corp.test"}) || root.Subject.CommonName != "Ceremony Root 1" {
				t.Errorf("root: %+v", root)
			}
			rootFile := filepath.Join(r.dir, "root.pem")
			signed, err := r.ceremony().Sign(t.Context(), request(t, "Issuing CA"), ca.NewIssuer{})
			if err != nil {
				t.Fatal(err)
			}
			issuing := certificates(t, signed.Product)
			id := pki.HashSPKI(root.RawSubjectPublicKeyInfo).Issuer().String()
			if len(issuing) != 2 || !issuing[1].Equal(root) || !issuing[0].MaxPathLenZero || len(issuing[0].OCSPServer) != 0 ||
				!slices.Equal(issuing[0].CRLDistributionPoints, []string{"http://pki.test/crl/" + id + ".crl"}) ||
				!slices.Equal(issuing[0].IssuingCertificateURL, []string{"http://pki.test/issuers/" + id + ".cer"}) {
				t.Errorf("issuing: %+v", issuing[0])
			}
			list := func(revoke ...ceremony.Revocation) *ceremony.Result {
				t.Helper()
				r.now = r.now.Add(time.Second)
				result, err := r.ceremony().List(t.Context(), ceremony.ListRequest{Revoke: revoke})
				if err != nil {
					t.Fatal(err)
				}
				return result
			}
			judge := func(result *ceremony.Result, revoked bool) {
				t.Helper()
				if out, err := openssl(t, "crl", "-inform", "DER", "-in", result.Product, "-CAfile", rootFile, "-noout", "-text", "-verify"); err != nil || !strings.Contains(out, "verify OK") {
					t.Errorf("openssl crl: %v\n%s", err, out)
				}
				text := filepath.Join(r.dir, "list.pem")
				if out, err := openssl(t, "crl", "-inform", "DER", "-in", result.Product, "-out", text); err != nil {
					t.Fatal(out)
				}
				out, err := openssl(t, "verify", "-crl_check", "-CRLfile", text, "-CAfile", rootFile, signed.Product)
				if (err != nil) != revoked || revoked && !strings.Contains(out, "certificate revoked") {
					t.Errorf("openssl verify: %v\n%s", err, out)
				}
			}
			first := list()
			judge(first, false)
			serial, err := pki.SerialFromBig(issuing[0].SerialNumber)
			if err != nil {
				t.Fatal(err)
			}
			second := list(ceremony.Revocation{Serial: serial, Reason: pki.CessationOfOperation})
			judge(second, true)
			third := list()
			judge(third, true) // for ever
			if first.Number != 1 || second.Number != 2 || third.Number != 3 || !third.NotAfter.Equal(r.now.Add(365*24*time.Hour)) {
				t.Errorf("numbers %d, %d, %d, until %s", first.Number, second.Number, third.Number, third.NotAfter)
			}
			for _, result := range []*ceremony.Result{made, signed, first, second, third} {
				if v := r.verified(result); !v.Good || !v.Complete || len(v.Findings) != 6 || len(v.Present) != 2 {
					t.Errorf("%s: %+v", result.Record, v)
				}
			}
		})
	}
}

// Roots sign each other; both ways verify, under names and key identifiers as the roots have them.
func TestCrossSigning(t *testing.T) {
	first, second := newRoom(t), newRoom(t)
	first.root(ca.NewIssuer{})
	second.root(ca.NewIssuer{Subject: ca.Subject{CommonName: "Ceremony Root 2"}, PathLength: new(3)})
	other, err := os.ReadFile(filepath.Join(second.dir, "root.pem"))
	if err != nil {
		t.Fatal(err)
	}
	crossed, err := first.ceremony().CrossSign(t.Context(), ceremony.Input{Name: "root-2.pem", Data: other}, 0)
	if err != nil {
		t.Fatal(err)
	}
	below, err := second.ceremony().Sign(t.Context(), request(t, "Issuing CA 2"), ca.NewIssuer{PathLength: new(0)})
	if err != nil {
		t.Fatal(err)
	}
	own, cross := certificates(t, filepath.Join(second.dir, "root.pem"))[0], certificates(t, crossed.Product)[0]
	if !bytes.Equal(own.RawSubject, cross.RawSubject) || !bytes.Equal(own.SubjectKeyId, cross.SubjectKeyId) || cross.MaxPathLen != 3 || own.SerialNumber.Cmp(cross.SerialNumber) == 0 {
		t.Errorf("cross-certificate: %+v", cross)
	}
	for _, trusted := range []string{filepath.Join(first.dir, "root.pem"), filepath.Join(second.dir, "root.pem")} {
		if out, err := openssl(t, "verify", "-CAfile", trusted, "-untrusted", crossed.Product, below.Product); err != nil {
			t.Errorf("under %s: %s", trusted, out)
		}
	}
	if _, err := first.ceremony().CrossSign(t.Context(), ceremony.Input{Name: "x", Data: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificates(t, below.Product)[0].Raw})}, 0); pki.KindOf(err) != pki.KindRefused {
		t.Errorf("cross-signed something that is no root: %v", err)
	}
	mine, err := os.ReadFile(filepath.Join(first.dir, "root.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := first.ceremony().CrossSign(t.Context(), ceremony.Input{Name: "x", Data: mine}, 0); err == nil {
		t.Error("a root cross-signed itself")
	}
}

// A rehearsal says everything and leaves nothing but its record.
func TestRehearsal(t *testing.T) {
	r := newRoom(t)
	r.change = func(c *ceremony.Config) { c.Rehearse = true }
	result := r.root(ca.NewIssuer{})
	left := func() (names []string) {
		err := filepath.WalkDir(r.dir, func(path string, entry os.DirEntry, err error) error {
			if err == nil && !entry.IsDir() && filepath.Base(filepath.Dir(path)) != "records" {
				names = append(names, filepath.Base(path))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	if names := left(); len(names) != 0 || len(r.asked) != 0 || result.Product != "" {
		t.Errorf("left %q, asked %q", names, r.asked)
	}
	if v := r.verified(result); !v.Good || !v.Rehearsal {
		t.Errorf("%+v", v)
	}
	paper, err := os.ReadFile(result.Paper)
	if err != nil {
		t.Fatal(err)
	}
	for i, page := range strings.Split(string(paper), "\f") {
		if !strings.Contains(page, "REHEARSAL: NOTHING WAS SIGNED") {
			t.Errorf("page %d does not say that it is a rehearsal", i+1)
		}
	}
	r.change = nil
	r.root(ca.NewIssuer{})
	before, err := os.ReadFile(filepath.Join(r.dir, "ceremony.json"))
	if err != nil {
		t.Fatal(err)
	}
	names := left()
	r.change = func(c *ceremony.Config) { c.Rehearse = true }
	if _, err := r.ceremony().Sign(t.Context(), request(t, "Issuing CA"), ca.NewIssuer{}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.ceremony().List(t.Context(), ceremony.ListRequest{}); err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(filepath.Join(r.dir, "ceremony.json"))
	if err != nil || !bytes.Equal(before, after) || !slices.Equal(names, left()) {
		t.Errorf("a rehearsal was remembered: %v", err)
	}
}

// Nobody agrees: nothing is signed, what was to be revoked is not remembered, and the record says so.
func TestDeclined(t *testing.T) {
	r := newRoom(t)
	r.root(ca.NewIssuer{})
	signed, err := r.ceremony().Sign(t.Context(), request(t, "Issuing CA"), ca.NewIssuer{})
	if err != nil {
		t.Fatal(err)
	}
	serial, err := pki.ParseSerial(signed.Serial)
	if err != nil {
		t.Fatal(err)
	}
	no := pki.Errorf(pki.KindRefused, "confirm", "nobody said yes")
	r.change = func(c *ceremony.Config) { c.Confirm = func(string) (string, error) { return "", no } }
	if _, err := r.ceremony().List(t.Context(), ceremony.ListRequest{Revoke: []ceremony.Revocation{{Serial: serial}}}); !errors.Is(err, no) {
		t.Fatalf("got %v", err)
	}
	if _, err := r.ceremony().Sign(t.Context(), request(t, "Other CA"), ca.NewIssuer{}); !errors.Is(err, no) {
		t.Fatalf("got %v", err)
	}
	records, err := filepath.Glob(filepath.Join(r.dir, "records", "*-crl-1.jsonl"))
	if err != nil || len(records) != 1 {
		t.Fatal(records, err)
	}
	if v, err := ceremony.Verify(records[0]); err != nil || v.Good || v.Complete {
		t.Errorf("a ceremony that broke off: %+v, %v", v, err)
	}
	r.change = nil
	result, err := r.ceremony().List(t.Context(), ceremony.ListRequest{})
	if err != nil {
		t.Fatal(err)
	}
	der, err := os.ReadFile(result.Product)
	if err != nil {
		t.Fatal(err)
	}
	if list, err := crl.Parse(der); err != nil || list.Len() != 0 || result.Number != 1 {
		t.Errorf("list number %d has %d entries, %v", result.Number, list.Len(), err)
	}
}

// failing breaks off a ceremony at its signature: after the serial number was written down.
type failing struct{ keys.Store }

// noSigner has a public key and no more.
type noSigner struct{ crypto.Signer }

func (noSigner) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("the token was pulled out")
}

func (f failing) Open(ctx context.Context, uri string) (*keys.Key, error) {
	key, err := f.Store.Open(ctx, uri)
	if err != nil {
		return nil, err
	}
	broken := *key
	broken.Signer = noSigner{key.Signer}
	return &broken, nil
}

// What was about to be signed when a ceremony broke off is on the next list; a list number that was about to be used is
// not used again.
func TestWhatBrokeOff(t *testing.T) {
	r := newRoom(t)
	r.root(ca.NewIssuer{})
	whole := r.keys
	r.keys = failing{whole}
	if _, err := r.ceremony().Sign(t.Context(), request(t, "Issuing CA"), ca.NewIssuer{}); err == nil {
		t.Fatal("signed without a key")
	}
	if _, err := r.ceremony().List(t.Context(), ceremony.ListRequest{}); err == nil {
		t.Fatal("signed without a key")
	}
	r.keys = whole
	result, err := r.ceremony().List(t.Context(), ceremony.ListRequest{})
	if err != nil {
		t.Fatal(err)
	}
	der, err := os.ReadFile(result.Product)
	if err != nil {
		t.Fatal(err)
	}
	list, err := crl.Parse(der)
	if err != nil || list.Len() != 1 || result.Number != 2 {
		t.Errorf("list number %d has %d entries, %v", result.Number, list.Len(), err)
	}
}

// A ceremony that broke off between key and certificate is taken up with the same key.
func TestTakenUpAgain(t *testing.T) {
	r := newRoom(t)
	key, err := r.keys.Create(t.Context(), "root", keys.ECDSAP384)
	if err != nil {
		t.Fatal(err)
	}
	root := certificates(t, r.root(ca.NewIssuer{}).Product)[0]
	if hash, err := pki.HashPublicKey(key.Public()); err != nil || hash != pki.HashSPKI(root.RawSubjectPublicKeyInfo) {
		t.Error("another key was made")
	}
	_, err = r.ceremony().Root(t.Context(), ca.NewIssuer{Label: "root", Subject: ca.Subject{CommonName: "Again"}, BaseURL: "http://pki.test"})
	if pki.KindOf(err) != pki.KindConflict {
		t.Errorf("a second root in one directory: %v", err)
	}
}

func rawName(t *testing.T, name pkix.RDNSequence) []byte {
	t.Helper()
	der, err := asn1.Marshal(name)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// attribute is an attribute of a name by itself, of the arc 2.5.4.
func attribute(arc int, value string) pkix.RelativeDistinguishedNameSET {
	return pkix.RelativeDistinguishedNameSET{{Type: asn1.ObjectIdentifier{2, 5, 4, arc}, Value: value}}
}

// Whoever is asked sees every attribute of the name that is signed, whatever pkix.Name makes of it.
func TestAWholeNameIsShown(t *testing.T) {
	key, err := keys.Generate(keys.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	name := pkix.RDNSequence{attribute(10, "Example Ltd"), attribute(10, "Plant Ltd"), attribute(5, "1"), attribute(5, "2"), attribute(3, "Plant CA 3")}
	const text = "CN=Plant CA 3,SERIALNUMBER=2,SERIALNUMBER=1,O=Plant Ltd,O=Example Ltd"
	r := newRoom(t)
	r.root(ca.NewIssuer{})
	result, err := r.ceremony().Sign(t.Context(), requestFor(t, name, key), ca.NewIssuer{})
	if err != nil {
		t.Fatal(err)
	}
	certificate := certificates(t, result.Product)[0]
	if !bytes.Equal(certificate.RawSubject, rawName(t, name)) {
		t.Errorf("signed for %s", certificate.Subject)
	}
	if question := r.asked[len(r.asked)-1]; !strings.Contains(question, "certificate of "+text+",") {
		t.Errorf("asked: %s", question)
	}
	said := facts(t, result.Record)
	if said[ceremony.StepInput+" name"] != text || said[ceremony.StepProposal+" subject"] != text {
		t.Errorf("the record says %v", said)
	}
	r.now = r.now.Add(time.Minute)
	file := ceremony.Input{Name: "plant.pem", Data: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw})}
	list, err := r.ceremony().List(t.Context(), ceremony.ListRequest{Revoke: []ceremony.Revocation{{Certificate: file, Reason: pki.Superseded}}})
	if err != nil {
		t.Fatal(err)
	}
	if record, err := os.ReadFile(list.Record); err != nil || !bytes.Contains(record, []byte(`"`+text+`"`)) {
		t.Errorf("the list's record does not name %s: %v", text, err)
	}
}

// Whoever is asked sees everything that the authority is limited to, in what is asked for and in what is signed.
func TestEveryLimitIsShown(t *testing.T) {
	key, err := keys.Generate(keys.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{RawSubject: rawName(t, pkix.RDNSequence{attribute(3, "Plant CA 3")}), ExtraExtensions: []pkix.Extension{
		{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Value: []byte("\x30\x0e\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x01\x06\x02\x2a\x03")},
		{Id: asn1.ObjectIdentifier{2, 5, 29, 32}, Value: []byte("\x30\x06\x30\x04\x06\x02\x2a\x04")},
		{Id: asn1.ObjectIdentifier{2, 5, 29, 36}, Value: []byte("\x30\x06\x80\x01\x00\x81\x01\x01")},
		{Id: asn1.ObjectIdentifier{2, 5, 29, 54}, Value: []byte("\x02\x01\x02")},
	}}, key)
	if err != nil {
		t.Fatal(err)
	}
	r := newRoom(t)
	r.root(ca.NewIssuer{})
	request := ceremony.Input{Name: "plant.csr", Data: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})}
	result, err := r.ceremony().Sign(t.Context(), request, ca.NewIssuer{})
	if err != nil {
		t.Fatal(err)
	}
	said := facts(t, result.Record)
	for name, want := range map[string]string{
		"only usages": "server_auth, 1.2.3", "only policies": "1.2.4", "certificates until a policy is demanded": "0", "certificates until no policy is mapped": "1",
		"certificates until anyPolicy is void": "2",
	} {
		if said[ceremony.StepInput+" asks: "+name] != want || said[ceremony.StepProposal+" "+name] != want {
			t.Errorf("%s: the record says %v", name, said)
		}
	}
}

// facts reads what a record says, by the names of step and fact.
func facts(t *testing.T, path string) map[string]string {
	t.Helper()
	record, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	steps, _, err := ceremony.TestingOnlyRead(record)
	if err != nil {
		t.Fatal(err)
	}
	said := map[string]string{}
	for _, step := range steps {
		for _, fact := range step.Facts {
			said[step.Name+" "+fact.Name] = fact.Value
		}
	}
	return said
}

// selfSigned is the certificate of a root that another program made.
func selfSigned(t *testing.T, name pkix.RDNSequence) ceremony.Input {
	t.Helper()
	key, err := keys.Generate(keys.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), RawSubject: rawName(t, name), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(5 * 365 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: []byte{1, 2, 3, 4},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return ceremony.Input{Name: "other.pem", Data: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

// Programs differ in which of two common names they show.
func TestTwoCommonNamesAreRefused(t *testing.T) {
	r := newRoom(t)
	r.root(ca.NewIssuer{})
	key, err := keys.Generate(keys.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	one := pkix.RDNSequence{attribute(10, "Example Ltd"), attribute(3, "Plant CA 3")}
	apart := pkix.RDNSequence{attribute(10, "Example Ltd"), attribute(3, "Example Root CA 1 (new)"), attribute(3, "Plant CA 3")}
	together := pkix.RDNSequence{append(attribute(3, "Example Root CA 1 (new)"), attribute(3, "Plant CA 3")...)}
	for _, name := range []pkix.RDNSequence{apart, together} {
		_, err := r.ceremony().Sign(t.Context(), requestFor(t, name, key), ca.NewIssuer{})
		refusedFor(t, err, "csr", "2 common names")
		_, err = r.ceremony().CrossSign(t.Context(), selfSigned(t, name), 0)
		refusedFor(t, err, "csr", "2 common names")
	}
	if _, err := r.ceremony().CrossSign(t.Context(), selfSigned(t, one), 0); err != nil {
		t.Error(err)
	}
}

func TestBadInput(t *testing.T) {
	r := newRoom(t)
	if _, err := r.ceremony().List(t.Context(), ceremony.ListRequest{}); pki.KindOf(err) != pki.KindNotFound {
		t.Errorf("a list without a root: %v", err)
	}
	r.root(ca.NewIssuer{PathLength: new(0)})
	good := request(t, "Issuing CA")
	der, _ := pem.Decode(good.Data)
	forged := bytes.Clone(der.Bytes)
	forged[len(forged)-1] ^= 1
	rootKey, err := r.keys.Open(t.Context(), "memory:root")
	if err != nil {
		t.Fatal(err)
	}
	for what, test := range map[string]struct {
		csr  ceremony.Input
		n    ca.NewIssuer
		kind pki.Kind
	}{
		"no request":               {ceremony.Input{Name: "x", Data: []byte("hello")}, ca.NewIssuer{}, pki.KindInvalid},
		"forged":                   {ceremony.Input{Name: "x", Data: forged}, ca.NewIssuer{}, pki.KindInvalid},
		"below a path length of 0": {good, ca.NewIssuer{}, pki.KindRefused},
		"a name that turns":        {request(t, "CA \u202egnitset"), ca.NewIssuer{}, pki.KindRefused},
		"no name":                  {request(t, ""), ca.NewIssuer{}, pki.KindRefused},
		"the root's own name":      {request(t, "Ceremony Root 1"), ca.NewIssuer{}, pki.KindRefused},
		"a bad constraint":         {good, ca.NewIssuer{Permitted: profile.SubtreesConfig{DNS: []string{"*.x"}}}, pki.KindInvalid},
		"longer than the root":     {good, ca.NewIssuer{Lifetime: 30 * 365 * 24 * time.Hour}, pki.KindRefused},
		"the root's own key":       {requestOf(t, "Other", rootKey.Signer), ca.NewIssuer{}, pki.KindRefused},
	} {
		if _, err := r.ceremony().Sign(t.Context(), test.csr, test.n); pki.KindOf(err) != test.kind {
			t.Errorf("%s: %v, want %s", what, err, test.kind)
		}
	}
	for what, test := range map[string]struct {
		request ceremony.ListRequest
		kind    pki.Kind
	}{
		"an unknown serial":      {ceremony.ListRequest{Revoke: []ceremony.Revocation{{Serial: pki.Serial{1}}}}, pki.KindNotFound},
		"a file of another root": {ceremony.ListRequest{Revoke: []ceremony.Revocation{{Certificate: otherRoot(t)}}}, pki.KindRefused},
		"for an hour":            {ceremony.ListRequest{Validity: time.Hour}, pki.KindInvalid},
	} {
		if _, err := r.ceremony().List(t.Context(), test.request); pki.KindOf(err) != test.kind {
			t.Errorf("%s: %v, want %s", what, err, test.kind)
		}
	}
}

// rsaSigner signs by the textbook (RFC 8017, Section 8.2.1), with primes and exponents that crypto/rsa would not.
type rsaSigner struct {
	public rsa.PublicKey
	d      *big.Int
}

func newRSASigner(t *testing.T, p, q *big.Int, exponent int64) rsaSigner {
	t.Helper()
	one := big.NewInt(1)
	phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
	d := new(big.Int).ModInverse(big.NewInt(exponent), phi)
	if d == nil {
		t.Fatalf("%d has no inverse: %x, %x", exponent, p, q)
	}
	return rsaSigner{rsa.PublicKey{N: new(big.Int).Mul(p, q), E: int(exponent)}, d}
}

func (s rsaSigner) Public() crypto.PublicKey { return &s.public }

func (s rsaSigner) Sign(_ io.Reader, digest []byte, _ crypto.SignerOpts) ([]byte, error) {
	const sha256Head = "\x00\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20"
	padded := []byte("\x00\x01" + strings.Repeat("\xff", s.public.Size()-2-len(sha256Head)-len(digest)) + sha256Head + string(digest))
	return new(big.Int).Exp(new(big.Int).SetBytes(padded), s.d, s.public.N).FillBytes(padded), nil
}

// invertible reports whether the exponents of the tests, 3 and 65537, have an inverse for a prime.
func invertible(p *big.Int) bool {
	return new(big.Int).Mod(p, big.NewInt(3)).Int64() == 2 && new(big.Int).Mod(p, big.NewInt(65537)).Int64() != 1
}

// prime is one of a size from which two make a modulus of twice that.
func prime(t *testing.T, bits int) *big.Int {
	t.Helper()
	for {
		p, err := rand.Prime(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		if p.Bit(bits-2) == 1 && invertible(p) {
			return p
		}
	}
}

func refusedFor(t *testing.T, err error, field, reason string) {
	t.Helper()
	e, ok := errors.AsType[*pki.Error](err)
	if !ok || e.Kind != pki.KindRefused || e.Field != field || !strings.Contains(err.Error(), reason) {
		t.Errorf("%v, want %s to be refused: %s", err, field, reason)
	}
}

// The key of an authority is looked at as that of a server's certificate is.
func TestWeakKeysAreNotSigned(t *testing.T) {
	r := newRoom(t)
	r.root(ca.NewIssuer{})
	p, q := prime(t, 1024), prime(t, 1024)
	next := new(big.Int).Set(p)
	for next.Add(next, big.NewInt(2)); !invertible(next) || !next.ProbablyPrime(20); {
		next.Add(next, big.NewInt(2))
	}
	broken := func(a int64) *big.Int { // a prime of the broken generator: k*M + 65537^a mod M
		m := big.NewInt(1)
		for n := int64(2); n <= 701; n++ {
			if big.NewInt(n).ProbablyPrime(20) {
				m.Mul(m, big.NewInt(n))
			}
		}
		base := new(big.Int).Exp(big.NewInt(65537), big.NewInt(a), m)
		for k := new(big.Int).Lsh(big.NewInt(3), uint(1022-m.BitLen())); ; k.Add(k, big.NewInt(1)) {
			if c := new(big.Int).Add(new(big.Int).Mul(k, m), base); c.ProbablyPrime(20) && new(big.Int).Mod(c, big.NewInt(65537)).Int64() != 1 {
				return c
			}
		}
	}
	for what, test := range map[string]struct {
		key    rsaSigner
		reason string
	}{
		"close primes": {newRSASigner(t, p, next, 65537), "Fermat"},
		"ROCA":         {newRSASigner(t, broken(12345), broken(54321), 65537), "ROCA"},
		"small factor": {newRSASigner(t, big.NewInt(7919), prime(t, 2035), 65537), "small factor"},
		"exponent":     {newRSASigner(t, p, q, 3), "exponent 3"},
		"size":         {newRSASigner(t, prime(t, 512), prime(t, 512), 65537), "RSA key of 1024 bits"},
	} {
		_, err := r.ceremony().Sign(t.Context(), requestOf(t, "Issuing CA", test.key), ca.NewIssuer{})
		t.Log(what)
		refusedFor(t, err, "csr", test.reason)
	}
	if _, err := r.ceremony().Sign(t.Context(), requestOf(t, "Issuing CA", newRSASigner(t, p, q, 65537)), ca.NewIssuer{}); err != nil {
		t.Errorf("a key that is not weak: %v", err)
	}
}

// A list of weak keys that is brought is heeded, whatever is certified, and the record names it.
func TestAListOfWeakKeysIsHeeded(t *testing.T) {
	r, other := newRoom(t), newRoom(t)
	r.root(ca.NewIssuer{})
	other.root(ca.NewIssuer{Subject: ca.Subject{CommonName: "Ceremony Root 2"}})
	crossed, err := os.ReadFile(filepath.Join(other.dir, "root.pem"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := keys.Generate(keys.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	left, err := keys.Generate(keys.ECDSAP384)
	if err != nil {
		t.Fatal(err)
	}
	otherKey, err := other.keys.Open(t.Context(), "memory:root")
	if err != nil {
		t.Fatal(err)
	}
	spki, err := pki.HashPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	list := ceremony.Input{Name: "weak", Data: []byte("# known\n" + spki.String() + " printed in a manual\n" + pki.HashKeyMaterial(otherKey.Public()).String() + "\n" + pki.HashKeyMaterial(left.Public()).String() + " of a bad token\n")}
	bring := func(c *ceremony.Config) { c.WeakKeys = list }

	r.change = bring
	_, err = r.ceremony().Sign(t.Context(), requestOf(t, "Issuing CA", key), ca.NewIssuer{})
	refusedFor(t, err, "csr", "printed in a manual")
	_, err = r.ceremony().CrossSign(t.Context(), ceremony.Input{Name: "root-2.pem", Data: crossed}, 0)
	refusedFor(t, err, "certificate", "the key is on the list of weak keys")
	result, err := r.ceremony().Sign(t.Context(), request(t, "Issuing CA"), ca.NewIssuer{})
	if err != nil {
		t.Fatal(err)
	}
	record, err := os.ReadFile(result.Record)
	if err != nil {
		t.Fatal(err)
	}
	if digest := sha256.Sum256(list.Data); !bytes.Contains(record, []byte(hex.EncodeToString(digest[:]))) || !bytes.Contains(record, []byte(`{"name":"keys","value":"3"}`)) {
		t.Errorf("the record does not name the list: %s", record)
	}
	if v := r.verified(result); !v.Good {
		t.Errorf("%+v", v)
	}

	// The root's own key, which a ceremony that broke off left; and the root that is open already.
	third := newRoom(t)
	third.keys.(memory)["memory:root"] = &keys.Key{Signer: left, URI: "memory:root"}
	third.change = bring
	_, err = third.ceremony().Root(t.Context(), ca.NewIssuer{Label: "root", Subject: ca.Subject{CommonName: "Ceremony Root 3"}, BaseURL: "http://pki.test"})
	refusedFor(t, err, "csr", "of a bad token")
	other.change = bring
	_, err = other.ceremony().Sign(t.Context(), request(t, "Issuing CA"), ca.NewIssuer{})
	refusedFor(t, err, "certificate", "the key is on the list of weak keys")

	r.change = nil
	if _, err := r.ceremony().Sign(t.Context(), requestOf(t, "Issuing CA 2", key), ca.NewIssuer{}); err != nil {
		t.Errorf("without the list: %v", err)
	}
	list.Data = []byte("hello\n")
	r.change = bring
	if _, err := ceremonyOf(r); pki.KindOf(err) != pki.KindInvalid || !strings.Contains(err.Error(), "line 1") {
		t.Errorf("a list of something else: %v", err)
	}
}

// What was revoked because somebody else has its key is not certified again under another name; what was revoked for another reason may be.
func TestACompromisedKeyIsNotSignedAgain(t *testing.T) {
	r := newRoom(t)
	r.root(ca.NewIssuer{})
	revoke := func(key crypto.Signer, name string, reason pki.Reason, byFile bool) {
		t.Helper()
		signed, err := r.ceremony().Sign(t.Context(), requestOf(t, name, key), ca.NewIssuer{})
		if err != nil {
			t.Fatal(err)
		}
		revocation := ceremony.Revocation{Reason: reason}
		if byFile {
			revocation.Certificate.Data, err = os.ReadFile(signed.Product)
		} else {
			revocation.Serial, err = pki.ParseSerial(signed.Serial)
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.ceremony().List(t.Context(), ceremony.ListRequest{Revoke: []ceremony.Revocation{revocation}}); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		reason pki.Reason
		byFile bool
		again  bool
	}{{pki.KeyCompromise, false, false}, {pki.KeyCompromise, true, false}, {pki.CACompromise, true, false}, {pki.Superseded, true, true}, {pki.Unspecified, false, true}} {
		key, err := keys.Generate(keys.ECDSAP256)
		if err != nil {
			t.Fatal(err)
		}
		name := "Issuing CA " + test.reason.String()
		revoke(key, name, test.reason, test.byFile)
		_, err = r.ceremony().Sign(t.Context(), requestOf(t, name+" again", key), ca.NewIssuer{})
		if test.again {
			if err != nil {
				t.Errorf("after %s: %v", test.reason, err)
			}
			continue
		}
		refusedFor(t, err, "csr", "the key is blocked")
	}

	path := filepath.Join(r.dir, "ceremony.json")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(text, []byte(`"revoked"`))
	at += bytes.Index(text[at:], []byte(`"key": "`)) + len(`"key": "`)
	text[at] = 'x'
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ceremonyOf(r); pki.KindOf(err) != pki.KindInvalid || !strings.Contains(err.Error(), path) {
		t.Errorf("a state with half a key: %v", err)
	}
}

func otherRoot(t *testing.T) ceremony.Input {
	other := newRoom(t)
	text, err := os.ReadFile(other.root(ca.NewIssuer{Subject: ca.Subject{CommonName: "Other Root"}}).Product)
	if err != nil {
		t.Fatal(err)
	}
	return ceremony.Input{Name: "other.pem", Data: text}
}

// Whatever is changed in a record, its pages or its product is found.
func TestAlteredRecordsAreFound(t *testing.T) {
	r := newRoom(t)
	r.root(ca.NewIssuer{})
	signed, err := r.ceremony().Sign(t.Context(), request(t, "Issuing CA"), ca.NewIssuer{})
	if err != nil {
		t.Fatal(err)
	}
	bad := func(what, path string, change func([]byte) []byte) {
		t.Helper()
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		write := func(text []byte) {
			if err := os.WriteFile(path, text, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		write(change(bytes.Clone(text)))
		if v, err := ceremony.Verify(signed.Record); err == nil && v.Good && v.Digest == signed.Digest {
			t.Errorf("%s: nobody noticed", what)
		}
		write(text)
	}
	text, err := os.ReadFile(signed.Record)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(text, []byte("\n"))
	lines = lines[:len(lines)-1]
	for i := range lines {
		bad("a line is gone", signed.Record, func([]byte) []byte { return bytes.Join(slices.Delete(slices.Clone(lines), i, i+1), nil) })
		bad("a line is altered", signed.Record, func(text []byte) []byte {
			return bytes.Replace(text, lines[i][:len(lines[i])-3], append(lines[i][:len(lines[i])-4:len(lines[i])-4], 'x'), 1)
		})
	}
	bad("the pages are others", signed.Paper, func(text []byte) []byte { return bytes.Replace(text, []byte("Ada"), []byte("Eve"), 1) })
	bad("the product is another", signed.Product, func([]byte) []byte { return otherRoot(t).Data })
	bad("the root behind the product is gone", signed.Product, func(text []byte) []byte { return text[:bytes.Index(text[1:], []byte("-----BEGIN"))+1] })
	// One who rewrites the whole chain has another digest, which is not the one on paper.
	bad("everything is rewritten", signed.Record, func(text []byte) []byte { return rewritten(t, lines, "Ada Lovelace", "Eve") })
	if v, err := ceremony.Verify(signed.Record); err != nil || !v.Good {
		t.Errorf("unaltered: %+v, %v", v, err)
	}
}

// rewritten is a record with another text in it and every digest made anew.
func rewritten(t *testing.T, lines [][]byte, old, young string) (text []byte) {
	t.Helper()
	previous := ""
	for _, line := range lines {
		line = bytes.ReplaceAll(bytes.TrimSuffix(line, []byte("\n")), []byte(old), []byte(young))
		if previous != "" {
			at := bytes.Index(line, []byte(`"previous":"`)) + len(`"previous":"`)
			copy(line[at:], previous)
		}
		digest := sha256.Sum256(line)
		previous = hex.EncodeToString(digest[:])
		text = append(append(text, line...), '\n')
	}
	return text
}

// The pages fit paper: 78 columns, 60 lines.
func TestPagesFit(t *testing.T) {
	r := newRoom(t)
	r.change = func(c *ceremony.Config) {
		c.Present = append(c.Present, strings.Repeat("Ünïcödé ", 20), "a\x1b[31m\fb\u202e\u2028")
		c.Place = strings.Repeat("x", 200)
	}
	text, err := os.ReadFile(r.root(ca.NewIssuer{Algorithm: keys.RSA2048}).Paper)
	if err != nil {
		t.Fatal(err)
	}
	pages := strings.Split(string(text), "\f")
	for i, page := range pages {
		lines := strings.Split(strings.TrimSuffix(page, "\n"), "\n")
		if len(lines) != 60 {
			t.Errorf("page %d has %d lines", i+1, len(lines))
		}
		for _, line := range lines {
			if len([]rune(line)) > 78 || strings.ContainsAny(line, "\x1b\r\t\u202e\u2028") {
				t.Errorf("page %d: %q", i+1, line)
			}
		}
	}
	if !strings.Contains(pages[len(pages)-1], "date and place") {
		t.Error("there is no place for signatures")
	}
}
