package ca_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"sync"
	"testing"
	"time"

	"signet.example/signet/ca"
	"signet.example/signet/ca/keys"
	"signet.example/signet/ca/policy"
	"signet.example/signet/internal/auth"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
	"signet.example/signet/store"
)

func TestARepeatedRequestIDReturnsTheFirstCertificate(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		w := newTown(t, s)
		instances := []*ca.Authority{w.Authority, w.instance(s), w.instance(s)}
		request := server(t, "a.example.com")
		request.RequestID = "order-17"
		results := make([]*ca.Issued, 12)
		var wg sync.WaitGroup
		for i := range results {
			wg.Go(func() {
				var err error
				if results[i], err = w.issue(instances[i%3], request); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		first := 0
		for _, issued := range results {
			if !bytes.Equal(issued.DER, results[0].DER) || len(issued.Chain) != 1 {
				t.Errorf("two certificates for one request id: %s and %s", issued.Serial, results[0].Serial)
			}
			if !issued.Repeated {
				first++
			}
		}
		if first != 1 {
			t.Errorf("%d calls say they were the first", first)
		}
		other := server(t, "b.example.com")
		other.RequestID = "order-17"
		_, err := w.issue(instances[1], other)
		wantError(t, err, pki.KindConflict, "request_id")
		if _, err := w.Issue(t.Context(), w.grant(admin, auth.ActionIssue, "server"), other); err != nil {
			t.Errorf("another account's id: %v", err)
		}
		for _, a := range instances {
			if err := a.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		readBooks(t, s).check(t, w.Issuers())
	})
}

func TestBlockedAndWeakKeysAreRefused(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		w := newTown(t, s)
		key := newKey(t)
		spki, err := pki.HashPublicKey(key.Public())
		if err != nil {
			t.Fatal(err)
		}
		request := ca.Request{Profile: "server", CSR: csr(t, key, "a.example.com")}
		w.mustIssue(request)
		block := revocation.KeyBlock{SPKI: spki, Material: pki.HashKeyMaterial(key.Public()), Proof: "word"}
		if _, _, err := s.BlockKey(t.Context(), block, revocation.Job{ID: revocation.JobID{1}, Principal: admin}, time.Now(), 100, 0); err != nil {
			t.Fatal(err)
		}
		for range 2 { // the first is stopped while recording, the second before anything is signed
			_, err = w.issue(w.Authority, request)
			wantError(t, err, pki.KindRefused, "csr")
		}
		if err := w.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		b := readBooks(t, s)
		b.check(t, w.Issuers())
		if len(b.void) != 1 {
			t.Errorf("%d void, want the one that was signed", len(b.void))
		}
		again := w.instance(s) // knows of the block from the start
		_, err = w.issue(again, request)
		wantError(t, err, pki.KindRefused, "csr")

		weakKey := newKey(t)
		weak, err := ca.New(t.Context(), ca.Config{Profiles: w.profiles, Keys: w.keys, Issuers: s, Ranges: s, Certificates: s, Inventory: s, Audit: s,
			WeakKeys: policy.WeakKeys{pki.HashKeyMaterial(weakKey.Public()): "printed in a manual"}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.issue(weak, ca.Request{Profile: "server", CSR: csr(t, weakKey, "a.example.com")})
		wantError(t, err, pki.KindRefused, "csr")

		// Nor is a CA taken that has such a key, or is below one.
		template := &x509.Certificate{SerialNumber: big.NewInt(5), Subject: pkix.Name{CommonName: "Weak"}, NotBefore: w.clock.Now().Add(-time.Hour), NotAfter: w.clock.Now().Add(time.Hour),
			IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
		root, err := x509.CreateCertificate(rand.Reader, template, template, weakKey.Public(), weakKey)
		if err != nil {
			t.Fatal(err)
		}
		below := *template
		below.Subject.CommonName = "Below"
		issuing, err := x509.CreateCertificate(rand.Reader, &below, template, newKey(t).Public(), weakKey)
		if err != nil {
			t.Fatal(err)
		}
		_, err = weak.AdoptIssuer(t.Context(), w.manage(), ca.Adoption{Label: "weak", BaseURL: "http://pki.test", DER: root})
		wantError(t, err, pki.KindRefused, "certificate")
		_, err = weak.AdoptIssuer(t.Context(), w.manage(), ca.Adoption{Label: "weak", BaseURL: "http://pki.test", DER: issuing, Chain: [][]byte{root}})
		wantError(t, err, pki.KindRefused, "chain")
		_, err = weak.ImportIssuerCertificate(t.Context(), w.manage(), ca.IssuerImport{DER: issuing, Chain: [][]byte{root}})
		wantError(t, err, pki.KindRefused, "chain")
		if _, err := w.AdoptIssuer(t.Context(), w.manage(), ca.Adoption{Label: "weak", BaseURL: "http://pki.test", DER: issuing, Chain: [][]byte{root}}); err != nil {
			t.Errorf("where no key is on the list: %v", err)
		}
		if err := weak.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// faults fail a call, before or after it happened.
type faults struct {
	store.Store
	mu     sync.Mutex
	record string // "before" or "after"
	close  string
}

var errFault = &pki.Error{Kind: pki.KindUnavailable, Op: "test", Err: errors.New("the connection broke")}

func (f *faults) fault(which *string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	fault := *which
	*which = ""
	return fault
}

func (f *faults) Record(ctx context.Context, owner ca.OwnerID, entries []ca.Entry) ([]ca.Outcome, error) {
	switch f.fault(&f.record) {
	case "before":
		return nil, errFault
	case "after":
		if _, err := f.Store.Record(ctx, owner, entries); err != nil {
			return nil, err
		}
		return nil, errFault
	}
	return f.Store.Record(ctx, owner, entries)
}

func (f *faults) CloseRange(ctx context.Context, c ca.Closing) (int, error) {
	switch f.fault(&f.close) {
	case "before":
		return 0, errFault
	case "after":
		if _, err := f.Store.CloseRange(ctx, c); err != nil {
			return 0, err
		}
		return 0, errFault
	}
	return f.Store.CloseRange(ctx, c)
}

// Faults come in pairs: failed, and failed but happened. Nothing is released either way, a repeat with the same request
// id gets what was recorded if it was, and at the end every index is accounted for.
func TestTheDatabaseFailsBetweenSigningAndRecording(t *testing.T) {
	for _, fault := range []string{"before", "after"} {
		for _, closing := range []string{"", "before", "after"} {
			t.Run(fmt.Sprintf("record %s, close %s", fault, closing), func(t *testing.T) {
				testdb.Each(t, func(t *testing.T, s store.Store) {
					f := &faults{Store: s}
					w := newTown(t, f)
					w.mustIssue(server(t, "a.example.com"))
					request := server(t, "b.example.com")
					request.RequestID = "r1"
					f.record, f.close = fault, closing
					if issued, err := w.issue(w.Authority, request); issued != nil || pki.KindOf(err) != pki.KindUnavailable {
						t.Fatalf("released %v, %v", issued, err)
					}
					issued := w.mustIssue(request)
					if issued.Repeated != (fault == "after") {
						t.Errorf("repeated: %v", issued.Repeated)
					}
					if err := w.Close(t.Context()); (err != nil) != (closing != "") {
						t.Errorf("close: %v", err)
					}
					if err := w.Close(t.Context()); err != nil {
						t.Errorf("close again: %v", err)
					}
					b := readBooks(t, s)
					b.check(t, w.Issuers())
					if want := map[string]int{"before": 1, "after": 0}[fault]; len(b.void) != want {
						t.Errorf("%d void, want %d", len(b.void), want)
					}
					for _, r := range b.ranges {
						if r.State == revocation.RangeOpen {
							t.Errorf("open: %+v", r)
						}
					}
				})
			})
		}
	}
}

func TestManyCallersShareTransactions(t *testing.T) {
	testdb.Each(t, func(t *testing.T, s store.Store) {
		counted := &countingStore{Store: s}
		w := newTown(t, counted)
		grant := w.grant(web, auth.ActionIssue, "server")
		requests := make([]ca.Request, 8)
		for i := range requests {
			requests[i] = server(t, fmt.Sprintf("n%d.example.com", i))
		}
		const callers, each = 32, 10
		seen := make(map[pki.Serial]bool)
		var mu sync.Mutex
		var wg sync.WaitGroup
		for i := range callers {
			wg.Go(func() {
				for range each {
					issued, err := w.Issue(t.Context(), grant, requests[i%8])
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					if seen[issued.Serial] {
						t.Errorf("serial %s twice", issued.Serial)
					}
					seen[issued.Serial] = true
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if err := w.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		b := readBooks(t, s)
		b.check(t, w.Issuers())
		if len(b.recorded) != callers*each+2 || len(b.void) != 0 {
			t.Errorf("%d recorded, %d void", len(b.recorded), len(b.void))
		}
		signatures := make(map[string]uint64)
		for _, key := range w.keys.Usage() {
			signatures[key.URI] = key.Purposes[keys.ForCertificate].Signatures
			if key.Queued != 0 || key.Failing != nil {
				t.Errorf("somebody waits, or it fails: %+v", key)
			}
		}
		if signatures["memory:root"] != 2 || signatures["memory:issuing"] != callers*each {
			t.Errorf("the keys made %v signatures", signatures)
		}
		if counted.calls >= callers*each {
			t.Errorf("%d transactions for %d certificates", counted.calls, callers*each)
		}
		t.Logf("%d transactions for %d certificates", counted.calls, callers*each)
	})
}

type countingStore struct {
	store.Store
	mu    sync.Mutex
	calls int
}

func (c *countingStore) Record(ctx context.Context, owner ca.OwnerID, entries []ca.Entry) ([]ca.Outcome, error) {
	c.mu.Lock()
	c.calls++
	c.mu.Unlock()
	return c.Store.Record(ctx, owner, entries)
}
