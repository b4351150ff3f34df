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
	generation int      // grows whenever the token is opened again: object handles of before are void
	opening    *opening // nil: it is not being opened again
	closed     bool
}

// opening is a token that is being opened again, for all who ask.
type opening struct {
	done chan struct{} // closed when err is set
	err  error
}

// New logs in to the token. One that is not there, does not work, or refuses the PIN is an error of KindUnavailable; a module that
// does not exist is of KindFailedPrecondition. A module that hangs keeps New: see keys.Late.
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
	return nil, pki.Errorf(kind, "open token", "token %q by module %s: %w", s.config.Token, s.config.Module, err).InField("token").WithHint("is the token or its network there? are the module's path and the token's label right?")
}

// pinRefused reports what must not be tried again: a token locks itself after some wrong PINs.
func pinRefused(err error) bool {
	code, ok := errors.AsType[pkcs11.Error](err)
	if !ok {
		return false
	}
	switch code {
	case pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_INVALID, pkcs11.CKR_PIN_LEN_RANGE, pkcs11.CKR_PIN_EXPIRED, pkcs11.CKR_PIN_LOCKED, pkcs11.CKR_USER_PIN_NOT_INITIALIZED:
		return true
	}
	return false
}

// URI names the token and the object.
func (s *Store) URI(name string) string { return uriOf(s.config.Token, name) }

// Create makes a key in the token, which will not give it away, and its serial secret beside it.
func (s *Store) Create(ctx context.Context, name string, algorithm keys.Algorithm) (*keys.Key, error) {
	const op = "create key"
	if err := keys.CheckName(op, name); err != nil {
		return nil, err
	}
	if curves[algorithm] == nil && bits[algorithm] == 0 {
		return nil, pki.Errorf(pki.KindInvalid, op, "keys in a token are ECDSA or RSA").InField("algorithm").WithHint("choose such a one; %s keys are made where keys.store is softkey", algorithm)
	}
	token, _ := s.opened()
	if known, err := token.FindKeyPairs(nil, []byte(name)); err != nil {
		return nil, pki.Errorf(pki.KindUnavailable, op, "%w", err)
	} else if len(known) > 0 {
		return nil, taken(op, name)
	}
	// The secret first: a key without its secret could sign and not name what it signed.
	secret, sealed, err := keys.NewSecret(s.config.Passphrase)
	if err != nil {
		return nil, &pki.Error{Kind: pki.KindInternal, Op: op, Err: err}
	}
	err = durable.WriteNew(s.secretPath(name), pem.EncodeToMemory(&pem.Block{Type: secretType, Bytes: sealed}), 0o600)
	switch {
	case pki.KindOf(err) == pki.KindConflict: // of a call that broke off before the key
		if secret, err = s.readSecret(name); err != nil {
			return nil, pki.Errorf(pki.KindFailedPrecondition, op, "%s: %w", s.secretPath(name), err).InField("key")
		}
	case err != nil:
		return nil, pki.Errorf(pki.KindInternal, op, "write: %w", err)
	}
	private, err := generate(token, name, algorithm)
	if err != nil {
		return nil, pki.Errorf(pki.KindUnavailable, op, "%w", err).InField("algorithm").WithHint("does the token know this algorithm?")
	}
	return s.key(name, private, secret), nil
}

// Import makes the serial secret of a key that is in the token already, such as that of a CA to be taken over. The name is its label
// there. What check says of the public key is asked, and the token for a signature, before anything is written. It never overwrites.
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
			WithHint("may the key be used to sign (CKA_SIGN), and is the public key with this label its own?")
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

// trySigning asks for a signature, and whether it is one by the public key that the token shows for the private one.
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
		return errors.New("what it signed does not verify")
	}
	return nil
}

func taken(op, name string) error {
	return pki.Errorf(pki.KindConflict, op, "a key named %s exists already", name).InField("name").WithHint("choose another name: keys are never overwritten")
}

// opened returns the token as it is open now. No lock is held while it is called: a call that does not return must not
// keep others from logging in again.
func (s *Store) opened() (*crypto11.Context, int) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.token, s.generation
}

// The kinds of key that a token makes here.
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
			WithHint("restore the secrets with the token; without this one no serial number can be made. If another program made the key: signet key import %s --token", object)
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

// reopen logs in again, unless another call did since the generation that failed. A login that does not return keeps nobody whose
// sessions work; who waits for it gives up after maxWait, and joins it when asking again. A PIN that was refused is not tried again:
// every signature would, and the token lock itself.
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
	token, err := s.login() // before the old one goes: the module is unloaded with its last user
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

// signer is a key of the token that outlives the sessions it is used through.
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
// more and tries again. An error is keys.ErrNotAsked if no attempt came as far as to ask for a signature.
func (k *signer) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	signature, generation, asked, err := k.try(random, digest, opts)
	if _, now := k.store.opened(); err != nil && (now != generation || sessionLost(err)) { // of another: the old login may have been closed beneath it
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

// try asks for a signature once, and says whether it came as far as that.
func (k *signer) try(random io.Reader, digest []byte, opts crypto.SignerOpts) (signature []byte, generation int, asked bool, err error) {
	private, generation, err := k.current()
	if err != nil {
		return nil, generation, false, err
	}
	if signature, err = private.Sign(random, digest, opts); err != nil {
		k.mu.Lock()
		if k.generation == generation {
			k.private = nil // the next call looks for it first, which a token that is away fails at no cost
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

// errLoggedOut is of a key that this login has seen and does not find: a token shows private keys only while it is logged in to.
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
		pkcs11.CKR_OPERATION_ACTIVE: // a signature broke off and left its session in a state that no other can use
		return true
	}
	return false
}
