package ocsp_test

import (
	"bytes"
	"crypto"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"signet.example/signet/ocsp"
	"signet.example/signet/pki"
)

var writeSeeds = flag.Bool("write-seeds", false, "write the seeds of the fuzz targets into testdata")

// TestWriteSeeds writes the committed seeds when asked to, with fresh keys: what counts is their shape.
func TestWriteSeeds(t *testing.T) {
	if !*writeSeeds {
		return
	}
	w := newWorld(t)
	write := func(name string, der []byte, err error) {
		if err == nil {
			err = os.WriteFile(filepath.Join("testdata", name+".der"), der, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	id := func(hash crypto.Hash) ocsp.CertID { return certID(t, w.ca.cert, w.leaf.cert, hash) }
	request := func(name string, r *ocsp.Request) {
		der, err := r.Marshal()
		write("request-"+name, der, err)
	}
	request("sha1", ocsp.NewRequest(id(crypto.SHA1)))
	request("sha256-nonce", &ocsp.Request{Items: []ocsp.SingleRequest{{ID: id(crypto.SHA256)}}, Nonce: bytes.Repeat([]byte{1}, 32)})
	request("several", &ocsp.Request{Items: []ocsp.SingleRequest{{ID: id(crypto.SHA384)}, {ID: id(crypto.SHA512)}}, RequestorName: []byte{0x82, 1, 'x'}})
	d := w.good(t)
	write("response-good", sign(t, w.responder, d), nil)
	write("response-by-issuer", sign(t, w.ca, d), nil)
	d.Nonce, d.ExtendedRevoke = []byte{1}, true
	d.Answers = append(d.Answers, ocsp.NeverIssued(id(crypto.SHA1), now, now.Add(time.Hour)), ocsp.SingleResponse{
		ID: id(crypto.SHA512), Status: pki.StatusRevoked, Reason: pki.Superseded, RevokedAt: now, ThisUpdate: now, NextUpdate: now.Add(time.Hour), ArchiveCutoff: now, InvalidityAt: now,
	})
	write("response-full", sign(t, issue(t, w.ca, "RSA", newKey(t, "RSA"), delegate), d), nil)
	write("response-try-later", ocsp.TryLater.Marshal(), nil)
}
