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

// Renew renews the certificate of the files for the key that make gives, proved by the old one: by TLS if the client was
// made with it, else by a signature. It replaces both files; what an earlier attempt left is gone on with. fit may refuse what
// the server answered before it is installed (nil: it does not); runHook is called when both are in place, and again by the next Renew if it fails.
func (f Files) Renew(ctx context.Context, api *client.Client, overTLS bool, make func(old crypto.Signer) (crypto.Signer, error), fit func(chain []byte) error, runHook func() error) (*client.Issued, error) {
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
func (f Files) Issue(ctx context.Context, api *client.Client, q client.IssueRequest, make func() (crypto.Signer, error), fit func(chain []byte) error, runHook func() error) (*client.Issued, error) {
	if done, err := f.complete(runHook); done || err != nil {
		return nil, err
	}
	p, err := f.resume(make)
	if err != nil {
		return nil, err
	}
	if _, err := f.inPlace(p); err != nil { // before a certificate exists that has no place
		return nil, err
	}
	q.CSR = p.csr
	q.RequestID = p.requestID(append([]string{q.Profile, q.Lifetime.String()}, q.Identifiers...)...)
	issued, err := api.Issue(ctx, q)
	return f.settle(p, issued, err, fit, runHook)
}

// complete finishes what an earlier attempt had installed.
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

// forsake forgets a request for the key of the certificate that is there: the key is lost.
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

// errLost is why an answer to a request of these files is refused for ever: no other certificate is to be asked for with its key.
var errLost = errors.New("its key is lost: the next try asks for one with another")

// beginAnew puts a request for another key in the place of the one that is kept, whose key is lost. At no time there is none: what
// comes after a crash would know of the old certificate only, which may be good, and use the lost key again.
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

// settle installs an answer. After a refusal the request is of no use any more; after anything else it may have been
// answered, and is repeated.
func (f Files) settle(p *pending, issued *client.Issued, err error, fit func(chain []byte) error, runHook func() error) (*client.Issued, error) {
	if err == nil {
		err = p.isNew(issued.PEM)
	}
	if err == nil && fit != nil {
		err = fit(issued.PEM)
	}
	if err != nil && useless(err) && p.instead { // without it the lost key would be asked for again
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

// isNew refuses an answer that is the certificate which is to be replaced.
func (p *pending) isNew(chain []byte) error {
	_, leaf, err := parseChain(chain)
	if err == nil && digestOf(leaf) == p.replaces {
		return notNew("the certificate that is to be replaced")
	}
	return nil // what is no certificate is not installed
}

// notNew is why an answer is not installed: its request is of no use any more.
func notNew(format string, of ...any) error {
	return pki.Errorf(pki.KindConflict, "replace certificate", "the server answered with "+format, of...).InField("request_id")
}

// useless reports whether the same request would be answered by the same error for ever. The state of the server may change,
// and the request wait for an approval until then; but if the request id is what it does not allow, the request expired
// undecided, and if the certificate is what proves nothing, it is revoked for good.
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
