package storetest

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"signet.example/signet/crl"
	"signet.example/signet/crl/crlserver"
	"signet.example/signet/internal/audit"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
	"signet.example/signet/store"
)

func testPublication(t *testing.T, open func(t *testing.T) store.Store) {
	shard := crlserver.Series{Issuer: pki.IssuerID{1}, Shard: pki.Shard{Epoch: 400, Block: 2}, Sharded: true}
	whole := crlserver.Series{Issuer: pki.IssuerID{1}}
	a, b := revocation.InstanceID{1}, revocation.InstanceID{2}

	begin := func(t *testing.T, s store.Store, series crlserver.Series, owner revocation.InstanceID, lease time.Duration) uint64 {
		t.Helper()
		number, ok, err := s.BeginPublication(t.Context(), series, owner, math.MaxInt64, lease)
		if err != nil || !ok {
			t.Fatalf("begin: %t, %v", ok, err)
		}
		return number
	}
	head := func(series crlserver.Series, kind crlserver.Kind, number, seq uint64) crlserver.Head {
		return crlserver.Head{List: crlserver.List{Series: series, Kind: kind}, Number: number, Seq: seq, From: 399,
			ThisUpdate: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC), NextUpdate: time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC),
			Base: 3, BaseSeq: 9, BaseUpdate: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC), URLs: []string{"http://a.example/x.crl", "http://b.example/x.crl"}, Freshest: []string{"http://a.example/d.crl"},
			Signature: crl.Signature{Algorithm: "\x30\x00", Value: []byte{1, 2}}, Sum: [32]byte{7}, Size: 1 << 33, Entries: 5, Final: true}
	}
	heads := func(t *testing.T, s store.Store, since time.Time) []crlserver.Head {
		t.Helper()
		all, _, err := s.PublicationHeads(t.Context(), since)
		if err != nil {
			t.Fatal(err)
		}
		return all
	}

	t.Run("round trip", func(t *testing.T) {
		s := open(t)
		number := begin(t, s, whole, a, time.Minute)
		first := []crlserver.Head{head(whole, crlserver.KindComplete, number, 4), head(whole, crlserver.KindDelta, number, 4)}
		if err := s.FinishPublication(t.Context(), a, whole, number, first, map[int][]byte{1: {0x30, 1}}); err != nil {
			t.Fatal(err)
		}
		number = begin(t, s, shard, b, time.Minute)
		second := head(shard, crlserver.KindShard, number, 4)
		second.URLs, second.Freshest = nil, nil
		if err := s.FinishPublication(t.Context(), b, shard, number, []crlserver.Head{second}, nil); err != nil {
			t.Fatal(err)
		}
		second.URLs, second.Freshest = []string{}, []string{}
		if diff := cmp.Diff(append(slices.Clone(first), second), heads(t, s, time.Time{})); diff != "" {
			t.Errorf("heads (-want +got):\n%s", diff)
		}
		_, at, err := s.PublicationHeads(t.Context(), time.Time{})
		if err != nil || len(heads(t, s, at.Add(-time.Minute))) != 3 {
			t.Errorf("what was published just now is not read a minute before %s (%v)", at, err)
		}
		if got := heads(t, s, at.Add(time.Hour)); len(got) != 0 {
			t.Errorf("heads from the future: %v", got)
		}
		if der, err := s.PublicationBytes(t.Context(), first[1].List, first[1].Number); err != nil || string(der) != "\x30\x01" {
			t.Errorf("octets are %x, %v", der, err)
		}
		for _, absent := range []crlserver.Head{first[0], {List: first[1].List, Number: 99}} {
			if _, err := s.PublicationBytes(t.Context(), absent.List, absent.Number); pki.KindOf(err) != pki.KindNotFound {
				t.Errorf("octets that were not kept: %v", err)
			}
		}
		if err := s.ForgetPublication(t.Context(), second.List, second.Number+1); err != nil || len(heads(t, s, time.Time{})) != 3 {
			t.Errorf("forgot a list of another number (%v)", err)
		}
		if err := s.ForgetPublication(t.Context(), second.List, second.Number); err != nil || len(heads(t, s, time.Time{})) != 2 {
			t.Errorf("did not forget (%v)", err)
		}
		if again := begin(t, s, shard, a, time.Minute); again <= number {
			t.Errorf("number %d after %d: forgetting a list forgot its numbers", again, number)
		}
	})

	t.Run("fence", func(t *testing.T) {
		s := open(t)
		finish := func(owner revocation.InstanceID, number, seq uint64) error {
			return s.FinishPublication(t.Context(), owner, shard, number, []crlserver.Head{head(shard, crlserver.KindShard, number, seq)}, nil)
		}
		n1 := begin(t, s, shard, a, time.Minute)
		if _, ok, err := s.BeginPublication(t.Context(), shard, b, 0, time.Minute); ok || err != nil {
			t.Fatalf("b took the lease of a: %t, %v", ok, err)
		}
		if err := finish(b, n1, 5); !errors.Is(err, crlserver.ErrFenced) || pki.KindOf(err) != pki.KindConflict {
			t.Fatalf("b finished with the number of a: %v", err)
		}
		n2 := begin(t, s, shard, a, 0) // a begins again, and its lease is over at once
		if err := finish(a, n1, 5); !errors.Is(err, crlserver.ErrFenced) {
			t.Fatalf("a finished with a number that it gave up: %v", err)
		}
		n3 := begin(t, s, shard, b, time.Minute)
		if n1 >= n2 || n2 >= n3 {
			t.Fatalf("numbers %d, %d, %d do not grow", n1, n2, n3)
		}
		if err := finish(a, n2, 5); !errors.Is(err, crlserver.ErrFenced) {
			t.Fatalf("a finished after b began: %v", err)
		}
		if err := finish(b, n3, 6); err != nil {
			t.Fatal(err)
		}
		n4 := begin(t, s, shard, a, time.Minute)
		if err := finish(a, n4, 5); !errors.Is(err, crlserver.ErrFenced) {
			t.Fatalf("a larger number with an older ledger: %v", err)
		}
		if got := heads(t, s, time.Time{}); len(got) != 1 || got[0].Number != n3 || got[0].Seq != 6 {
			t.Fatalf("published is %+v", got)
		}
		if err := finish(a, n4, 6); err != nil {
			t.Fatalf("the refusal took the lease away: %v", err)
		}
		if err := finish(a, n4, 6); !errors.Is(err, crlserver.ErrFenced) {
			t.Fatalf("a number was published twice: %v", err)
		}
		n5 := begin(t, s, shard, a, time.Minute)
		if err := s.FinishPublication(t.Context(), a, shard, n5, nil, nil); err != nil {
			t.Fatal(err)
		}
		begin(t, s, shard, b, time.Minute)             // a gave the lease back
		for _, seen := range []uint64{0, n4 - 1, n4} { // n4 is published
			if _, ok, err := s.BeginPublication(t.Context(), shard, b, seen, time.Minute); err != nil || ok != (seen == n4) {
				t.Fatalf("number %d is published, and who has seen %d begins: %t, %v", n4, seen, ok, err)
			}
		}
	})

	t.Run("import", func(t *testing.T) {
		s := open(t)
		bring := func(number, seq uint64) error {
			h := head(whole, crlserver.KindComplete, number, seq)
			h.Expired = []pki.Serial{{byte(number)}, {19: 0xff}}
			event := audit.Event{At: time.Now(), Actor: "token:admin", Action: "crl.import", Target: "issuer", Outcome: audit.OK, Detail: map[string]string{"number": fmt.Sprint(number)}}
			return s.ImportPublication(t.Context(), h, []byte{0x30, byte(number)}, event)
		}
		for _, step := range []struct {
			number, seq uint64
			fenced      bool
		}{{7, 4, false}, {7, 4, true}, {6, 9, true}, {8, 3, true}, {9, 4, false}} {
			if err := bring(step.number, step.seq); errors.Is(err, crlserver.ErrFenced) != step.fenced || (err != nil) != step.fenced {
				t.Fatalf("number %d of sequence %d: %v", step.number, step.seq, err)
			}
		}
		got := heads(t, s, time.Time{})
		if len(got) != 1 || got[0].Number != 9 || got[0].Entries != 5 || len(got[0].Signature.Value) != 0 || got[0].Base != 0 ||
			!slices.Equal(got[0].Expired, []pki.Serial{{9}, {19: 0xff}}) {
			t.Fatalf("published is %+v", got)
		}
		if err := s.ForgetPublication(t.Context(), got[0].List, 9); err != nil {
			t.Fatal(err)
		}
		if err := bring(9, 4); !errors.Is(err, crlserver.ErrFenced) {
			t.Fatalf("the number of a list that was forgotten is used again: %v", err)
		}
		if err := bring(10, 4); err != nil {
			t.Fatal(err)
		}
		if der, err := s.PublicationBytes(t.Context(), got[0].List, 10); err != nil || string(der) != "\x30\x0a" {
			t.Fatalf("octets are %x, %v", der, err)
		}
		events, err := s.AuditEvents(t.Context(), audit.Filter{Action: "crl.import"}, 0, 10)
		if err != nil || len(events) != 3 || events[1].Detail["number"] != "9" {
			t.Fatalf("audit: %+v, %v", events, err)
		}
	})

	t.Run("both or none", func(t *testing.T) {
		s := open(t)
		number := begin(t, s, whole, a, time.Minute)
		if err := s.FinishPublication(t.Context(), a, whole, number, []crlserver.Head{head(whole, crlserver.KindDelta, number, 9)}, nil); err != nil {
			t.Fatal(err)
		}
		number = begin(t, s, whole, a, time.Minute)
		err := s.FinishPublication(t.Context(), a, whole, number, []crlserver.Head{head(whole, crlserver.KindComplete, number, 8), head(whole, crlserver.KindDelta, number, 8)}, nil)
		if !errors.Is(err, crlserver.ErrFenced) || len(heads(t, s, time.Time{})) != 1 {
			t.Fatalf("one of two lists was stored (%v)", err)
		}
	})
}
