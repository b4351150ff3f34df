package pki_test

import (
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"

	"signet.example/signet/pki"
)

// vectors is testdata/serials.json, which an implementation in another language wrote.
type vectors struct {
	Epochs []struct {
		NotAfter time.Time
		Unix     int64
		Epoch    pki.Epoch
	}
	RefusedNotAfter []struct{ Unix int64 }
	Serials         []struct {
		IssuerKeyHash, K, Nonce, RangeKey, Serial string
		From, Index                               uint64
		Epoch                                     pki.Epoch
		Block                                     uint32
	}
}

func readVectors(t *testing.T) vectors {
	t.Helper()
	text, err := os.ReadFile("testdata/serials.json")
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Epochs) == 0 || len(v.Serials) == 0 || len(v.RefusedNotAfter) == 0 {
		t.Fatal("the vectors are empty")
	}
	return v
}

func octets(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSerialVectors(t *testing.T) {
	for i, v := range readVectors(t).Serials {
		issuer := pki.KeyHash(octets(t, v.IssuerKeyHash))
		at := pki.Position{Epoch: v.Epoch, Index: v.Index}
		key := pki.NewRangeKey(pki.SerialSecret(octets(t, v.K)), pki.RangeNonce(octets(t, v.Nonce)), issuer, v.Epoch, v.From)
		if got := hex.EncodeToString(key[:]); got != v.RangeKey {
			t.Errorf("vector %d: range key %s, want %s", i, got, v.RangeKey)
		}
		s := pki.NewSerial(key, issuer, at)
		if s.String() != v.Serial {
			t.Errorf("vector %d: serial %s, want %s", i, s, v.Serial)
		}
		if got, ok := s.Unmask(issuer); !ok || got != at {
			t.Errorf("vector %d: unmask = %v, %v, want %v", i, got, ok, at)
		}
		if !s.Matches(key, issuer) {
			t.Errorf("vector %d: the serial does not match the key it was made with", i)
		}
		if got := at.Shard(); got != (pki.Shard{Epoch: v.Epoch, Block: v.Block}) {
			t.Errorf("vector %d: shard %v, want block %d", i, got, v.Block)
		}
	}
}

// TestSerialShape: every serial is a positive INTEGER of exactly 20 content octets, whatever the random octets.
func TestSerialShape(t *testing.T) {
	issuer := pki.HashSPKI([]byte("key"))
	for i := range uint64(1000) {
		s := pki.NewSerial(pki.RangeKey{1}, issuer, pki.Position{Epoch: pki.Epoch(i), Index: i * i * i})
		der, err := asn1.Marshal(s.Big())
		if err != nil {
			t.Fatal(err)
		}
		if len(der) != 22 || der[1] != 20 || der[2] != 0x41 {
			t.Fatalf("serial %s is the INTEGER %x", s, der)
		}
	}
}

func TestSerialIndexDemandsTheEpochOfNotAfter(t *testing.T) {
	issuer, monday := pki.HashSPKI([]byte("key")), time.Date(2026, 11, 16, 0, 0, 0, 0, time.UTC).Unix()
	epoch, err := pki.EpochAt(monday)
	if err != nil {
		t.Fatal(err)
	}
	s := pki.NewSerial(pki.RangeKey{1}, issuer, pki.Position{Epoch: epoch, Index: 7})
	if p, ok := s.Index(issuer, monday); !ok || p.Index != 7 {
		t.Errorf("Index at the first second of the week = %v, %v", p, ok)
	}
	for name, notAfter := range map[string]int64{"the second before": monday - 1, "a week later": monday + 7*24*3600, "before the calendar": 0} {
		if _, ok := s.Index(issuer, notAfter); ok {
			t.Errorf("%s: the epoch is not that of notAfter, yet ok", name)
		}
	}
	if _, ok := s.Index(pki.HashSPKI([]byte("another key")), monday); ok {
		t.Error("under another issuer the position is still ok")
	}
}

// TestForgedSerial: whoever lacks the range key cannot make a serial that matches, even for a good position.
func TestForgedSerial(t *testing.T) {
	issuer, at := pki.HashSPKI([]byte("key")), pki.Position{Epoch: 300, Index: 5}
	key := pki.RangeKey{1}
	good := pki.NewSerial(key, issuer, at)
	forged := pki.NewSerial(pki.RangeKey{2}, issuer, at)
	if p, ok := forged.Unmask(issuer); !ok || p != at {
		t.Fatalf("the forgery claims %v, %v; want %v", p, ok, at)
	}
	if forged.Matches(key, issuer) {
		t.Error("a serial made with another key matches")
	}
	for i := range good {
		bent := good
		bent[i] ^= 1
		if p, ok := bent.Unmask(issuer); ok && p.Index == at.Index && p.Epoch != at.Epoch {
			continue // it claims another week, whose ranges have other keys
		}
		if bent.Matches(key, issuer) {
			t.Errorf("octet %d altered, and the serial still matches", i)
		}
	}
	foreign := good
	foreign[0] = 0x42
	if _, ok := foreign.Unmask(issuer); ok {
		t.Error("a serial of another version was unmasked")
	}
}

func TestNewSerialRefusesAnIndexItCannotCarry(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("index 2^40 did not panic")
		}
	}()
	pki.NewSerial(pki.RangeKey{}, pki.KeyHash{}, pki.Position{Index: pki.MaxIndex + 1})
}

func TestParseSerial(t *testing.T) {
	for _, tc := range []struct{ in, want string }{
		{"41", "41"}, {"0x41", "41"}, {"0X41", "41"}, {"1", "01"}, {"00", "00"}, {"0", "00"}, {" 0a:0B:0c ", "0a0b0c"}, {"DE AD", "dead"},
		{"00ff", "ff"}, {"412cb0ae6fa096fc1aba403fcccba4f1fc9e8159", "412cb0ae6fa096fc1aba403fcccba4f1fc9e8159"},
		{"00ffffffffffffffffffffffffffffffffffffffff", strings.Repeat("ff", 20)},
	} {
		s, err := pki.ParseSerial(tc.in)
		if err != nil || s.String() != tc.want {
			t.Errorf("ParseSerial(%q) = %v, %v; want %s", tc.in, s, err, tc.want)
		}
	}
	for _, in := range []string{"", " ", "0x", "-1", "xyz", "4g", strings.Repeat("f", 42), strings.Repeat("f", 41), "01" + strings.Repeat("00", 20), "４１", strings.Repeat("ff", 500)} {
		if s, err := pki.ParseSerial(in); !errors.Is(err, pki.ErrSerial) {
			t.Errorf("ParseSerial(%.40q) = %v, %v; want ErrSerial", in, s, err)
		} else if len(err.Error()) > 200 {
			t.Errorf("the error repeats %d octets of foreign text", len(err.Error()))
		}
	}
}

func TestSerialFromBig(t *testing.T) {
	limit := new(big.Int).Lsh(big.NewInt(1), 160)
	for _, n := range []*big.Int{nil, big.NewInt(-1), limit} {
		if s, err := pki.SerialFromBig(n); !errors.Is(err, pki.ErrSerial) {
			t.Errorf("SerialFromBig(%v) = %v, %v; want ErrSerial", n, s, err)
		}
	}
	for _, n := range []*big.Int{big.NewInt(0), big.NewInt(255), new(big.Int).Sub(limit, big.NewInt(1))} {
		s, err := pki.SerialFromBig(n)
		if err != nil || s.Big().Cmp(n) != 0 {
			t.Errorf("SerialFromBig(%v) = %v, %v", n, s, err)
		}
	}
	if _, err := pki.SerialFromBytes(make([]byte, 300)); err != nil {
		t.Errorf("leading zero octets count: %v", err)
	}
	if !(pki.Serial{}).IsZero() || len((pki.Serial{}).Bytes()) != 0 {
		t.Error("the zero serial is not zero")
	}
}

// TestSecretsKeepQuiet: K must not reach a log by any of the usual verbs.
func TestSecretsKeepQuiet(t *testing.T) {
	k := pki.SerialSecret{0xab, 0xcd}
	for _, verb := range []string{"%v", "%s", "%+v", "%#v", "%q"} {
		if text := fmt.Sprintf(verb, k); strings.Contains(text, "171") || strings.Contains(strings.ToLower(text), "abcd") || !strings.Contains(text, "redacted") {
			t.Errorf("%s prints %s", verb, text)
		}
	}
}

func FuzzParseSerial(f *testing.F) {
	for _, seed := range []string{"41", "0x00", "de:ad:be:ef", strings.Repeat("f", 40), "-1", "é"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := pki.ParseSerial(text)
		if err != nil {
			return
		}
		if again, err := pki.ParseSerial(s.String()); err != nil || again != s {
			t.Errorf("%q reads as %s, which reads as %s (%v)", text, s, again, err)
		}
		if back, err := pki.SerialFromBig(s.Big()); err != nil || back != s {
			t.Errorf("%s through big.Int is %s (%v)", s, back, err)
		}
	})
}
