package crl_test

import (
	"errors"
	"testing"
	"time"

	"signet.example/signet/crl"
	"signet.example/signet/pki"
)

// TestCheck: each rule refuses the list that breaks it and nothing else does.
func TestCheck(t *testing.T) {
	ca := newAuthority(t, "Checked CA", newKey(t))
	arena := filled(9)
	for _, c := range []struct {
		rule  string
		want  func(*crl.Want)
		built func(*crl.Template)
	}{
		{"", nil, nil},
		{"issuer", nil, func(t *crl.Template) { t.Issuer = respeltName }},
		{"issuer", nil, func(t *crl.Template) { t.KeyID = []byte{1} }},
		{"number", func(w *crl.Want) { w.Previous = 7 }, nil},
		{"number", nil, func(t *crl.Template) { t.Number = 8 }},
		{"number", nil, func(t *crl.Template) { t.Base, t.Freshest = 3, nil }},
		{"times", nil, func(t *crl.Template) { t.ThisUpdate = now.Add(-time.Second) }},
		{"times", func(w *crl.Want) { w.Now = now.Add(-time.Second) }, nil},
		{"times", func(w *crl.Want) { w.Now = now.Add(100 * time.Hour) }, nil},
		{"times", func(w *crl.Want) { w.MaxValidity = time.Hour }, nil},
		{"scope", nil, func(t *crl.Template) { t.URLs = nil }},
		{"scope", nil, func(t *crl.Template) { t.URLs, t.UserCerts = nil, false }},
		{"scope", nil, func(t *crl.Template) { t.UserCerts = false }},
		{"scope", func(w *crl.Want) { w.Template.URLs, w.Template.UserCerts = nil, false }, nil},
		{"scope", nil, func(t *crl.Template) { t.Freshest = nil }},
		{"entries", func(w *crl.Want) { w.Count = 8 }, nil},
		{"entries", func(w *crl.Want) {
			other := &crl.Arena{}
			for seq, r := range revocations(9) {
				if seq == 4 {
					r.Reason = pki.CACompromise
				}
				other.Add(seq, r)
			}
			digest := other.Digest()
			w.Digest = &digest
		}, nil},
		{"signature", func(w *crl.Want) { w.Key = newKey(t).Public() }, nil},
	} {
		template := ca.template()
		template.URLs, template.UserCerts, template.Freshest = []string{"http://crl.example/x.crl"}, true, []string{"http://crl.example/d.crl"}
		digest := arena.Digest()
		want := crl.Want{Template: template, Key: ca.key.Public(), Previous: 6, Count: 9, Digest: &digest, Now: now}
		if c.want != nil {
			c.want(&want)
		}
		if c.built != nil {
			c.built(&template)
		}
		entries, _ := arena.At(9)
		der, _, err := signBytes(template, entries, ca.key)
		if err != nil {
			t.Fatal(err)
		}
		_, err = crl.Check(crl.Document{der}, want)
		broken, ok := errors.AsType[*crl.CheckError](err)
		if c.rule == "" && err != nil || c.rule != "" && (!ok || broken.Rule != c.rule) {
			t.Errorf("error is %v, want rule %q", err, c.rule)
		}
	}
	if _, err := crl.Check(crl.Document{{0x30}}, crl.Want{}); err == nil {
		t.Error("octets that are no list pass")
	}
}
