package ocsp_test

import (
	"bytes"
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"signet.example/signet/ocsp"
	"signet.example/signet/pki"
)

// TestCheck: each rule refuses the response that breaks it, and says which it is.
func TestCheck(t *testing.T) {
	w := newWorld(t)
	nonce := bytes.Repeat([]byte{9}, 16)
	for _, c := range []struct {
		name   string
		draft  func(*ocsp.ResponseData)
		want   func(*ocsp.Expected)
		der    func([]byte) []byte
		refuse string
	}{
		{name: "as meant"},
		{name: "with nonce", draft: func(d *ocsp.ResponseData) { d.Nonce = nonce }, want: func(e *ocsp.Expected) { e.Nonce = nonce }},
		{name: "never issued", draft: func(d *ocsp.ResponseData) {
			d.ExtendedRevoke = true
			d.Answers[0] = ocsp.NeverIssued(d.Answers[0].ID, d.Answers[0].ThisUpdate, d.Answers[0].NextUpdate)
		}},
		{name: "another responder", want: func(e *ocsp.Expected) { e.Responder = w.sibling.cert }, refuse: "named by its key"},
		{name: "no certificate", der: func(der []byte) []byte { return withoutCertificates(t, der) }, refuse: "sent along"},
		{name: "another status", want: func(e *ocsp.Expected) { e.Answers[0].Status = pki.StatusRevoked }, refuse: "not the one that was meant"},
		{name: "another serial", want: func(e *ocsp.Expected) { e.Answers[0].ID.Serial = []byte{1} }, refuse: "not the one that was meant"},
		{name: "an answer more", draft: func(d *ocsp.ResponseData) { d.Answers = append(d.Answers, d.Answers[0]) }, want: func(e *ocsp.Expected) { e.Answers = e.Answers[:1] }, refuse: "2 answers"},
		{name: "no nextUpdate", draft: func(d *ocsp.ResponseData) { d.Answers[0].NextUpdate = time.Time{} }, refuse: "nextUpdate"},
		{name: "too long", draft: func(d *ocsp.ResponseData) { d.Answers[0].NextUpdate = now.Add(11 * 24 * time.Hour) }, refuse: "at most"},
		{name: "from the future", draft: func(d *ocsp.ResponseData) { d.ProducedAt = now.Add(-time.Hour) }, refuse: "dated after"},
		{name: "outlives its responder", draft: func(d *ocsp.ResponseData) {
			d.Answers[0].ThisUpdate, d.ProducedAt = now.Add(30*24*time.Hour-time.Minute), now.Add(30*24*time.Hour-time.Minute)
			d.Answers[0].NextUpdate = now.Add(30*24*time.Hour + time.Minute)
		}, refuse: "as long as"},
		{name: "nonce of another", draft: func(d *ocsp.ResponseData) { d.Nonce = nonce }, refuse: "nonce"},
		{name: "nonce missing", want: func(e *ocsp.Expected) { e.Nonce = nonce }, refuse: "nonce"},
		{name: "reason of delta CRLs", draft: func(d *ocsp.ResponseData) {
			d.Answers[0].Status, d.Answers[0].Reason, d.Answers[0].RevokedAt = pki.StatusRevoked, pki.RemoveFromCRL, now
		}, refuse: "delta"},
		{name: "signature broken", der: func(der []byte) []byte {
			der[signatureAt(t, der)] ^= 1
			return der
		}, refuse: "signature"},
		{name: "signature broken and not looked at", want: func(e *ocsp.Expected) { e.SkipVerify = true }, der: func(der []byte) []byte {
			der[signatureAt(t, der)] ^= 1
			return der
		}},
		{name: "tryLater", der: func([]byte) []byte { return ocsp.TryLater.Marshal() }, refuse: "named by its key"},
		{name: "not a response", der: func(der []byte) []byte { return der[1:] }, refuse: "malformed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := w.good(t)
			if c.draft != nil {
				c.draft(&d)
			}
			der := sign(t, w.responder, d)
			if c.der != nil {
				der = c.der(der)
			}
			want := ocsp.Expected{Responder: w.responder.cert, Answers: append([]ocsp.SingleResponse(nil), d.Answers...)}
			if c.want != nil {
				c.want(&want)
			}
			err := ocsp.Check(der, want)
			if c.refuse == "" && err != nil || c.refuse != "" && (err == nil || !strings.Contains(err.Error(), c.refuse)) {
				t.Errorf("check gave %v, want %q", err, c.refuse)
			}
		})
	}
}

func TestSignRefuses(t *testing.T) {
	w := newWorld(t)
	if _, err := ocsp.NewSigner(w.sibling.key, w.responder.cert); err == nil {
		t.Error("a signer with the certificate of another key was made")
	}
	signer, err := ocsp.NewSigner(w.responder.key, w.responder.cert)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*ocsp.ResponseData){
		"no answer":            func(d *ocsp.ResponseData) { d.Answers = nil },
		"too many answers":     func(d *ocsp.ResponseData) { d.Answers = make([]ocsp.SingleResponse, ocsp.MaxItems+1) },
		"unknown hash":         func(d *ocsp.ResponseData) { d.Answers[0].ID.Hash = 0 },
		"status without words": func(d *ocsp.ResponseData) { d.Answers[0].Status = pki.StatusStale },
		"empty nonce":          func(d *ocsp.ResponseData) { d.Nonce = []byte{} },
		"long nonce":           func(d *ocsp.ResponseData) { d.Nonce = make([]byte, 129) },
	} {
		d := w.good(t)
		change(&d)
		if _, err := signer.Sign(d); err == nil {
			t.Errorf("%s: was signed", name)
		}
	}
}

func BenchmarkParseRequest(b *testing.B) {
	w := newWorld(b)
	der, err := ocsp.NewRequest(w.good(b).Answers[0].ID).Marshal()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ocsp.ParseRequest(der); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSign(b *testing.B) {
	w := newWorld(b)
	signer, err := ocsp.NewSigner(w.responder.key, w.responder.cert)
	if err != nil {
		b.Fatal(err)
	}
	draft := w.good(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := signer.Sign(draft); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	w := newWorld(b)
	d := w.good(b)
	der := sign(b, w.responder, d)
	want := ocsp.Expected{Responder: w.responder.cert, Answers: d.Answers, SkipVerify: true}
	b.ReportAllocs()
	for b.Loop() {
		if err := ocsp.Check(der, want); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	w := newWorld(b)
	for _, c := range []struct {
		name  string
		by    *party
		known *ocsp.KnownDelegates
	}{{"delegate", w.responder, nil}, {"known", w.responder, new(ocsp.KnownDelegates)}, {"issuer", w.ca, nil}} {
		der := sign(b, c.by, w.good(b))
		q := ocsp.Query{Certificate: w.leaf.cert, Issuers: []*x509.Certificate{w.ca.cert}, Time: now, Known: c.known}
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ocsp.Verify(der, q); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
