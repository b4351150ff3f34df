package ca_test

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"net"
	"reflect"
	"slices"
	"testing"
	"time"

	"signet.example/signet/ca"
	"signet.example/signet/ca/keys"
	"signet.example/signet/ca/profile"
	"signet.example/signet/internal/audit"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
	"signet.example/signet/store"
)

var (
	plantOnly  = profile.SubtreesConfig{DNS: []string{"plant.example"}, IP: []string{"10.1.0.0/16"}, Email: []string{"plant.example"}, URI: []string{".plant.example"}}
	plantNever = profile.SubtreesConfig{DNS: []string{"secret.plant.example"}, IP: []string{"10.1.9.0/24"}, Email: []string{"boss@plant.example"}, URI: []string{"secret.plant.example"}}
)

func plant(label string) ca.NewIssuer {
	n := newIssuer(label, label+" CA", ca.Issuer{})
	n.Offline, n.PathLength, n.Permitted, n.Excluded = true, new(1), plantOnly, plantNever
	return n
}

func network(t *testing.T, text string) *net.IPNet {
	t.Helper()
	_, n, err := net.ParseCIDR(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// What a parent elsewhere signed is held against the request, which is all that is kept of what was asked for.
func TestAnImportIsHeldAgainstTheRequest(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		w := newTown(t, s)
		pending := w.create(plant("plant"))
		request, err := x509.ParseCertificateRequest(pending.CSR)
		if err != nil {
			t.Fatal(err)
		}
		w.Authority = w.instance(s) // which has it from the database
		key := newKey(t)
		template := func(name string, subject []byte) *x509.Certificate {
			return &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: name}, RawSubject: subject, NotBefore: w.clock.Now().Add(-time.Hour), NotAfter: w.clock.Now().Add(1000 * time.Hour),
				IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
		}
		root, err := x509.CreateCertificate(rand.Reader, template("Elsewhere", nil), template("Elsewhere", nil), key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		sign := func(change func(*x509.Certificate)) []byte {
			c := template("", request.RawSubject)
			c.MaxPathLen, c.PermittedDNSDomainsCritical = 1, true
			c.PermittedDNSDomains, c.PermittedEmailAddresses, c.PermittedURIDomains = plantOnly.DNS, plantOnly.Email, plantOnly.URI
			c.ExcludedDNSDomains, c.ExcludedEmailAddresses, c.ExcludedURIDomains = plantNever.DNS, plantNever.Email, plantNever.URI
			c.PermittedIPRanges, c.ExcludedIPRanges = []*net.IPNet{network(t, "10.1.0.0/16")}, []*net.IPNet{network(t, "10.1.9.0/24")}
			change(c)
			der, err := x509.CreateCertificate(rand.Reader, c, parse(t, root), request.PublicKey, key)
			if err != nil {
				t.Fatal(err)
			}
			return der
		}
		bring := func(der []byte, wider bool) (ca.Issuer, error) {
			return w.ImportIssuerCertificate(t.Context(), w.manage(), ca.IssuerImport{DER: der, Chain: [][]byte{root}, Wider: wider})
		}
		for name, change := range map[string]func(*x509.Certificate){
			"any path length":            func(c *x509.Certificate) { c.MaxPathLen = -1 },
			"a longer path":              func(c *x509.Certificate) { c.MaxPathLen = 2 },
			"any DNS name":               func(c *x509.Certificate) { c.PermittedDNSDomains = nil },
			"another domain":             func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"plant.example", "evil.example"} },
			"any address":                func(c *x509.Certificate) { c.PermittedIPRanges = nil },
			"a larger network":           func(c *x509.Certificate) { c.PermittedIPRanges = []*net.IPNet{network(t, "10.0.0.0/8")} },
			"any mail address":           func(c *x509.Certificate) { c.PermittedEmailAddresses = nil },
			"any URI":                    func(c *x509.Certificate) { c.PermittedURIDomains = nil },
			"names that were excluded":   func(c *x509.Certificate) { c.ExcludedDNSDomains = nil },
			"networks that were":         func(c *x509.Certificate) { c.ExcludedIPRanges = nil },
			"mail addresses that were":   func(c *x509.Certificate) { c.ExcludedEmailAddresses = nil },
			"URIs that were":             func(c *x509.Certificate) { c.ExcludedURIDomains = nil },
			"part of what was excluded":  func(c *x509.Certificate) { c.ExcludedDNSDomains = []string{"very.secret.plant.example"} },
			"what has nothing in common": func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"example.net"} },
		} {
			_, err := bring(sign(change), false)
			if wantError(t, err, pki.KindRefused, "certificate"); t.Failed() {
				t.Fatal(name)
			}
		}
		narrower := sign(func(c *x509.Certificate) {
			c.MaxPathLen, c.MaxPathLenZero = 0, true
			c.PermittedDNSDomains, c.ExcludedDNSDomains = []string{"a.plant.example"}, []string{"plant.example"}
		})
		made, err := bring(narrower, false)
		if err != nil || made.State != ca.IssuerActive {
			t.Fatalf("%+v, %v", made, err)
		}
		// From here on its certificate is what another is held against.
		asked := sign(func(*x509.Certificate) {})
		_, err = bring(asked, false)
		wantError(t, err, pki.KindRefused, "certificate")
		if made, err = bring(asked, true); err != nil || len(made.Certificates) != 2 {
			t.Fatalf("%+v, %v", made, err)
		}
		events, err := s.AuditEvents(t.Context(), audit.Filter{Action: "issuer.certificate"}, 0, 1000)
		if err != nil {
			t.Fatal(err)
		}
		var wider []string
		for _, e := range events {
			if e.Target == "issuer/"+made.ID.String() {
				wider = append(wider, e.Detail["wider"])
			}
		}
		if slices.Sort(wider); !slices.Equal(wider, []string{"", "it allows 1 authorities below it, but 0 were asked for"}) {
			t.Errorf("the audit log says %q", wider)
		}
	})
}

// A request that was made is not changed, for it may be at the parent's; and what it cannot carry is not taken.
func TestTheRequestOfAnOfflineIssuer(t *testing.T) {
	w := newTown(t, testdb.SQLite(t))
	pending := w.create(plant("plant"))
	if again := w.create(plant("plant")); again.ID != pending.ID {
		t.Errorf("the same again made %+v", again)
	}
	for _, change := range []func(*ca.NewIssuer){
		func(n *ca.NewIssuer) { n.PathLength = nil },
		func(n *ca.NewIssuer) { n.PathLength = new(0) },
		func(n *ca.NewIssuer) { n.Permitted.DNS = nil },
		func(n *ca.NewIssuer) { n.Excluded.DNS = []string{"secret.plant.example", "more.plant.example"} },
	} {
		n := plant("plant")
		change(&n)
		_, err := w.CreateIssuer(t.Context(), w.manage(), n)
		wantError(t, err, pki.KindConflict, "label")
	}
	n := plant("other")
	n.Lifetime = time.Hour
	_, err := w.CreateIssuer(t.Context(), w.manage(), n)
	wantError(t, err, pki.KindInvalid, "lifetime")
	n = plant("other")
	n.Excluded.DNS = n.Permitted.DNS
	_, err = w.CreateIssuer(t.Context(), w.manage(), n)
	wantError(t, err, pki.KindRefused, "permitted")
	if key, err := w.keys.Open(t.Context(), w.keys.URI("other")); err == nil {
		t.Errorf("what was refused left %s", key.URI)
	}

	// A parent here decides now, whatever was asked of one elsewhere.
	n = plant("plant")
	n.Offline, n.Parent, n.PathLength, n.Excluded.DNS = false, w.root.ID, new(0), nil
	made := w.create(n)
	if c := parse(t, made.Certificates[0].DER); made.ID != pending.ID || !c.MaxPathLenZero || len(c.ExcludedDNSDomains) != 0 || len(c.PermittedDNSDomains) != 1 {
		t.Errorf("%+v: path length %d, names %v, %v", made, c.MaxPathLen, c.PermittedDNSDomains, c.ExcludedDNSDomains)
	}
}

// An authority here that signs what waits for one elsewhere gives it what it asks for.
func TestCrossSigningWhatIsPending(t *testing.T) {
	w := newTown(t, testdb.SQLite(t))
	for label, test := range map[string]struct {
		said *int
		want int
	}{"nothing-said": {nil, 0}, "none": {new(0), 0}, "two": {new(2), 2}} {
		n := plant(label)
		n.PathLength = test.said
		crossed, err := w.CrossSign(t.Context(), w.manage(), w.create(n).ID, w.root.ID, 0)
		if err != nil {
			t.Fatal(err)
		}
		c := parse(t, crossed.Certificates[0].DER)
		if c.MaxPathLen != test.want || !slices.Equal(c.PermittedDNSDomains, plantOnly.DNS) || !slices.Equal(c.PermittedEmailAddresses, plantOnly.Email) || !slices.Equal(c.PermittedURIDomains, plantOnly.URI) ||
			!slices.Equal(c.ExcludedDNSDomains, plantNever.DNS) || len(c.PermittedIPRanges) != 1 || len(c.ExcludedIPRanges) != 1 {
			t.Errorf("%s: path length %d, %+v", label, c.MaxPathLen, c)
		}
	}
}

var (
	oidBasic = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidNames = asn1.ObjectIdentifier{2, 5, 29, 30}
)

func askedOf(t *testing.T, extensions ...pkix.Extension) (profile.CA, error) {
	t.Helper()
	request, err := x509.ParseCertificateRequest(csrOf(t, newKey(t), &x509.CertificateRequest{Subject: pkix.Name{CommonName: "Below"}, ExtraExtensions: extensions}))
	if err != nil {
		t.Fatal(err)
	}
	return ca.AskedOf(request)
}

func TestWhatRequestsAskFor(t *testing.T) {
	nothing := profile.CA{PathLength: -1}
	for name, test := range map[string]struct {
		extensions []pkix.Extension
		want       profile.CA
		refused    bool
	}{
		"nothing":           {nil, nothing, false},
		"to be no CA":       {[]pkix.Extension{{Id: oidBasic, Value: []byte("\x30\x00")}}, nothing, false},
		"to be a CA":        {[]pkix.Extension{{Id: oidBasic, Value: []byte("\x30\x03\x01\x01\xff")}}, nothing, false},
		"path length 0":     {[]pkix.Extension{{Id: oidBasic, Value: []byte("\x30\x06\x01\x01\xff\x02\x01\x00")}}, profile.CA{}, false},
		"path length 3":     {[]pkix.Extension{{Id: oidBasic, Value: []byte("\x30\x06\x01\x01\xff\x02\x01\x03")}}, profile.CA{PathLength: 3}, false},
		"a domain":          {[]pkix.Extension{{Id: oidNames, Value: []byte("\x30\x0a\xa0\x08\x30\x06\x82\x04.a.b")}}, profile.CA{PathLength: -1, Permitted: profile.Subtrees{DNS: []string{".a.b"}}}, false},
		"no domain":         {[]pkix.Extension{{Id: oidNames, Value: []byte("\x30\x09\xa1\x07\x30\x05\x82\x03a.b")}}, profile.CA{PathLength: -1, Excluded: profile.Subtrees{DNS: []string{"a.b"}}}, false},
		"a registered id":   {[]pkix.Extension{{Id: oidNames, Value: []byte("\x30\x08\xa0\x06\x30\x04\x88\x02\x2a\x03")}}, nothing, true},
		"no constraint":     {[]pkix.Extension{{Id: oidNames, Value: []byte("\x30\x00")}}, nothing, true},
		"what is no DER":    {[]pkix.Extension{{Id: oidNames, Value: []byte("x")}}, nothing, true},
		"a minimum":         {[]pkix.Extension{{Id: oidNames, Value: []byte("\x30\x0c\xa0\x0a\x30\x08\x82\x03a.b\x80\x01\x01")}}, nothing, true},
		"an odd key usage":  {[]pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 15}, Value: []byte("x")}}, nothing, false},
		"something else":    {[]pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte("\x05\x00")}}, nothing, false},
		"a length of no CA": {[]pkix.Extension{{Id: oidBasic, Value: []byte("\x30\x03\x02\x01\x00")}}, profile.CA{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			asked, err := askedOf(t, test.extensions...)
			if test.refused {
				wantError(t, err, pki.KindRefused, "csr")
			} else if err != nil || !reflect.DeepEqual(asked, test.want) {
				t.Errorf("%+v, %v", asked, err)
			}
		})
	}
}

// What is said at a ceremony narrows what the request asks for; it adds nothing.
func TestAProposalGivesNoMoreThanIsAsked(t *testing.T) {
	profiles, err := profile.Open("")
	if err != nil {
		t.Fatal(err)
	}
	offline, err := ca.NewOffline(ca.OfflineConfig{Profiles: profiles})
	if err != nil {
		t.Fatal(err)
	}
	key := &keys.Key{Signer: newKey(t)}
	root, err := offline.ProposeRoot(key, ca.NewIssuer{Label: "root", Subject: ca.Subject{CommonName: "Root"}, BaseURL: "http://pki.test"})
	if err != nil {
		t.Fatal(err)
	}
	der, err := root.Sign()
	if err != nil {
		t.Fatal(err)
	}
	w := newTown(t, testdb.SQLite(t))
	full := w.create(plant("plant")).CSR
	bare := csrOf(t, newKey(t), &x509.CertificateRequest{Subject: pkix.Name{CommonName: "Bare"}})
	dns := func(names ...string) profile.SubtreesConfig { return profile.SubtreesConfig{DNS: names} }
	for name, test := range map[string]struct {
		csr      []byte
		said     ca.NewIssuer
		refused  bool
		narrowed bool
		length   int
		only     []string
		never    []string
	}{
		"nothing said":                     {full, ca.NewIssuer{}, false, false, 1, plantOnly.DNS, plantNever.DNS},
		"the same said":                    {full, ca.NewIssuer{PathLength: new(1), Permitted: plantOnly, Excluded: plantNever}, false, false, 1, plantOnly.DNS, plantNever.DNS},
		"a shorter path":                   {full, ca.NewIssuer{PathLength: new(0)}, false, true, 0, plantOnly.DNS, plantNever.DNS},
		"fewer names":                      {full, ca.NewIssuer{Permitted: dns("a.plant.example")}, false, true, 1, []string{"a.plant.example"}, plantNever.DNS},
		"more that is excluded":            {full, ca.NewIssuer{Excluded: dns("b.plant.example")}, false, true, 1, plantOnly.DNS, []string{"secret.plant.example", "b.plant.example"}},
		"a longer path":                    {full, ca.NewIssuer{PathLength: new(2)}, true, false, 0, nil, nil},
		"other names":                      {full, ca.NewIssuer{Permitted: dns("example")}, true, false, 0, nil, nil},
		"nothing asked":                    {bare, ca.NewIssuer{}, false, false, 0, nil, nil},
		"nothing asked, and a path length": {bare, ca.NewIssuer{PathLength: new(2)}, false, false, 2, nil, nil},
		"nothing asked, and names":         {bare, ca.NewIssuer{Permitted: dns("a.example"), Excluded: dns("b.a.example")}, false, true, 0, []string{"a.example"}, []string{"b.a.example"}},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := offline.ProposeAuthority(ca.OfflineParent{Key: key, Certificate: der, BaseURL: "http://pki.test"}, test.csr, test.said)
			if test.refused {
				wantError(t, err, pki.KindRefused, "csr")
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			signed, err := p.Sign()
			if err != nil {
				t.Fatal(err)
			}
			c := parse(t, signed)
			if p.Narrowed != test.narrowed || c.MaxPathLen != test.length || !slices.Equal(c.PermittedDNSDomains, test.only) || !slices.Equal(c.ExcludedDNSDomains, test.never) {
				t.Errorf("narrowed %t, path length %d, only %v, never %v", p.Narrowed, c.MaxPathLen, c.PermittedDNSDomains, c.ExcludedDNSDomains)
			}
			if full := len(c.PermittedIPRanges) + len(c.ExcludedIPRanges) + len(c.PermittedEmailAddresses) + len(c.ExcludedEmailAddresses) + len(c.PermittedURIDomains) + len(c.ExcludedURIDomains); full != 6 && test.only != nil && test.only[0] != "a.example" {
				t.Errorf("%d subtrees of other kinds: %+v", full, c)
			}
		})
	}
}

// FuzzAskedOf reads constraints that anybody may have written: what is understood can be asked for again, and says the same.
func FuzzAskedOf(f *testing.F) {
	f.Add([]byte("\x30\x06\x01\x01\xff\x02\x01\x00"), []byte("\x30\x0a\xa0\x08\x30\x06\x82\x04.a.b"))
	f.Add([]byte("\x30\x00"), []byte("\x30\x13\xa0\x11\x30\x05\x81\x03a@b\x30\x08\x87\x08\x0a\x00\x00\x00\xff\x00\x00\x00"))
	f.Add([]byte("\x30\x03\x01\x01\xff"), []byte("\x30\x0a\xa1\x08\x30\x06\x86\x04.a.b"))
	spki, err := x509.MarshalPKIXPublicKey(newKey(f).Public())
	if err != nil {
		f.Fatal(err)
	}
	read := func(extensions []pkix.Extension) (profile.CA, error) {
		return ca.AskedOf(&x509.CertificateRequest{RawSubject: []byte{0x30, 0}, RawSubjectPublicKeyInfo: spki, Extensions: extensions})
	}
	f.Fuzz(func(t *testing.T, basic, names []byte) {
		asked, err := read([]pkix.Extension{{Id: oidBasic, Value: basic}, {Id: oidNames, Value: names}})
		if err != nil {
			wantError(t, err, pki.KindRefused, "csr")
			return
		}
		extensions, err := ca.TestingOnlyCAExtensions(&asked)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := read(extensions); err != nil || !reflect.DeepEqual(again, asked) {
			t.Errorf("%+v became %+v, %v", asked, again, err)
		}
	})
}
