package postgres_test

import (
	"errors"
	"strings"
	"testing"

	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
	"signet.example/signet/store/postgres"
)

func TestOpenRefuses(t *testing.T) {
	url := testdb.EmptyURL(t)
	_, err := postgres.Open(t.Context(), postgres.Config{URL: url})
	if unsafe, ok := errors.AsType[*postgres.UnsafeError](err); !ok || unsafe.Setting == "" || pki.KindOf(err) != pki.KindFailedPrecondition {
		t.Errorf("a server that can lose confirmed writes: %v", err)
	}
	if status, err := postgres.Status(t.Context(), postgres.Config{URL: url}); err != nil || status.Version != 0 {
		t.Errorf("a refused database was touched: %+v, %v", status, err)
	}
	const secret = "hunter2"
	for _, test := range []struct {
		url  string
		kind pki.Kind
	}{
		{"postgres://user:" + secret + "@host:port/db", pki.KindInvalid},
		{"host=/nowhere user=postgres password=" + secret + " connect_timeout=1", pki.KindUnavailable},
		{url + "&dbname=missing", pki.KindFailedPrecondition},
		{url + "&user=nobody&password=" + secret, pki.KindFailedPrecondition},
	} {
		_, err := postgres.Open(t.Context(), postgres.Config{URL: test.url, Unsafe: true})
		if err == nil || pki.KindOf(err) != test.kind {
			t.Errorf("%s: %v (%s); want %s", test.url, err, pki.KindOf(err), test.kind)
		}
		if e, ok := errors.AsType[*pki.Error](err); test.kind == pki.KindFailedPrecondition && (!ok || e.Hint == "") {
			t.Errorf("%s: no hint in %v", test.url, err)
		}
		if err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("the password is in the error: %v", err)
		}
	}
}
