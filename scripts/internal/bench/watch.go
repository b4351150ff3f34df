package main

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"signet.example/signet/crl"
	"signet.example/signet/ocsp"
	"signet.example/signet/pki"
)

// watcher asks one instance about one certificate.
type watcher struct {
	*revoking
	at     *site
	serial pki.Serial
	found  []byte // the shard, once it has the serial number
}

// ocspSays reports whether a response, verified with no other knowledge of the site, says revoked.
func (w *watcher) ocspSays() (bool, error) {
	named, err := ocsp.IssuerOf(w.revoking.issuer)
	if err != nil {
		return false, err
	}
	octets := w.serial.Integer()
	request, err := ocsp.NewRequest(named.CertID(crypto.SHA256, octets)).Marshal()
	if err != nil {
		return false, err
	}
	answer, err := http.Post("http://"+w.at.addresses.Public+"/ocsp/"+w.past.issuer.String(), "application/ocsp-request", bytes.NewReader(request))
	if err != nil {
		return false, err
	}
	body, err := readAll(answer)
	if err != nil {
		return false, err
	}
	said, err := ocsp.Verify(body, ocsp.Query{Serial: octets, Issuers: []*x509.Certificate{w.revoking.issuer}, Time: time.Now(), Skew: time.Minute})
	return said.Status == pki.StatusRevoked, err
}

// tags are the entity tags of the shards that were read last, by URL: a client asks only for newer ones.
var tags sync.Map

// shardSays reports whether the shard lists the certificate. Like a client, it loads the shard only if it changed, and
// whole. It finds the serial number in its octets; verify looks closer.
func (w *watcher) shardSays() (bool, error) {
	p, _ := w.serial.Unmask(w.key)
	url := "http://" + w.at.addresses.Public + "/crl/" + w.past.issuer.String() + "/" + p.Shard().String() + ".crl"
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return false, err
	}
	if tag, ok := tags.Load(url); ok {
		request.Header.Set("If-None-Match", tag.(string))
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return false, err
	}
	defer answer.Body.Close()
	if answer.StatusCode == http.StatusNotModified {
		return false, nil
	}
	if answer.StatusCode != http.StatusOK || answer.ContentLength < 0 {
		return false, fmt.Errorf("%s: %s, %d octets", url, answer.Status, answer.ContentLength)
	}
	der := make([]byte, answer.ContentLength)
	if _, err := io.ReadFull(answer.Body, der); err != nil {
		return false, err
	}
	tags.Store(url, answer.Header.Get("ETag"))
	// New entries are at the end.
	if serial := w.serial.Integer(); bytes.Contains(der[max(0, len(der)-64<<10):], serial) || bytes.Contains(der, serial) {
		w.found = der
	}
	return w.found != nil, nil
}

// verify reads the list that shardSays found as a relying party would, and verifies its signature.
func (w *watcher) verify() error {
	if w.found == nil {
		return nil
	}
	list, err := crl.Parse(w.found)
	if err != nil {
		return err
	}
	if _, listed := list.Lookup(w.serial.Integer(), w.revoking.issuer.RawSubject); !listed {
		return errors.New("a list has the serial number somewhere, and not as an entry")
	}
	return list.Verify(w.revoking.issuer)
}

func readAll(answer *http.Response) ([]byte, error) {
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", answer.Request.URL, answer.Status)
	}
	return body, err
}
