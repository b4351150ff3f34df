package crl_test

import (
	"bytes"
	"crypto/x509"
	"testing"

	"signet.example/signet/crl"
)

// FuzzParse: never a panic; memory and stream agree; and what crypto/x509 accepts as well says the same.
func FuzzParse(f *testing.F) {
	ca := newAuthority(f, "Fuzz CA", newKey(f))
	for _, change := range []func(*crl.Template){
		func(*crl.Template) {},
		func(t *crl.Template) { t.URLs, t.UserCerts = []string{"http://crl.example/x.crl"}, true },
		func(t *crl.Template) { t.Base = 3 },
		func(t *crl.Template) { t.Freshest, t.ExpiredSince = []string{"http://crl.example/d.crl"}, now },
	} {
		template := ca.template()
		change(&template)
		entries, _ := filled(8).At(8)
		der, _, err := signBytes(template, entries, ca.key)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(der)
	}
	for left := range 8 {
		f.Add(leaving(ca, left).der(f))
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		ours, err := crl.Parse(der)
		streamed, streamErr := crl.Read(bytes.NewReader(der), 1<<20)
		if (err == nil) != (streamErr == nil) {
			t.Fatalf("memory: %v, stream: %v", err, streamErr)
		}
		if err != nil {
			return
		}
		if ours.Len() != streamed.Len() || ours.Digest() != streamed.Digest() {
			t.Fatal("memory and stream differ")
		}
		for e := range ours.Entries() {
			if _, ok := ours.Lookup(e.Serial, e.Issuer); !ok {
				t.Fatalf("serial %x is listed and not found", e.Serial)
			}
		}
		theirs, err := x509.ParseRevocationList(der)
		if err != nil {
			return
		}
		if ours.Len() != len(theirs.RevokedCertificateEntries) || !bytes.Equal(ours.Issuer, theirs.RawIssuer) || !ours.ThisUpdate.Equal(theirs.ThisUpdate) {
			t.Fatal("crypto/x509 reads another list")
		}
	})
}

// FuzzPoints: never a panic, no point without a name, and no directory name that cannot be compared.
func FuzzPoints(f *testing.F) {
	f.Add(crl.EncodeDistributionPoints("http://crl.example/a.crl", "http://crl.example/b.crl"))
	f.Add(points(cat(relative("x"), pointReasons(6), cRLIssuer(respeltName))))
	f.Fuzz(func(t *testing.T, value []byte) {
		read, err := crl.ParseDistributionPoints(value)
		if err != nil {
			return
		}
		for _, p := range read {
			if p.Names == nil && p.Relative == nil && p.CRLIssuer == nil {
				t.Fatal("a point of nothing")
			}
			for _, name := range append(p.Names, p.CRLIssuer...) {
				if directory := name.Directory(); directory != nil {
					if _, ok := crl.CanonicalName(directory); !ok {
						t.Fatal("a directory name that cannot be compared")
					}
				}
			}
		}
	})
}

// FuzzSameName: never a panic, reflexive and symmetric.
func FuzzSameName(f *testing.F) {
	f.Add(respeltName, respeltName)
	f.Fuzz(func(t *testing.T, a, b []byte) {
		if !crl.SameName(a, a) || crl.SameName(a, b) != crl.SameName(b, a) {
			t.Fatal("not an equivalence")
		}
	})
}

// FuzzCertificate: never a panic, what crypto/x509 reads is read alike, and a target can be made of it or not.
func FuzzCertificate(f *testing.F) {
	w := newWorld(f)
	f.Add(w.ca.cert.Raw)
	f.Add(w.leafDER(f, nil, cdp(relative("x"))))
	f.Add(w.leafDER(f, nil, cdp(pointName(uri("http://crl.example/x.crl"))), extension{oid: []int{2, 5, 29, 127}, value: []byte{5, 0}}))
	f.Fuzz(func(t *testing.T, der []byte) {
		ours, err := crl.ParseCertificate(der)
		theirs, theirErr := x509.ParseCertificate(der)
		if theirErr == nil && (err != nil || !ours.Equal(theirs)) {
			t.Fatalf("crypto/x509 reads it, we do not: %v", err)
		}
		if err != nil {
			return
		}
		if !bytes.Equal(ours.Raw, der) {
			t.Fatal("the octets are others")
		}
		if target, err := crl.NewTarget(ours); err == nil {
			crl.Judge(target, nil, crl.Rules{At: now})
		}
	})
}
