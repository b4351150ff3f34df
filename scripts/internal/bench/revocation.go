package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"time"

	"signet.example/signet/api/client"
	"signet.example/signet/crl"
	"signet.example/signet/ocsp"
	"signet.example/signet/pki"
)

// revocations measures revoking with CRL and OCSP on, and how long it takes until each product says so.
func revocations(ctx context.Context, b *bench) (err error) {
	count := 2_000_000
	if b.quick {
		count = 240_000
	}
	s, f, err := b.filledSite(ctx, "revocation", count, 2) // the even ones are revoked before anything is measured
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	inserts, err := durableInserts(16)(ctx, b)
	if err != nil {
		return err
	}
	w := &visibility{site: s, filled: f, next: 1}
	if err := w.readIssuer(); err != nil {
		return err
	}
	if err := w.measure(ctx, b, count/2); err != nil {
		return err
	}
	for _, callers := range []int{1, 16, 64} {
		l := load{name: fmt.Sprintf("revoke/grpc/postgres/c%d", callers), callers: callers, pid: s.pid(), limit: inserts, do: w.revoke}
		if callers == 64 {
			l.target = 5000
		}
		if _, err := b.measure(ctx, l); err != nil {
			return err
		}
	}
	return nil
}

// visibility revokes certificates and looks at what is said of them.
type visibility struct {
	*site
	*filled
	next   int // odd: the first that is not revoked
	issuer *x509.Certificate
}

func (w *visibility) readIssuer() error {
	issuers, err := w.api.Issuers(context.Background())
	if err != nil {
		return err
	}
	for _, i := range issuers {
		if i.ID == w.filled.issuer {
			w.issuer, err = x509.ParseCertificate(i.Certificates[0])
		}
	}
	if err == nil && w.issuer == nil {
		err = os.ErrNotExist
	}
	return err
}

// revoke revokes one certificate, spread over all shards.
func (w *visibility) revoke(ctx context.Context, _, n int) error {
	_, err := w.api.Revoke(ctx, client.RevokeRequest{Issuer: w.filled.issuer, Serial: w.pick(n), Reason: pki.Superseded})
	return err
}

// pick gives certificates that were not revoked by fill, each week in turn.
func (w *visibility) pick(n int) pki.Serial {
	week := len(w.serials) / fillEpochs
	return w.serials[(n%fillEpochs)*week+(n/fillEpochs*2+1)%(week-1)|1]
}

// measure revokes one at a time and reports the time from the acknowledgement to the first OCSP response, and to the
// first shard, that says so.
func (w *visibility) measure(ctx context.Context, b *bench, revoked int) error {
	samples := 200
	if b.quick {
		samples = 40
	}
	var ocspTimes, crlTimes []time.Duration
	for n := range samples {
		serial := w.pick(1_000_000_000 + n) // others than those of the loads
		if _, err := w.api.Revoke(ctx, client.RevokeRequest{Issuer: w.filled.issuer, Serial: serial, Reason: pki.KeyCompromise}); err != nil {
			return err
		}
		acknowledged := time.Now()
		for {
			said, err := w.askOCSP(serial)
			if err != nil {
				return err
			}
			if said == pki.StatusRevoked {
				break
			}
		}
		ocspTimes = append(ocspTimes, time.Since(acknowledged))
		for {
			listed, err := w.onShard(serial)
			if err != nil {
				return err
			}
			if listed {
				break
			}
		}
		crlTimes = append(crlTimes, time.Since(acknowledged))
		time.Sleep(20 * time.Millisecond)
	}
	for name, times := range map[string][]time.Duration{"ocsp": ocspTimes, "shard": crlTimes} {
		slices.Sort(times)
		b.add(result{
			Name: fmt.Sprintf("visible/%s/%d-revoked", name, revoked), Value: milliseconds(times[len(times)/2]), Unit: "ms", Target: 10,
			Spread: [2]float64{milliseconds(times[0]), milliseconds(times[len(times)-1])}, P50: milliseconds(times[len(times)/2]), P99: milliseconds(times[len(times)*99/100]),
		})
	}
	return nil
}

func (w *visibility) askOCSP(serial pki.Serial) (pki.Status, error) {
	named, err := ocsp.IssuerOf(w.issuer)
	if err != nil {
		return 0, err
	}
	request, err := ocsp.NewRequest(named.CertID(crypto.SHA256, ocsp.SerialOctets(serial))).Marshal()
	if err != nil {
		return 0, err
	}
	answer, err := w.get("/ocsp/"+w.filled.issuer.String(), request)
	if err != nil {
		return 0, err
	}
	said, err := ocsp.Verify(answer, ocsp.Query{Serial: ocsp.SerialOctets(serial), Issuers: []*x509.Certificate{w.issuer}, Time: time.Now(), Skew: time.Minute})
	return said.Status, err
}

func (w *visibility) onShard(serial pki.Serial) (bool, error) {
	p, _ := serial.Unmask(w.key)
	der, err := w.get("/crl/"+w.filled.issuer.String()+"/"+p.Shard().String()+".crl", nil)
	if err != nil {
		return false, err
	}
	list, err := crl.Parse(der)
	if err != nil {
		return false, err
	}
	_, listed := list.Lookup(ocsp.SerialOctets(serial), w.issuer.RawSubject)
	return listed, nil
}

func (w *visibility) get(path string, body []byte) ([]byte, error) {
	url := "http://" + w.addresses.Public + path
	var answer *http.Response
	var err error
	if body == nil {
		answer, err = http.Get(url)
	} else {
		answer, err = http.Post(url, "application/ocsp-request", bytes.NewReader(body))
	}
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, answer.Status)
	}
	return text, err
}
