package agent

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"

	"signet.example/signet/ca/keys"
	"signet.example/signet/internal/durable"
	"signet.example/signet/pki"
)

// maxFile bounds every file that is read, in octets.
const maxFile = 1 << 20

// Files names the files of a certificate with its chain and of its private key. Beside the key, KEY.next keeps the key
// and the request of an unfinished renewal, so that a repetition after a crash asks for the same certificate:
//
//	KEY.next, CERTIFICATE as it was              the request may have been answered: ask again
//	KEY.next, another CERTIFICATE of its key     replace KEY, run the hook, remove KEY.next
//
// The digest in KEY.next tells the two apart. The key alone does not, if the renewal keeps it.
//
// Both files are replaced whole, the certificate first; existing files keep their mode, owner and group. For as long as
// it takes to rename a file, the two do not match. A program that reads them at that moment fails and must try again;
// the reload by the hook makes it do so.
type Files struct{ Certificate, Key string }

// Pair is an installed certificate with its key.
type Pair struct {
	Leaf *x509.Certificate
	Key  crypto.Signer
	DER  [][]byte // the certificate, then the others in its file
}

// Read reads both files. The error is of KindNotFound if one is missing.
func (f Files) Read() (*Pair, error) {
	der, leaf, err := readChain(f.Certificate)
	if err != nil {
		return nil, err
	}
	key, err := f.readKey()
	if err != nil {
		return nil, err
	}
	if !isKeyOf(key, leaf) {
		return nil, pki.Errorf(pki.KindInvalid, "read certificate", "%s is not the key of %s", f.Key, f.Certificate)
	}
	return &Pair{Leaf: leaf, Key: key, DER: der}, nil
}

// readKey reads the private key. The error is of KindNotFound if there is none.
func (f Files) readKey() (crypto.Signer, error) {
	text, err := readFile("read private key", f.Key)
	if err != nil {
		return nil, err
	}
	key, _, err := parseKey(f.Key, text)
	return key, err
}

// next returns the path of KEY.next.
func (f Files) next() string { return f.Key + ".next" }

// The headers of the request in KEY.next.
const (
	replaces = "Replaces" // the SHA-256 of the certificate to be replaced, in hexadecimal; absent if there was none
	attempt  = "Attempt"  // random, because two attempts may have the same CSR and must not share an answer
	instead  = "Instead"  // present if the key replaces a lost one
)

// pending is a key with a request for it.
type pending struct {
	key      crypto.Signer
	keyPEM   []byte
	csr      []byte
	replaces string // as in the header; empty: there was no certificate
	attempt  string // as in the header
	instead  bool   // as in the header
}

// unfinished returns the attempt that KEY.next holds, or nil if there is none.
func (f Files) unfinished() (*pending, error) {
	const op = "read unfinished renewal"
	file, err := durable.OpenOwn(f.next())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, pki.Errorf(pki.KindInvalid, op, "%w", err).
			WithHint("an agent keeps its key there for itself alone; remove it if no renewal is under way as another user")
	}
	text, err := readAll(op, file)
	if err != nil {
		return nil, err
	}
	key, rest, err := parseKey(f.next(), text)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(rest)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, pki.Errorf(pki.KindInvalid, op, "%s holds no request behind its key", f.next()).WithHint("remove it: no certificate of its key is in use")
	}
	keyPEM, err := encodeKey(key) // not the text as read: anything before the key in it would get into the key file
	if err != nil {
		return nil, pki.Errorf(pki.KindInvalid, op, "%w", err)
	}
	return &pending{key, keyPEM, block.Bytes, block.Headers[replaces], block.Headers[attempt], block.Headers[instead] != ""}, nil
}

// begin makes a request for a key and writes both to KEY.next, for the owner only, before the request is sent. The file
// also has the digest of the installed certificate. ofLost says that the key replaces a lost one.
func (f Files) begin(key crypto.Signer, ofLost bool) (*pending, error) {
	const op = "begin renewal"
	keyPEM, err := encodeKey(key)
	if err != nil {
		return nil, pki.Errorf(pki.KindInvalid, op, "%w", err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, new(x509.CertificateRequest), key)
	if err != nil {
		return nil, pki.Errorf(pki.KindInternal, op, "%w", err)
	}
	p := &pending{key: key, keyPEM: keyPEM, csr: csr, attempt: rand.Text(), instead: ofLost}
	request := &pem.Block{Type: "CERTIFICATE REQUEST", Headers: map[string]string{attempt: p.attempt}, Bytes: csr}
	if ofLost {
		request.Headers[instead] = "lost"
	}
	switch _, old, err := readChain(f.Certificate); {
	case err == nil:
		p.replaces = digestOf(old)
		request.Headers[replaces] = p.replaces
	case pki.KindOf(err) != pki.KindNotFound:
		return nil, err
	}
	text := append(bytes.Clone(p.keyPEM), pem.EncodeToMemory(request)...)
	if err := durable.Rewrite(f.next(), text, 0o600); err != nil {
		return nil, pki.Errorf(pki.KindInvalid, op, "%w", err)
	}
	return p, nil
}

// requestID returns the id of the request. It depends only on the attempt and on wish, so it is the same after a
// restart.
func (p *pending) requestID(wish ...string) string {
	digest := sha256.Sum256([]byte(string(p.csr) + "\x00" + p.attempt + "\x00" + strings.Join(wish, "\x00")))
	return "files-" + hex.EncodeToString(digest[:16])
}

// Successor makes the key that follows old: of the given algorithm, or of that of old if it is keys.NoAlgorithm.
func Successor(old crypto.Signer, algorithm keys.Algorithm) (crypto.Signer, error) {
	algorithm = cmp.Or(algorithm, keys.AlgorithmOf(old.Public()))
	if algorithm == keys.NoAlgorithm {
		return nil, pki.Errorf(pki.KindInvalid, "make key", "keys of the old key's algorithm are not made here").
			WithHint("name one: key_algorithm of the agent, or --key-algorithm of `signet renew`")
	}
	return keys.Generate(algorithm)
}

// firstKey returns the key for a request that is not a renewal. A key in the file without a certificate of its own is
// used: it was put there for that. If its certificate is there too, the key is used only with reuse, and otherwise has
// a Successor. If there is no key, firstKey generates one of the given algorithm, or ECDSA P-256.
func (f Files) firstKey(algorithm keys.Algorithm, reuse bool) (crypto.Signer, error) {
	key, err := f.readKey()
	switch {
	case err == nil:
	case pki.KindOf(err) == pki.KindNotFound:
		return keys.Generate(cmp.Or(algorithm, keys.ECDSAP256))
	default:
		return nil, f.inTheWay(err)
	}
	_, leaf, err := readChain(f.Certificate)
	switch {
	case err == nil && isKeyOf(key, leaf) && !reuse:
		return Successor(key, algorithm)
	case algorithm != keys.NoAlgorithm && keys.AlgorithmOf(key.Public()) != algorithm:
		return nil, f.inTheWay(errors.New("it is no key for " + algorithm.String()))
	}
	return key, nil
}

// inPlace reports whether the pending key is in the key file. A key there that is neither the pending one nor that of
// the certificate to be replaced is an error: something else may need it, and there may be no copy.
func (f Files) inPlace(p *pending) (bool, error) {
	key, err := f.readKey()
	switch {
	case err == nil:
	case pki.KindOf(err) == pki.KindNotFound:
		return false, nil
	default:
		return false, f.inTheWay(err)
	}
	if isPublic(key, p.key.Public()) {
		return true, nil
	}
	_, leaf, err := readChain(f.Certificate)
	switch {
	case pki.KindOf(err) == pki.KindNotFound: // the key came after firstKey looked, or a version that did not look began
		return false, f.inTheWay(errors.New("no certificate is there that is to be replaced")).
			WithHint("move it away, if it is of no use; to have it used, remove %s", f.next())
	case err != nil || !isKeyOf(key, leaf):
		return false, f.inTheWay(errors.New("it is not that of the certificate to be replaced"))
	}
	return false, nil
}

func (f Files) inTheWay(why error) *pki.Error {
	return pki.Errorf(pki.KindConflict, "replace private key", "%s holds a key that is not replaced: %w", f.Key, why).WithHint("move it away, if it is of no use")
}

// install replaces the certificate, and then the key. Both new files are durable before the first takes its place, so
// that a full disk, or a file that cannot be given the owner of the old one, leaves both as they were.
func (f Files) install(p *pending, chain []byte) error {
	const op = "install certificate"
	_, leaf, err := parseChain(chain)
	if err != nil {
		return err
	}
	if !isKeyOf(p.key, leaf) {
		return pki.Errorf(pki.KindInternal, op, "the server's answer is a certificate of another key")
	}
	inPlace, err := f.inPlace(p)
	if err != nil {
		return err
	}
	certificate, err := prepared(f.Certificate, chain, 0o644)
	if err != nil {
		return pki.Errorf(pki.KindInvalid, op, "%w", err)
	}
	defer certificate.Abandon()
	if inPlace { // the key file is not written again
		if err := certificate.Commit(); err != nil {
			return pki.Errorf(pki.KindInvalid, op, "%w", err)
		}
		return nil
	}
	key, err := prepared(f.Key, p.keyPEM, 0o600)
	if err != nil {
		return pki.Errorf(pki.KindInvalid, op, "%w", err)
	}
	defer key.Abandon()
	if err := certificate.Commit(); err != nil {
		return pki.Errorf(pki.KindInvalid, op, "%w", err)
	}
	if err := key.Commit(); err != nil {
		return pki.Errorf(pki.KindInvalid, "install key", "%w", err)
	}
	return nil
}

// installKey replaces the key if a crash came between it and the certificate.
func (f Files) installKey(p *pending) error {
	if key, err := f.readKey(); err == nil && isPublic(key, p.key.Public()) {
		return nil
	}
	if err := durable.Rewrite(f.Key, p.keyPEM, 0o600); err != nil {
		return pki.Errorf(pki.KindInvalid, "install key", "%w", err)
	}
	return nil
}

// prepared writes a durable file that only has to take its place. A file that is already there keeps mode and owner.
func prepared(path string, text []byte, mode fs.FileMode) (*durable.File, error) {
	file, err := durable.Update(path, mode)
	if err != nil {
		return nil, err
	}
	_, err = file.Write(text)
	if err == nil {
		err = file.Prepare()
	}
	if err != nil {
		file.Abandon()
		return nil, err
	}
	return file, nil
}

// installed reports whether the certificate file holds a certificate of the pending key other than the one to be
// replaced.
func (f Files) installed(p *pending) bool {
	_, leaf, err := readChain(f.Certificate)
	return err == nil && isKeyOf(p.key, leaf) && digestOf(leaf) != p.replaces
}

func digestOf(leaf *x509.Certificate) string {
	digest := sha256.Sum256(leaf.Raw)
	return hex.EncodeToString(digest[:])
}

// finish removes KEY.next, because its key is in place or of no use.
func (f Files) finish() error {
	if err := durable.Remove(f.next()); err != nil {
		return pki.Errorf(pki.KindInvalid, "finish renewal", "%w", err)
	}
	return nil
}

func isKeyOf(key crypto.Signer, leaf *x509.Certificate) bool { return isPublic(key, leaf.PublicKey) }

func isPublic(key crypto.Signer, of crypto.PublicKey) bool {
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(of)
}

func readChain(path string) (der [][]byte, leaf *x509.Certificate, err error) {
	text, err := readFile("read certificate", path)
	if err != nil {
		return nil, nil, err
	}
	if der, leaf, err = parseChain(text); err != nil {
		return nil, nil, pki.Errorf(pki.KindInvalid, "read certificate", "%s: %w", path, err)
	}
	return der, leaf, nil
}

// parseChain returns all certificates of a PEM text as DER, and the first of them parsed.
func parseChain(text []byte) (der [][]byte, leaf *x509.Certificate, err error) {
	if der = pki.CertificatesInPEM(text); len(der) == 0 {
		return nil, nil, errors.New("no certificate in PEM")
	}
	if leaf, err = x509.ParseCertificate(der[0]); err != nil {
		return nil, nil, err
	}
	return der, leaf, nil
}

func encodeKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), err
}

// parseKey reads the first unencrypted private key of a PEM text, and returns the text after it.
func parseKey(path string, text []byte) (crypto.Signer, []byte, error) {
	const op = "read private key"
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if !keys.IsPrivate(block.Type) {
			continue
		}
		signer, err := keys.ParsePrivate(block.Bytes)
		if err != nil {
			return nil, nil, pki.Errorf(pki.KindInvalid, op, "%s: the key does not parse", path) // the cause could quote key material
		}
		return signer, rest, nil
	}
	return nil, nil, pki.Errorf(pki.KindInvalid, op, "%s holds no unencrypted private key in PEM", path)
}

func readFile(op, path string) ([]byte, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, pki.Errorf(pki.KindNotFound, op, "there is no file %s", path)
	}
	if err != nil {
		return nil, &pki.Error{Kind: pki.KindInvalid, Op: op, Err: err}
	}
	return readAll(op, file)
}

// readAll reads a file and closes it.
func readAll(op string, file *os.File) ([]byte, error) {
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = errors.New(file.Name() + " is too long")
	}
	if err != nil {
		return nil, &pki.Error{Kind: pki.KindInvalid, Op: op, Err: err}
	}
	return text, nil
}
