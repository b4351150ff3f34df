package ocspserver_test

import (
	"crypto"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"signet.example/signet/internal/testdb"
	"signet.example/signet/ocsp/ocspserver"
	"signet.example/signet/pki"
)

// BenchmarkAnswer is a GET that is answered from memory, without any HTTP.
func BenchmarkAnswer(b *testing.B) {
	s := newSystem(b, testdb.SQLite(b), nil)
	target := path(s.one) + "/" + url.QueryEscape(encode(requestFor(b, s.one, crypto.SHA1, nil, s.closed.serial(1))))
	b.ReportAllocs()
	for b.Loop() {
		if reply := s.responder.Answer(b.Context(), "GET", target, nil); reply.ETag == "" {
			b.Fatalf("%+v", reply)
		}
	}
}

// BenchmarkSignOnDemand is a POST whose answer is signed each time, for its nonce.
func BenchmarkSignOnDemand(b *testing.B) {
	s := newSystem(b, testdb.SQLite(b), func(_ *ocspserver.Config, issuers []ocspserver.Issuer) { issuers[0].Nonce = ocspserver.NonceLive })
	request := requestFor(b, s.one, crypto.SHA1, make([]byte, 32), s.closed.serial(1))
	b.ReportAllocs()
	for b.Loop() {
		if reply := s.responder.Answer(b.Context(), "POST", path(s.one), request); reply.ETag == "" {
			b.Fatalf("%+v", reply)
		}
	}
}

// BenchmarkHandler is BenchmarkAnswer behind net/http, without a connection.
func BenchmarkHandler(b *testing.B) {
	s := newSystem(b, testdb.SQLite(b), nil)
	target := path(s.one) + "/" + url.QueryEscape(encode(requestFor(b, s.one, crypto.SHA1, nil, s.closed.serial(1))))
	handler := &ocspserver.Handler{Responder: s.responder}
	request := httptest.NewRequest(http.MethodGet, target, nil)
	b.ReportAllocs()
	for b.Loop() {
		w := httptest.NewRecorder()
		if handler.ServeHTTP(w, request); w.Code != http.StatusOK {
			b.Fatal(w.Code)
		}
	}
}

// BenchmarkNeverIssued asks about a serial that was never issued: the answer is signed each time and never kept.
func BenchmarkNeverIssued(b *testing.B) {
	s := newSystem(b, testdb.SQLite(b), nil)
	request := requestFor(b, s.one, crypto.SHA1, nil, pki.Serial{19: 9})
	b.ReportAllocs()
	for b.Loop() {
		if reply := s.responder.Answer(b.Context(), "POST", path(s.one), request); reply.ETag == "" {
			b.Fatalf("%+v", reply)
		}
	}
}
