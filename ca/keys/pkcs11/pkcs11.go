//go:build cgo

package pkcs11

import (
	"cmp"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/ThalesGroup/crypto11"
	"github.com/miekg/pkcs11"

	"signet.example/signet/ca/keys"
	"signet.example/signet/internal/durable"
	"signet.example/signet/pki"
)

const (
	secretType = "SIGNET SERIAL SECRET"
	// maxWait is how long a signature waits for a session, or for the token to be opened again, before it fails.
	maxWait = 10 * time.Second
)

// Store keeps keys in one token. It is safe for concurrent use.
type Store struct {
	config Config

	mu         sync.RWMutex // guards the rest
	token      *crypto11.Context
	generation int      // grows whenever the token is opened again; object handles of earlier generations are void
	opening    *opening // nil: it is not being opened again
	closed     bool
}

// opening is an attempt to open the token again, shared by all callers that need it.
type opening struct {
	done chan struct{} // closed when err is set
	err  error
}

// New logs in to the token. If the token is not there, does not work, or refuses the PIN, the error is of
// KindUnavailable. If the module does not exist, it is of KindFailedPrecondition. If the module hangs, so does New:
// see keys.Late.
func New(config Config) (*Store, error) {
	if err := config.check(); err != nil {
		return nil, err
	}
	config.MaxSessions = cmp.Or(config.MaxSessions, 8)
	s := &Store{config: config}
	token, err := s.login()
	if err != nil {
		return nil, err
	}
	s.token = token
	return s, nil
}

var errClosed = pki.Errorf(pki.KindUnavailable, "open token", "the store is closed").InField("token")

// Close logs out. It does not wait for a token that is being opened again: that is closed once it is open.
func (s *Store) Close() error {
	s.mu.Lock()
	s.closed = true
	token := s.token
	s.mu.Unlock()
	return token.Close()
}

func (s *Store) login() (*crypto11.Context, error) {
	pin, err := s.config.PIN.get()
	if err != nil {
		return nil, err
	}
	token, err := crypto11.Configure(&crypto11.Config{
		Path: s.config.Module, TokenLabel: s.config.Token, Pin: string(pin), MaxSessions: s.config.MaxSessions, PoolWaitTimeout: maxWait,
	})
	switch {
	case err == nil:
		return token, nil
	case pinRefused(err):
		return nil, s.config.PIN.refuse(pin, err)
	}
	kind := pki.KindUnavailable
	if _, statErr := os.Stat(s.config.Module); statErr != nil {
		kind = pki.KindFailedPrecondition
	}
	return nil, pki.Errorf(kind, "open token", "token %q by module %s: %w", s.config.Token, s.config.Module, err).InField("token").
		WithHint("is the token or its network there? are the module's path and the token's label right?")
}

// pinRefused reports whether the token refused the PIN. The PIN must then not be tried again, because a token locks
// itself after some wrong PINs.
func pinRefused(err error) bool {
	code, ok := errors.AsType[pkcs11.Error](err)
	if !ok {
		return false
	}
	switch code {
	case pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_INVALID, pkcs11.CKR_PIN_LEN_RANGE, pkcs11.CKR_PIN_EXPIRED, pkcs11.CKR_PIN_LOCKED,
		pkcs11.CKR_USER_PIN_NOT_INITIALIZED:
		return true
	}
	return false
}

// URI returns the URI of a key: the token and the object.
func (s *Store) URI(name string) string { return uriOf(s.config.Token, name) }

// Create makes a key in the token, which cannot be extracted, and its serial secret in a file.
func (s *Store) Create(ctx context.Context, name string, algorithm keys.Algorithm) (*keys.Key, error) {
	const op = "create key"
	if err := keys.CheckName(op, name); err != nil {
		return nil, err
	}
	if curves[algorithm] == nil && bits[algorithm] == 0 {
		return nil, pki.Errorf(pki.KindInvalid, op, "keys in a token are ECDSA or RSA").InField("algorithm").
			WithHint("choose one of these; %s keys can be made where keys.store is softkey", algorithm)
	}
	token, _ := s.opened()
	if known, err := token.FindKeyPairs(nil, []byte(name)); err != nil {
		return nil, pki.Errorf(pki.KindUnavailable, op, "%w", err)
	} else if len(known) > 0 {
		return nil, taken(op, name)
	}
	// The secret first: a key without its secret could sign, but its serial numbers could not be computed.
	secret, sealed, err := keys.NewSecret(s.config.Passphrase)
	if err != nil {
		return nil, &pki.Error{Kind: pki.KindInternal, Op: op, Err: err}
	}
	err = durable.WriteNew(s.secretPath(name), pem.EncodeToMemory(&pem.Block{Type: secretType, Bytes: sealed}), 0o600)
	switch {
	case pki.KindOf(err) == pki.KindConflict: // an earlier call broke off before it made the key
		if secret, err = s.readSecret(name); err != nil {
			return nil, pki.Errorf(pki.KindFailedPrecondition, op, "%s: %w", s.secretPath(name), err).InField("key")
		}
	case err != nil:
		return nil, pki.Errorf(pki.KindInternal, op, "write: %w", err)
	}
	private, err := generate(token, name, algorithm)
	if err != nil {
		return nil, pki.Errorf(pki.KindUnavailable, op, "%w", err).InField("algorithm").WithHint("check that the token supports this algorithm")
	}
	return s.key(name, private, secret), nil
}

// Import makes the serial secret of a key that is already in the token, such as the key of a CA to be adopted. The
// name is its label there. Before anything is written, Import calls check with the public key and asks the token for a
// signature. It never overwrites a secret.
func (s *Store) Import(ctx context.Context, name string, check func(crypto.PublicKey) error) (*keys.Key, error) {
	const op = "import key"
	if err := keys.CheckName(op, name); err != nil {
		return nil, err
	}
	private, _, err := s.find(name)
	if err != nil {
		return nil, err
	}
	if algorithm := keys.AlgorithmOf(private.Public()); curves[algorithm] == nil && bits[algorithm] == 0 {
		return nil, pki.Errorf(pki.KindInvalid, op, "keys in a token are ECDSA on P-256, P-384 or P-521, or RSA of 2048, 3072 or 4096 bits").InField("key")
	}
	if err := check(private.Public()); err != nil {
		return nil, err
	}
	if err := trySigning(private); err != nil {
		return nil, pki.Errorf(pki.KindFailedPrecondition, op, "token %q cannot sign with %q: %w", s.config.Token, name, err).InField("key").
			WithHint("check that the key may be used to sign (CKA_SIGN), and that the public key with this label is its own")
	}
	secret, sealed, err := keys.NewSecret(s.config.Passphrase)
	if err != nil {
		return nil, &pki.Error{Kind: pki.KindInternal, Op: op, Err: err}
	}
	err = durable.WriteNew(s.secretPath(name), pem.EncodeToMemory(&pem.Block{Type: secretType, Bytes: sealed}), 0o600)
	switch {
	case pki.KindOf(err) == pki.KindConflict:
		return nil, taken(op, name)
	case err != nil:
		return nil, pki.Errorf(pki.KindInternal, op, "write: %w", err)
	}
	return s.key(name, private, secret), nil
}

// trySigning asks for a signature, and verifies it with the public key that the token shows for the private one.
func trySigning(private crypto.Signer) error {
	digest := sha256.Sum256([]byte("signet key import"))
	signature, err := private.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return err
	}
	verified := false
	switch public := private.Public().(type) {
	case *ecdsa.PublicKey:
		verified = ecdsa.VerifyASN1(public, digest[:], signature)
	case *rsa.PublicKey:
		verified = rsa.VerifyPKCS1v15(public, crypto.SHA256, digest[:], signature) == nil
	}
	if !verified {
		return errors.New("its signature does not verify")
	}
	return nil
}

func taken(op, name string) error {
	return pki.Errorf(pki.KindConflict, op, "a key named %s exists already", name).InField("name").WithHint("choose another name: keys are never overwritten")
}

// opened returns the open token and its generation. Callers use the token without a lock, so that a call into it that
// does not return cannot keep others from logging in again.
func (s *Store) opened() (*crypto11.Context, int) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.token, s.generation
}

// The kinds of key that can be made in a token.
var (
	curves = map[keys.Algorithm]elliptic.Curve{keys.ECDSAP256: elliptic.P256(), keys.ECDSAP384: elliptic.P384(), keys.ECDSAP521: elliptic.P521()}
	bits   = map[keys.Algorithm]int{keys.RSA2048: 2048, keys.RSA3072: 3072, keys.RSA4096: 4096}
)

func generate(token *crypto11.Context, name string, algorithm keys.Algorithm) (crypto.Signer, error) {
	id, label := []byte(name), []byte(name)
	if curve := curves[algorithm]; curve != nil {
		return token.GenerateECDSAKeyPairWithLabel(id, label, curve)
	}
	return token.GenerateRSAKeyPairWithLabel(id, label, bits[algorithm])
}

// Open finds a key in the token.
func (s *Store) Open(ctx context.Context, uri string) (*keys.Key, error) {
	const op = "open key"
	token, object, err := parseURI(uri)
	if err != nil {
		return nil, err
	}
	if token != s.config.Token {
		return nil, pki.Errorf(pki.KindFailedPrecondition, op, "the key is in token %q; %q is open", token, s.config.Token).InField("key")
	}
	if err := keys.CheckName(op, object); err != nil {
		return nil, err
	}
	private, _, err := s.find(object)
	if err != nil {
		return nil, err
	}
	secret, err := s.readSecret(object)
	if err != nil {
		return nil, pki.Errorf(pki.KindFailedPrecondition, op, "%s: %w", s.secretPath(object), err).InField("key").
			WithHint("restore the secrets with the token; without this one no serial number can be made. "+
				"If another program made the key: signet key import %s --token", object)
	}
	return s.key(object, private, secret), nil
}

func (s *Store) find(object string) (crypto.Signer, int, error) {
	const op = "open key"
	token, generation := s.opened()
	pairs, err := token.FindKeyPairs(nil, []byte(object))
	if err != nil {
		return nil, 0, pki.Errorf(pki.KindUnavailable, op, "%w", err).InField("key")
	}
	switch len(pairs) {
	case 0:
		return nil, 0, pki.Errorf(pki.KindNotFound, op, "token %q has no key %q", s.config.Token, object).InField("key")
	case 1:
		return pairs[0], generation, nil
	}
	return nil, 0, pki.Errorf(pki.KindFailedPrecondition, op, "token %q has %d keys %q", s.config.Token, len(pairs), object).InField("key").
		WithHint("give all but one another label: a key is found by its label alone")
}

func (s *Store) key(name string, private crypto.Signer, secret pki.SerialSecret) *keys.Key {
	return &keys.Key{Signer: &signer{store: s, object: name, public: private.Public(), generation: -1}, URI: s.URI(name), Secret: secret}
}

func (s *Store) secretPath(name string) string {
	return filepath.Join(s.config.SecretsDir, name+".serial")
}

func (s *Store) readSecret(name string) (pki.SerialSecret, error) {
	text, err := os.ReadFile(s.secretPath(name))
	if err != nil {
		return pki.SerialSecret{}, err
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != secretType {
		return pki.SerialSecret{}, errors.New("it holds no serial secret")
	}
	return keys.OpenSecret(block.Bytes, s.config.Passphrase)
}

// reopen logs in again, unless another call has done so since the generation that failed. A login that does not return
// does not affect callers whose sessions work. A caller that waits for it gives up after maxWait, and joins the same
// login when it asks again. A PIN that was refused is not tried again: every signature would try it, and the token
// would lock itself.
func (s *Store) reopen(failed int) error {
	s.mu.Lock()
	if s.generation != failed || s.closed {
		defer s.mu.Unlock()
		if s.generation != failed {
			return nil
		}
		return errClosed
	}
	o := s.opening
	if o == nil {
		o = &opening{done: make(chan struct{})}
		s.opening = o
		go s.loginAgain(o)
	}
	s.mu.Unlock()
	select {
	case <-o.done:
		return o.err
	case <-time.After(maxWait):
		return pki.Errorf(pki.KindUnavailable, "open token", "logging in has not returned for %s", maxWait).InField("token")
	}
}

func (s *Store) loginAgain(o *opening) {
	token, err := s.login() // before the old context is closed, because the module is unloaded with its last user
	s.mu.Lock()
	defer s.mu.Unlock()
	defer close(o.done)
	s.opening, o.err = nil, err
	switch {
	case s.closed: // meanwhile
		o.err = errClosed
		if err == nil {
			go token.Close()
		}
	case err == nil:
		go s.token.Close() // it waits for its sessions, some of which may never come back
		s.token = token
		s.generation++
	}
}

// signer is a key of the token that survives the loss of sessions.
type signer struct {
	store  *Store
	object string
	public crypto.PublicKey

	mu         sync.Mutex // guards the rest
	private    crypto.Signer
	generation int
}

func (k *signer) Public() crypto.PublicKey { return k.public }

// Sign signs in the token. If the sessions are lost (the token was pulled, the network HSM restarted) it logs in once
// more and tries again. The error wraps keys.ErrNotAsked if no attempt got as far as asking for a signature.
func (k *signer) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	signature, generation, asked, err := k.try(random, digest, opts)
	// If the generation has changed, the old login may have been closed during the attempt.
	if _, now := k.store.opened(); err != nil && (now != generation || sessionLost(err)) {
		if err = k.store.reopen(generation); err == nil {
			var again bool
			signature, _, again, err = k.try(random, digest, opts)
			asked = asked || again
		}
	}
	if err != nil && !asked {
		err = fmt.Errorf("%w: %w", keys.ErrNotAsked, err)
	}
	return signature, err
}

// try asks for a signature once. asked reports whether it got as far as that.
func (k *signer) try(random io.Reader, digest []byte, opts crypto.SignerOpts) (signature []byte, generation int, asked bool, err error) {
	private, generation, err := k.current()
	if err != nil {
		return nil, generation, false, err
	}
	if signature, err = private.Sign(random, digest, opts); err != nil {
		k.mu.Lock()
		if k.generation == generation {
			k.private = nil // the next call finds the key first, which fails at no cost if the token is away
		}
		k.mu.Unlock()
	}
	return signature, generation, true, err
}

// current returns the key's handle of the present generation.
func (k *signer) current() (crypto.Signer, int, error) {
	_, now := k.store.opened()
	k.mu.Lock()
	private, known := k.private, k.generation
	k.mu.Unlock()
	if private != nil && known == now {
		return private, now, nil
	}
	private, generation, err := k.store.find(k.object)
	if err != nil {
		if known == now && pki.KindOf(err) == pki.KindNotFound {
			err = fmt.Errorf("%w: %w", errLoggedOut, err)
		}
		return nil, now, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.private, k.generation = private, generation
	return private, generation, nil
}

// errLoggedOut is the error about a key that this login has seen before but no longer finds: a token shows private
// keys only to a session that is logged in.
var errLoggedOut = errors.New("the login may have ended")

func sessionLost(err error) bool {
	if errors.Is(err, errLoggedOut) {
		return true
	}
	code, ok := errors.AsType[pkcs11.Error](err)
	if !ok {
		return false
	}
	switch code {
	case pkcs11.CKR_SESSION_HANDLE_INVALID, pkcs11.CKR_SESSION_CLOSED, pkcs11.CKR_USER_NOT_LOGGED_IN, pkcs11.CKR_OBJECT_HANDLE_INVALID,
		pkcs11.CKR_KEY_HANDLE_INVALID, pkcs11.CKR_DEVICE_ERROR, pkcs11.CKR_DEVICE_REMOVED, pkcs11.CKR_TOKEN_NOT_PRESENT, pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED,
		pkcs11.CKR_OPERATION_ACTIVE: // a signature broke off and left its session unusable
		return true
	}
	return false
}
