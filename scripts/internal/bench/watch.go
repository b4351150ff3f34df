package main

import (
	"bytes"
	"crypto"
	"crypto/x509"
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
}

// ocspSays asks whether a response, verified as a stranger would, says revoked.
func (w *watcher) ocspSays() (bool, error) {
	named, err := ocsp.IssuerOf(w.revoking.issuer)
	if err != nil {
		return false, err
	}
	octets := ocsp.SerialOctets(w.serial)
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

// lists are the shards that were read last, by URL: a client asks only for what is newer.
var lists sync.Map

type keptList struct {
	tag  string
	list *crl.List
}

// shardSays asks whether the shard lists the certificate. It reads the shard anew only if it changed, as clients do.
func (w *watcher) shardSays() (bool, error) {
	p, _ := w.serial.Unmask(w.key)
	url := "http://" + w.at.addresses.Public + "/crl/" + w.past.issuer.String() + "/" + p.Shard().String() + ".crl"
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return false, err
	}
	var kept keptList
	if found, ok := lists.Load(url); ok {
		kept = found.(keptList)
		request.Header.Set("If-None-Match", kept.tag)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return false, err
	}
	if answer.StatusCode == http.StatusNotModified {
		answer.Body.Close()
	} else {
		der, err := readAll(answer)
		if err != nil {
			return false, err
		}
		if kept.list, err = crl.Parse(der); err != nil {
			return false, err
		}
		kept.tag = answer.Header.Get("ETag")
		lists.Store(url, kept)
	}
	_, listed := kept.list.Lookup(ocsp.SerialOctets(w.serial), w.revoking.issuer.RawSubject)
	return listed, nil
}

func readAll(answer *http.Response) ([]byte, error) {
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", answer.Request.URL, answer.Status)
	}
	return body, err
}
