package crl_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"io"
	"testing"

	"signet.example/signet/crl"
	"signet.example/signet/pki"
)

// TestDraft: a list that is issued again and again as it grows, shrinks and changes is every time the list that a stranger reads, with
// every kind of key, whatever of it was read back before.
func TestDraft(t *testing.T) {
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for i, key := range []crypto.Signer{newKey(t), p384, rsaKey, edwards} {
		many := []int{24_000, 300, 300, 300}[i] // the first: more than a chunk
		ca := newAuthority(t, "Issuing CA", key)
		arena, seen, seq := &crl.Arena{}, &crl.Seen{}, uint64(0)
		steps := []struct {
			name   string
			do     func()
			unseen int // entries to be read, -1: all
		}{
			{"nothing", func() {}, 0},
			{"the first", func() { seq++; arena.Add(seq, crl.Revocation{Serial: serial(1), At: now}) }, 1},
			{"one more", func() { seq++; arena.Add(seq, crl.Revocation{Serial: serial(2), At: now, Reason: pki.CertificateHold}) }, -1}, // the chunk may have grown
			{"the same", func() {}, 0},
			{"many", func() {
				for range many {
					seq++
					arena.Add(seq, crl.Revocation{Serial: serial(int(seq)), At: now, Reason: pki.Reason(seq % 2)})
				}
			}, -1},
			{"one behind many", func() { seq++; arena.Add(seq, crl.Revocation{Serial: serial(int(seq)), At: now}) }, 1},
			{"a release", func() { seq++; arena.Remove(seq, serial(2)) }, -1},
			{"one behind a release", func() { seq++; arena.Add(seq, crl.Revocation{Serial: serial(int(seq)), At: now}) }, 1},
		}
		for n, step := range steps {
			step.do()
			template := ca.template()
			template.Number = uint64(7 + n)
			entries, count := arena.At(seq)
			digest := arena.Digest()
			unseen := 0
			for range seen.Unseen(entries).Serials() {
				unseen++
			}
			if step.unseen >= 0 && unseen != step.unseen {
				t.Errorf("%T, %s: %d entries are to be read back, want %d", key, step.name, unseen, step.unseen)
			}
			draft, err := template.Draft(entries, crl.Want{Template: template, Key: key.Public(), Previous: uint64(6 + n), Count: count, Digest: &digest, Now: now}, seen)
			if err != nil {
				t.Fatalf("%T, %s: %v", key, step.name, err)
			}
			issued, err := draft.Sign(key)
			if err != nil {
				t.Fatalf("%T, %s: %v", key, step.name, err)
			}
			der := issued.Document.Bytes()
			list, err := crl.Parse(der)
			if err != nil {
				t.Fatal(err)
			}
			if err := list.Verify(ca.cert); err != nil || list.Len() != count || list.Digest() != digest || issued.Entries != count {
				t.Fatalf("%T, %s: %d entries, want %d (%v)", key, step.name, list.Len(), count, err)
			}
			again, err := template.Assemble(entries, issued.Signature)
			if err != nil || string(again.Bytes()) != string(der) || again.Sum() != issued.Sum || (crl.Document{der}).Sum() != issued.Sum {
				t.Fatalf("%T, %s: who rebuilds the list gets other octets, or another sum (%v)", key, step.name, err)
			}
			for _, at := range []int{len(der) / 2, len(der) - 1} { // of what is signed, and of the signature
				der[at] ^= 1
				if (crl.Document{der}).Sum() == issued.Sum {
					t.Errorf("%T, %s: octet %d is not in the sum", key, step.name, at)
				}
				der[at] ^= 1
			}
		}
	}
}

// falseSigner signs something else.
type falseSigner struct{ crypto.Signer }

func (s falseSigner) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return s.Signer.Sign(random, make([]byte, len(digest)), opts)
}

// TestDraftRefuses: what is not as it should be is not signed, or not given out, however much of it was read back before.
func TestDraftRefuses(t *testing.T) {
	ca := newAuthority(t, "Refusing CA", newKey(t))
	arena := filled(1000)
	entries, _ := arena.At(1000)
	seen := &crl.Seen{}
	digest := arena.Digest()
	issue := func(entries crl.Entries, count int, signer crypto.Signer) string {
		template := ca.template()
		draft, err := template.Draft(entries, crl.Want{Template: template, Key: ca.key.Public(), Count: count, Digest: &digest, Now: now}, seen)
		if err == nil {
			_, err = draft.Sign(signer)
		}
		broken, ok := errors.AsType[*crl.CheckError](err)
		if err != nil && !ok {
			t.Fatal(err)
		}
		if err == nil {
			return ""
		}
		return broken.Rule
	}
	for _, c := range []struct {
		name    string
		entries crl.Entries
		count   int
		signer  crypto.Signer
		rule    string
	}{
		{"what is right", entries, 1000, ca.key, ""},
		{"a wrong count", entries, 1001, ca.key, "entries"},
		{"an entry twice", append(entries[:len(entries):len(entries)], entries[0][:2+int(entries[0][1])]), 1000, ca.key, "entries"},
		{"an entry too few", crl.Entries{entries[0][2+int(entries[0][1]):]}, 1000, ca.key, "entries"},
		{"no entry behind what was seen", append(entries[:len(entries):len(entries)], []byte{0x30, 2, 2, 0}), 1000, ca.key, "parse"},
		{"another signature", entries, 1000, falseSigner{ca.key}, "signature"},
		{"another key", entries, 1000, newKey(t), "signature"},
		{"what is right, still", entries, 1000, ca.key, ""},
	} {
		if rule := issue(c.entries, c.count, c.signer); rule != c.rule {
			t.Errorf("%s: rule %q, want %q", c.name, rule, c.rule)
		}
	}
}
