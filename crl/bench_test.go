package crl_test

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"math/big"
	"runtime"
	"testing"

	"signet.example/signet/crl"
	"signet.example/signet/pki"
)

const million = 1_000_000

func BenchmarkBuild1M(b *testing.B) {
	ca := newAuthority(b, "Benchmark CA", newKey(b))
	arena := filled(million)
	b.Run("signet", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			template := ca.template()
			entries, _ := arena.At(million)
			document, _, err := template.Sign(entries, ca.key)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(document.Size())
		}
	})
	b.Run("stdlib", func(b *testing.B) {
		entries := make([]x509.RevocationListEntry, 0, million)
		for _, r := range revocations(million) {
			entries = append(entries, x509.RevocationListEntry{SerialNumber: r.Serial.Big(), RevocationTime: r.At, ReasonCode: int(r.Reason)})
		}
		template := &x509.RevocationList{Number: big.NewInt(7), ThisUpdate: now, NextUpdate: now.AddDate(0, 0, 3), RevokedCertificateEntries: entries}
		b.ReportAllocs()
		for b.Loop() {
			if _, err := x509.CreateRevocationList(rand.Reader, template, ca.cert, ca.key); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkShardAfterOne is what one revocation costs a shard of 8,000: append, build, sign, and the check before
// publication.
func BenchmarkShardAfterOne(b *testing.B) {
	ca := newAuthority(b, "Benchmark CA", newKey(b))
	arena := filled(8000)
	seq := uint64(8000)
	for b.Loop() {
		seq++
		arena.Add(seq, crl.Revocation{Serial: serial(int(seq)), At: now})
		template := ca.template()
		entries, count := arena.At(seq)
		document, _, err := template.Sign(entries, ca.key)
		if err != nil {
			b.Fatal(err)
		}
		digest := arena.Digest()
		if _, err := crl.Check(document, crl.Want{Template: template, Key: ca.key.Public(), Count: count, Digest: &digest, Now: now}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDeltaAfterReleases is what a revocation costs after an incident in one shard: 16,000 held, half of them released, half revoked.
func BenchmarkDeltaAfterReleases(b *testing.B) {
	const held = 16_000
	var a crl.Arena
	seq := uint64(0)
	change := func(from, to int, do func(seq uint64, r crl.Revocation)) {
		for i := from; i < to; i++ {
			seq++
			do(seq, crl.Revocation{Serial: serial(i), At: now, Reason: pki.CertificateHold})
		}
	}
	change(0, held, a.Add)
	change(0, held/2, func(seq uint64, r crl.Revocation) { a.Remove(seq, r.Serial) })
	change(held/2, held, func(seq uint64, r crl.Revocation) {
		r.Reason = pki.KeyCompromise
		a.Replace(seq, r)
	})
	for b.Loop() {
		if _, count := a.Since(0, seq, now); count != held {
			b.Fatalf("%d entries", count)
		}
	}
}

func BenchmarkRead1M(b *testing.B) {
	ca := newAuthority(b, "Benchmark CA", newKey(b))
	template := ca.template()
	arena := &crl.Arena{}
	for i := range million { // serial, date and, for every other one, a reason
		arena.Add(uint64(i+1), crl.Revocation{Serial: serial(i), At: now, Reason: pki.Reason(i % 2)})
	}
	entries, _ := arena.At(million)
	der, _, err := signBytes(template, entries, ca.key)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(der)))
	b.Run("signet/memory", func(b *testing.B) {
		b.ReportAllocs()
		before := heap()
		var list *crl.List
		for b.Loop() {
			if list, err = crl.Parse(der); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(heap()-before)/1e6, "resident-MB")
		runtime.KeepAlive(list)
	})
	b.Run("signet/stream", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := crl.Read(bytes.NewReader(der), 1<<30); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("stdlib", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := x509.ParseRevocationList(der); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func BenchmarkLookup1M(b *testing.B) {
	ca := newAuthority(b, "Benchmark CA", newKey(b))
	template := ca.template()
	entries, _ := filled(million).At(million)
	der, _, err := signBytes(template, entries, ca.key)
	if err != nil {
		b.Fatal(err)
	}
	list, err := crl.Parse(der)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("hit", func(b *testing.B) {
		i := 0
		for b.Loop() {
			i = (i + 7919) % million
			s := serial(i)
			if _, ok := list.Lookup(s[:], list.Issuer); !ok {
				b.Fatal("absent")
			}
		}
	})
	b.Run("miss", func(b *testing.B) {
		i := million
		for b.Loop() {
			i++
			s := serial(i)
			if _, ok := list.Lookup(s[:], list.Issuer); ok {
				b.Fatal("present")
			}
		}
	})
}

// BenchmarkJudge is the check of one certificate by a base and a delta that are in memory and verified: what a handshake
// pays.
func BenchmarkJudge(b *testing.B) {
	w := newWorld(b)
	target := w.leaf(b, nil, cdp(pointName(uri("http://crl.example/here.crl"))))
	pool := []*crl.List{w.list(b, nil), w.list(b, delta(10, 11))}
	rules := crl.Rules{At: now, Signers: signers(w.ca.cert)}
	b.ReportAllocs()
	for b.Loop() {
		if crl.Judge(target, pool, rules).Status != crl.Unrevoked {
			b.Fatal("not unrevoked")
		}
	}
}
