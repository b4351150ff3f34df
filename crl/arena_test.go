package crl_test

import (
	"bytes"
	"testing"
	"time"

	"pgregory.net/rapid"

	"signet.example/signet/crl"
	"signet.example/signet/pki"
)

// model is the dumbest ledger there is: every change ever made.
type model []struct {
	seq    uint64
	serial pki.Serial
	reason pki.Reason
	at     time.Time
	remove bool
}

// state is what is revoked at a sequence.
func (m model) state(seq uint64) map[pki.Serial]pki.Reason {
	state := make(map[pki.Serial]pki.Reason)
	for _, e := range m {
		if e.seq > seq {
			break
		}
		if e.remove {
			delete(state, e.serial)
		} else {
			state[e.serial] = e.reason
		}
	}
	return state
}

// TestArenaProperty: whatever happens, the list at any sequence is the model's, and base plus delta is the later list.
func TestArenaProperty(t *testing.T) {
	ca := newAuthority(t, "Arena CA", newKey(t))
	read := func(t *rapid.T, entries crl.Entries, count int, base uint64) *crl.List {
		template := ca.template()
		template.Base = base
		der, _, err := signBytes(template, entries, ca.key)
		if err != nil {
			t.Fatal(err)
		}
		l, err := crl.Parse(der)
		if err != nil {
			t.Fatal(err)
		}
		if l.Len() != count {
			t.Fatalf("%d entries, %d counted", l.Len(), count)
		}
		return l
	}
	rapid.Check(t, func(t *rapid.T) {
		arena, history, state := &crl.Arena{}, model(nil), make(map[pki.Serial]pki.Reason)
		seq := uint64(0)
		steps := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) [3]int {
			return [3]int{rapid.IntRange(0, 3).Draw(t, "serial"), rapid.IntRange(0, 3).Draw(t, "change"), rapid.IntRange(1, 3).Draw(t, "gap")}
		}), 0, 40).Draw(t, "steps")
		for _, step := range steps {
			s, before := serial(step[0]), state[serial(step[0])]
			_, revoked := state[s]
			r := crl.Revocation{Serial: s, At: now.Add(time.Duration(seq) * time.Second), Reason: pki.Superseded}
			var remove bool
			seq += uint64(step[2])
			switch {
			case step[1] == 0 && !revoked:
				arena.Add(seq, r)
			case step[1] == 1 && (!revoked || before == pki.CertificateHold):
				r.Reason = pki.CertificateHold
				arena.Add(seq, r)
			case step[1] == 2 && revoked:
				r.Reason = pki.KeyCompromise
				arena.Replace(seq, r)
			case step[1] == 3 && before == pki.CertificateHold:
				remove = true
				arena.Remove(seq, s)
			default:
				continue
			}
			history = append(history, struct {
				seq    uint64
				serial pki.Serial
				reason pki.Reason
				at     time.Time
				remove bool
			}{seq, s, r.Reason, r.At, remove})
			state = history.state(seq)
		}
		base := uint64(rapid.IntRange(0, int(seq)).Draw(t, "base"))
		later := uint64(rapid.IntRange(int(base), int(seq)).Draw(t, "later"))
		entries, count := arena.At(base)
		holds(t, read(t, entries, count, 0), history.state(base))
		entries, count = arena.At(later)
		holds(t, read(t, entries, count, 0), history.state(later))
		entries, count = arena.Since(base, later, now)
		delta := read(t, entries, count, 5)
		holdsDelta(t, delta, history.state(base), history.state(later))
		between := uint64(rapid.IntRange(int(base), int(later)).Draw(t, "between"))
		holdsDelta(t, delta, history.state(between), history.state(later))
		entries, count = arena.At(seq)
		if read(t, entries, count, 0).Digest() != arena.Digest() {
			t.Fatal("the digest is not that of the list")
		}
		if size := crl.Document(entries).Size(); int64(arena.Size()) != size {
			t.Fatalf("%d octets, %d of which are on the list", arena.Size(), size)
		}
	})
}

func holds(t *rapid.T, l *crl.List, state map[pki.Serial]pki.Reason) {
	if l.Len() != len(state) {
		t.Fatalf("the list has %d entries, the model %d", l.Len(), len(state))
	}
	for s, reason := range state {
		if e, ok := l.Lookup(s[:], l.Issuer); !ok || e.Reason != reason {
			t.Fatalf("%s: found %t %+v, want %s", s, ok, e, reason)
		}
	}
}

// holdsDelta applies a delta to a list that is its base or younger, and compares.
func holdsDelta(t *rapid.T, delta *crl.List, before, after map[pki.Serial]pki.Reason) {
	combined := make(map[pki.Serial]pki.Reason)
	for s, reason := range before {
		combined[s] = reason
	}
	for e := range delta.Entries() {
		s, err := pki.SerialFromBytes(e.Serial)
		if err != nil {
			t.Fatal(err)
		}
		if e.Reason != pki.RemoveFromCRL {
			combined[s] = e.Reason
			continue
		}
		delete(combined, s)
	}
	if len(combined) != len(after) {
		t.Fatalf("base and delta have %d, the model %d", len(combined), len(after))
	}
	for s, reason := range after {
		if combined[s] != reason {
			t.Fatalf("%s is %s, want %s", s, combined[s], reason)
		}
	}
}

// TestArenaManyChunks crosses chunk borders, with holes near them, and takes lists that stay as they were.
func TestArenaManyChunks(t *testing.T) {
	const n = 60000
	ca := newAuthority(t, "Chunk CA", newKey(t))
	arena := filled(n)
	earlier, _ := arena.At(n / 2)
	template := ca.template()
	first, sig, err := signBytes(template, earlier, ca.key)
	if err != nil {
		t.Fatal(err)
	}
	seq, live := uint64(n), n
	for i := range n {
		if i%5 == 4 && i%3 == 0 { // on hold: see revocations
			seq++
			live--
			arena.Remove(seq, serial(i))
		}
	}
	entries, count := arena.At(seq)
	if count != live {
		t.Fatalf("%d entries, want %d", count, live)
	}
	der, _, err := signBytes(template, entries, ca.key)
	if err != nil {
		t.Fatal(err)
	}
	digest := arena.Digest()
	if _, err := crl.Check(crl.Document{der}, crl.Want{Template: template, Key: ca.key.Public(), Count: live, Digest: &digest, Now: now}); err != nil {
		t.Fatal(err)
	}
	for _, entries := range []crl.Entries{earlier, first2(arena.At(n / 2))} {
		if again, err := template.Assemble(entries, sig); err != nil || !bytes.Equal(again.Bytes(), first) {
			t.Fatalf("the list of an earlier sequence changed (%v)", err)
		}
	}
}

func first2(entries crl.Entries, _ int) crl.Entries { return entries }
