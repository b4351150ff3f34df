package lint_test

import (
	"testing"

	"signet.example/signet/ca/lint"
)

// What a pattern parses must be, field by field, what zcrypto parses: for certificates of one shape and of different
// ones, good and bad.
func TestPatternsParseWhatZcryptoParses(t *testing.T) {
	s := newSampler(t)
	used, asked := 0, 0
	var last []byte
	for range 60 {
		group := s.alike()
		for _, tbs := range group {
			for _, like := range [][]byte{group[0], last} {
				if like == nil {
					continue
				}
				fits, err := lint.TestingOnlyCompare(like, tbs, ecdsaWithSHA256)
				if err != nil {
					t.Fatalf("%v\nlike %x\nis   %x", err, like, tbs)
				}
				asked++
				if fits {
					used++
				}
			}
			last = tbs
		}
	}
	t.Logf("%d of %d by pattern", used, asked)
	if used < asked/5 {
		t.Error("patterns are hardly used")
	}
}

// Rules that see many certificates of a shape compare both parses now and then; they must never have differed.
func TestPatternsAreCompared(t *testing.T) {
	rules, err := lint.Compile(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := newSampler(t)
	for range 50 {
		for _, tbs := range s.alike() {
			_ = rules.Certificate(tbs, ecdsaWithSHA256, false) // most are bad, which is another test's matter
		}
	}
	if n := rules.TestingOnlyDiffering(); n > 0 || rules.TestingOnlyShapes() < 10 {
		t.Errorf("%d of %d shapes differed", n, rules.TestingOnlyShapes())
	}
}

func FuzzPattern(f *testing.F) {
	s := newSampler(f)
	for range 12 {
		group := s.alike()
		if len(group) > 1 {
			f.Add(group[0], group[1])
		}
	}
	f.Fuzz(func(t *testing.T, like, tbs []byte) {
		if _, err := lint.TestingOnlyCompare(like, tbs, ecdsaWithSHA256); err != nil {
			t.Fatalf("%v\nlike %x\nis   %x", err, like, tbs)
		}
	})
}
