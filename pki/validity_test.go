package pki_test

import (
	"testing"
	"time"

	"signet.example/signet/pki"
)

func TestEpochVectors(t *testing.T) {
	v := readVectors(t)
	for _, e := range v.Epochs {
		if got := e.NotAfter.Unix(); got != e.Unix {
			t.Fatalf("the vector itself: %s is %d, not %d", e.NotAfter, got, e.Unix)
		}
		got, err := pki.EpochAt(e.Unix)
		if err != nil || got != e.Epoch {
			t.Errorf("EpochAt(%s) = %v, %v; want %d", e.NotAfter, got, err, e.Epoch)
		}
		if got != pki.EpochForever && (got.Start() > e.Unix || got.Start()+7*24*3600 <= e.Unix) {
			t.Errorf("%s is not inside its week, which begins at %d", e.NotAfter, got.Start())
		}
	}
	for _, e := range v.RefusedNotAfter {
		if got, err := pki.EpochAt(e.Unix); err == nil {
			t.Errorf("EpochAt(%d) = %d, want an error", e.Unix, got)
		}
	}
}

// TestEpochStartsOnMonday: weeks change at Monday 00:00:00 UTC, every one of them.
func TestEpochStartsOnMonday(t *testing.T) {
	for _, e := range []pki.Epoch{0, 1, 357, 65534} {
		if at := time.Unix(e.Start(), 0).UTC(); at.Weekday() != time.Monday || at.Hour() != 0 || at.Minute() != 0 || at.Second() != 0 {
			t.Errorf("epoch %d starts %s", e, at)
		}
	}
}

func TestEpochPassed(t *testing.T) {
	const week, day = 7 * 24 * 3600, 24 * 3600
	for _, e := range []pki.Epoch{0, 357, 65534} {
		end := e.Start() + week + day
		if e.Passed(end - 1) {
			t.Errorf("epoch %d passes within its day of grace", e)
		}
		if !e.Passed(end) {
			t.Errorf("epoch %d has not passed a day after its end", e)
		}
	}
	for _, e := range []pki.Epoch{1, 357, 65534} {
		if end := e.Start() + week + day; pki.FirstEpoch(end-1) != e || pki.FirstEpoch(end) != e+1 {
			t.Errorf("around the end of epoch %d the first is %d, and then %d", e, pki.FirstEpoch(end-1), pki.FirstEpoch(end))
		}
	}
	if first := pki.FirstEpoch(0); first != 0 {
		t.Errorf("before the calendar begins the first epoch is %d", first)
	}
	if pki.EpochForever.Passed(1 << 62) {
		t.Error("the last epoch passes")
	}
}

func TestParseEpoch(t *testing.T) {
	for _, text := range []string{"0", "1", "357", "65534", "65535"} {
		if e, err := pki.ParseEpoch(text); err != nil || e.String() != text {
			t.Errorf("ParseEpoch(%q) = %v, %v", text, e, err)
		}
	}
	for _, text := range []string{"", "-1", "+1", "01", "00", "65536", "1e3", " 1", "１"} {
		if e, err := pki.ParseEpoch(text); err == nil {
			t.Errorf("ParseEpoch(%q) = %d, want an error: one spelling per URL", text, e)
		}
	}
}

func TestShard(t *testing.T) {
	for _, tc := range []struct {
		index uint64
		want  string
	}{{0, "9-0"}, {pki.BlockSize - 1, "9-0"}, {pki.BlockSize, "9-1"}, {pki.MaxIndex, "9-67108863"}} {
		if got := (pki.Position{Epoch: 9, Index: tc.index}).Shard().String(); got != tc.want {
			t.Errorf("index %d is in shard %s, want %s", tc.index, got, tc.want)
		}
	}
}
