package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"time"

	"signet.example/signet/api/client"
	"signet.example/signet/crl"
	"signet.example/signet/handshake"
	"signet.example/signet/handshake/fetch"
	"signet.example/signet/ocsp"
	"signet.example/signet/pki"
)

// The steps of the demo that check the status of a certificate, and those that follow from it.

func (d *demo) ocspGood(ctx context.Context) (string, error) {
	said, err := d.askOCSP()
	if err != nil {
		return "", err
	}
	if said.Status != pki.StatusGood {
		return "", fmt.Errorf("OCSP says %s", said.Status)
	}
	return fmt.Sprintf("good, signed by a responder the issuer appointed, next update %s", said.NextUpdate.Format(time.TimeOnly)), nil
}

func (d *demo) askOCSP() (ocsp.Result, error) {
	_, request, err := ocspTarget{Hash: "sha256"}.request(d.stolen.Leaf.Raw, d.issuing, nil)
	if err != nil {
		return ocsp.Result{}, err
	}
	address, short := ocsp.URL(d.stolen.Leaf.OCSPServer[0], request)
	ask := fetch.Request{URL: address}
	if !short {
		ask = fetch.Request{URL: d.stolen.Leaf.OCSPServer[0], Body: request, Type: "application/ocsp-request"}
	}
	answer, err := d.app.fetch("ask the OCSP responder", ask)
	if err != nil {
		return ocsp.Result{}, err
	}
	return ocsp.Verify(answer, ocsp.Query{Certificate: d.stolen.Leaf, Issuers: []*x509.Certificate{d.issuing}, Time: time.Now(), Skew: clockSkew})
}

// crlFresh reads the list of a shard that this certificate may be the first of.
func (d *demo) crlFresh(ctx context.Context) (detail string, err error) {
	err = soon(ctx, func() error {
		list, listed, err := d.readCRL()
		if err != nil {
			return err
		}
		if listed {
			return errors.New("the certificate is on the list")
		}
		detail = fmt.Sprintf("CRL number %s, %d entries, next update %s, signature verified", list.Number, list.Len(), list.NextUpdate.Format(time.DateTime))
		return nil
	})
	return detail, err
}

// readCRL fetches and verifies the list named in the certificate and looks up the certificate.
func (d *demo) readCRL() (list *crl.List, listed bool, err error) {
	der, err := d.app.fetch("fetch the CRL", fetch.Request{URL: d.stolen.Leaf.CRLDistributionPoints[0]})
	if err != nil {
		return nil, false, err
	}
	if list, err = crl.Parse(der); err != nil {
		return nil, false, err
	}
	if err := list.Verify(d.issuing); err != nil {
		return nil, false, err
	}
	if now := time.Now(); now.After(list.NextUpdate) || now.Add(time.Minute).Before(list.ThisUpdate) {
		return nil, false, fmt.Errorf("the list is of %s and due to be replaced by %s", list.ThisUpdate, list.NextUpdate)
	}
	serial, err := pki.SerialFromBig(d.stolen.Leaf.SerialNumber)
	if err != nil {
		return nil, false, err
	}
	entry, found := list.Lookup(serial.Integer(), d.stolen.Leaf.RawIssuer)
	if found && entry.Reason != pki.KeyCompromise {
		return nil, false, fmt.Errorf("the list gives the reason %s", entry.Reason)
	}
	return list, found, nil
}

func (d *demo) untrustedRefused(ctx context.Context) (string, error) {
	stranger, err := strangeRoot()
	if err != nil {
		return "", err
	}
	_, _, err = d.connect(ctx, handshake.HardFail, stranger, d.listening.Addr().String())
	if _, ok := errors.AsType[*handshake.UntrustedError](err); !ok {
		return "", fmt.Errorf("want an UntrustedError, got: %v", err)
	}
	return "refused: " + err.Error(), nil
}

// strangeRoot returns a pool with a root that signed nothing here.
func strangeRoot() (*x509.CertPool, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Another Root"}, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(root)
	return pool, nil
}

func (d *demo) revoke(ctx context.Context) (string, error) {
	change, err := d.api.Revoke(ctx, client.RevokeRequest{Certificate: d.stolen.Certificate[0], Reason: pki.KeyCompromise})
	if err != nil {
		return "", err
	}
	d.acknowledged = time.Now()
	// The thief of the key runs a server of its own, which staples nothing that would reveal the revocation.
	if err := d.listening.Close(); err != nil {
		return "", err
	}
	if d.listening, err = greet(&tls.Config{Certificates: []tls.Certificate{d.stolen}, MinVersion: tls.VersionTLS12}); err != nil {
		return "", err
	}
	// OCSP says revoked before the acknowledgement; a client that fetches the list gets it some milliseconds later.
	err = soon(ctx, func() error {
		_, _, err := d.connect(ctx, handshake.HardFail, d.roots, d.listening.Addr().String())
		if _, ok := errors.AsType[*handshake.RevokedError](err); !ok {
			return fmt.Errorf("a handshake after the acknowledgement was not refused as revoked: %v", err)
		}
		return nil
	})
	d.refusedAfter = time.Since(d.acknowledged)
	return fmt.Sprintf("durable as entry %d of the ledger", change.Sequence), err
}

// soon repeats try for the seconds that clients' caches allow; it usually needs milliseconds.
func soon(ctx context.Context, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(2 * time.Millisecond):
		}
	}
}

func (d *demo) ocspRevoked(ctx context.Context) (string, error) {
	said, err := d.askOCSP()
	if err != nil {
		return "", err
	}
	if said.Status != pki.StatusRevoked || said.Reason != pki.KeyCompromise {
		return "", fmt.Errorf("OCSP says %s, %s", said.Status, said.Reason)
	}
	return fmt.Sprintf("revoked, %s, since %s", said.Reason, said.RevokedAt.Format(time.TimeOnly)), nil
}

func (d *demo) crlRevoked(ctx context.Context) (detail string, err error) {
	err = soon(ctx, func() error {
		list, listed, err := d.readCRL()
		if err != nil {
			return err
		}
		if !listed {
			return fmt.Errorf("CRL number %s does not list it", list.Number)
		}
		detail = fmt.Sprintf("on CRL number %s, keyCompromise", list.Number)
		return nil
	})
	return detail, err
}

func (d *demo) handshakeRefused(ctx context.Context) (string, error) {
	_, _, err := d.connect(ctx, handshake.HardFail, d.roots, d.listening.Addr().String())
	if _, ok := errors.AsType[*handshake.RevokedError](err); !ok {
		return "", fmt.Errorf("want a RevokedError, got: %v", err)
	}
	return "refused: " + err.Error(), nil
}

func (d *demo) hardFail(ctx context.Context) (string, error) {
	_, pair, err := d.newCertificate(ctx, "app.demo.example")
	if err != nil {
		return "", err
	}
	if err := errors.Join(d.listening.Close(), d.stop()); err != nil {
		return "", err
	}
	if d.listening, err = greet(&tls.Config{Certificates: []tls.Certificate{*pair}, MinVersion: tls.VersionTLS12}); err != nil {
		return "", err
	}
	_, _, err = d.connect(ctx, handshake.HardFail, d.roots, d.listening.Addr().String())
	if _, ok := errors.AsType[*handshake.UnavailableError](err); !ok {
		return "", fmt.Errorf("want an UnavailableError, got: %v", err)
	}
	return "refused: no source could tell the status", nil
}

func (d *demo) softFail(ctx context.Context) (string, error) {
	_, result, err := d.connect(ctx, handshake.SoftFail, d.roots, d.listening.Addr().String())
	if err != nil {
		return "", err
	}
	if result.Decision() != handshake.AcceptedUnproved {
		return "", fmt.Errorf("the decision was %s", result.Decision())
	}
	return fmt.Sprintf("%s: the result says that the status is %s", result.Decision(), result.Certificates[0].Status), nil
}

func (d *demo) auditVerified(ctx context.Context) (string, error) {
	if err := d.start(ctx); err != nil {
		return "", err
	}
	report, err := d.api.VerifyAudit(ctx, "")
	if err != nil {
		return "", err
	}
	if !report.Intact {
		return "", errors.New(report.Finding)
	}
	return fmt.Sprintf("%d events, head %s...", report.Events, report.Head[:16]), nil
}
