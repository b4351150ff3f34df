package storetest

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"signet.example/signet/revocation"
	"signet.example/signet/store"
)

func testProgress(t *testing.T, open func(t *testing.T) store.Store) {
	s := open(t)
	a, b := revocation.InstanceID{1}, revocation.InstanceID{2}
	for _, report := range []struct {
		instance revocation.InstanceID
		reached  map[string]uint64
	}{
		{a, map[string]uint64{"crl": 5, "ocsp": 7}},
		{b, map[string]uint64{"crl": 4}},
		{a, map[string]uint64{"crl": 6, "ocsp": 3}}, // ocsp: an older report that was overtaken
		{a, nil},
	} {
		if err := s.ReportProgress(t.Context(), report.instance, report.reached); err != nil {
			t.Fatal(err)
		}
	}
	read := func(maxAge time.Duration) map[string]uint64 {
		t.Helper()
		reports, err := s.ReadProgress(t.Context(), maxAge)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]uint64{}
		for _, r := range reports {
			got[string('a'+r.Instance[0]-1)+" "+r.Product] = r.Seq
		}
		return got
	}
	if diff := cmp.Diff(map[string]uint64{"a crl": 6, "a ocsp": 7, "b crl": 4}, read(time.Hour)); diff != "" {
		t.Errorf("progress (-want +got):\n%s", diff)
	}
	if got := read(-time.Hour); len(got) != 0 {
		t.Errorf("reports from the future: %v", got)
	}
	if err := s.ForgetProgress(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]uint64{"b crl": 4}, read(time.Hour)); diff != "" {
		t.Errorf("after forgetting a (-want +got):\n%s", diff)
	}
}
