package agent

import (
	"context"
	"crypto"
	"encoding/hex"
	"errors"

	"signet.example/signet/api/client"
	"signet.example/signet/ca/keys"
	"signet.example/signet/pki"
)

// Renew renews the certificate of the files for the key that make returns. The old certificate proves the request: by
// TLS if the client was made with it (overTLS), else by a signature. Renew replaces both files. It goes on with what an
// earlier attempt left; if only the hook was missing, it returns nil. fit may refuse the server's answer before it is
// installed (nil: it refuses none). runHook is called when both files are in place, and again by the next Renew if it
// fails.
func (f Files) Renew(ctx context.Context, api *client.Client, overTLS bool, make func(old crypto.Signer) (crypto.Signer, error),
	fit func(chain []byte) error, runHook func() error,
) (*client.Issued, error) {
	if done, err := f.complete(runHook); done || err != nil {
		return nil, err
	}
	old, err := f.Read()
	if err != nil {
		return nil, err
	}
	p, err := f.resume(func() (crypto.Signer, error) { return make(old.Key) })
	if err != nil {
		return nil, err
	}
	q := client.RenewRequest{CSR: p.csr, RequestID: p.requestID(hex.EncodeToString(old.Leaf.Raw))}
	if !overTLS {
		q.Certificate, q.Key = old.Leaf.Raw, old.Key
	}
	issued, err := api.Renew(ctx, q)
	return f.settle(p, issued, err, fit, runHook)
}

// Issue obtains the first certificate, or one that cannot be a renewal, with the credential of the client.
func (f Files) Issue(ctx context.Context, api *client.Client, q client.IssueRequest, make func() (crypto.Signer, error),
	fit func(chain []byte) error, runHook func() error,
) (*client.Issued, error) {
	if done, err := f.complete(runHook); done || err != nil {
		return nil, err
	}
	p, err := f.resume(make)
	if err != nil {
		return nil, err
	}
	if _, err := f.inPlace(p); err != nil { // before a certificate is issued that could not be installed
		return nil, err
	}
	q.CSR = p.csr
	q.RequestID = p.requestID(append([]string{q.Profile, q.Lifetime.String()}, q.Identifiers...)...)
	issued, err := api.Issue(ctx, q)
	return f.settle(p, issued, err, fit, runHook)
}

// complete finishes an earlier attempt whose certificate is installed: it installs the key, runs the hook and removes
// KEY.next. done is false if there is none, or an error came.
func (f Files) complete(runHook func() error) (done bool, err error) {
	p, err := f.unfinished()
	if p == nil || err != nil || !f.installed(p) {
		return false, err
	}
	if err := f.installKey(p); err != nil {
		return false, err
	}
	if err := runHook(); err != nil {
		return false, err
	}
	return true, f.finish()
}

// forsake removes the pending request if it is for the key of the installed certificate, which is lost.
func (f Files) forsake() error {
	p, err := f.unfinished()
	if p == nil || err != nil {
		return err
	}
	_, leaf, err := readChain(f.Certificate)
	if err != nil || !isKeyOf(p.key, leaf) {
		return err
	}
	return f.finish()
}

// errLost means that no certificate may be requested any more with the key of the pending request.
var errLost = errors.New("its key is lost: the next try asks for one with another")

// beginAnew replaces the pending request, whose key is lost, by one for another key. KEY.next is never missing in
// between: after a crash without it, the next attempt would see only the old certificate, which may be good, and use
// the lost key again.
func (f Files) beginAnew(algorithm keys.Algorithm) error {
	p, err := f.unfinished()
	if p == nil || err != nil {
		return err
	}
	key, err := Successor(p.key, algorithm)
	if err != nil {
		return err
	}
	_, err = f.begin(key, true)
	return err
}

func (f Files) resume(make func() (crypto.Signer, error)) (*pending, error) {
	p, err := f.unfinished()
	if p != nil || err != nil {
		return p, err
	}
	key, err := make()
	if err != nil {
		return nil, err
	}
	return f.begin(key, false)
}

// settle installs an answer. A request that was refused for good is removed. After any other error it stays and is
// repeated, because it may have been answered.
func (f Files) settle(p *pending, issued *client.Issued, err error, fit func(chain []byte) error, runHook func() error) (*client.Issued, error) {
	if err == nil {
		err = p.isNew(issued.PEM)
	}
	if err == nil && fit != nil {
		err = fit(issued.PEM)
	}
	if err != nil && useless(err) && p.instead { // without KEY.next the lost key would be used again
		return nil, errors.Join(err, errLost)
	}
	if err != nil && useless(err) {
		if err := f.finish(); err != nil {
			return nil, err
		}
	}
	if err != nil {
		return nil, err
	}
	if err := f.install(p, issued.PEM); err != nil {
		return nil, err
	}
	if err := runHook(); err != nil {
		return issued, err
	}
	return issued, f.finish()
}

// isNew refuses an answer that is the certificate to be replaced.
func (p *pending) isNew(chain []byte) error {
	_, leaf, err := parseChain(chain)
	if err == nil && digestOf(leaf) == p.replaces {
		return notNew("the certificate that is to be replaced")
	}
	return nil // install refuses an answer that does not parse
}

// notNew returns the error of an answer that is not installed. Its request is of no use any more.
func notNew(format string, of ...any) error {
	return pki.Errorf(pki.KindConflict, "replace certificate", "the server answered with "+format, of...).InField("request_id")
}

// useless reports whether the same request would be answered with the same error for ever. Other errors may end when
// the state of the server changes, or the request waits for an approval until then. But an error of field request_id
// says that the request expired undecided, and one of field certificate that the certificate, which is the proof, is
// revoked for good.
func useless(err error) bool {
	e, ok := errors.AsType[*pki.Error](err)
	if !ok || errors.Is(err, errLost) { // beginAnew replaces it
		return false
	}
	switch e.Kind {
	case pki.KindInvalid, pki.KindRefused, pki.KindConflict:
		return true
	case pki.KindFailedPrecondition:
		return e.Field == "request_id"
	case pki.KindUnauthenticated:
		return isRevoked(err)
	}
	return false
}

// isRevoked reports whether a renewal was refused because the old certificate is revoked for good.
func isRevoked(err error) bool {
	e, ok := errors.AsType[*pki.Error](err)
	return ok && e.Kind == pki.KindUnauthenticated && e.Field == "certificate"
}
