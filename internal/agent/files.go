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

// maxFile bounds every file that is read.
const maxFile = 1 << 20

// Files are where a certificate with its chain and its private key live. Beside the key, with the suffix ".next", the key
// and the request of an unfinished renewal are kept, so that repeating it after a crash asks for the same certificate:
//
//	KEY.next, CERTIFICATE as it was              the request may have been answered: ask again
//	KEY.next, another CERTIFICATE of its key     replace KEY, tell whoever uses it, remove KEY.next
//
// The digest in KEY.next says how it was: the key alone does not, where it is kept.
//
// Both files are replaced whole, the certificate first; those that are there keep their mode, owner and group. Between the
// two they do not match, for as long as it takes to rename a file; whoever reads them then fails and must try again, which is
// what the reload after it is for.
type Files struct{ Certificate, Key string }

// Pair is a certificate that is there, with its key.
type Pair struct {
	Leaf *x509.Certificate
	Key  crypto.Signer
	DER  [][]byte // the certificate and those above it
}

// Read reads both files. KindNotFound: the certificate is not there yet.
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

// readKey reads the private key. KindNotFound: there is none.
func (f Files) readKey() (crypto.Signer, error) {
	text, err := readFile("read private key", f.Key)
	if err != nil {
		return nil, err
	}
	key, _, err := parseKey(f.Key, text)
	return key, err
}

// next is the path of what is unfinished.
func (f Files) next() string { return f.Key + ".next" }

// The headers of the request in KEY.next.
const (
	replaces = "Replaces" // the SHA-256 of the certificate that was there, in hexadecimal; without it none was
	attempt  = "Attempt"  // random: two attempts may have a request of the same octets, and each is answered for itself
	instead  = "Instead"  // there, if the key is in place of one that is lost
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

// unfinished returns what an earlier attempt left, or nil.
func (f Files) unfinished() (*pending, error) {
	const op = "read unfinished renewal"
	file, err := durable.OpenOwn(f.next())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, pki.Errorf(pki.KindInvalid, op, "%w", err).WithHint("an agent keeps its key there for itself alone; remove it if no renewal is under way as another user")
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
	keyPEM, err := encodeKey(key) // not the text that was read: what stands before a key would become a part of the key file
	if err != nil {
		return nil, pki.Errorf(pki.KindInvalid, op, "%w", err)
	}
	return &pending{key, keyPEM, block.Bytes, block.Headers[replaces], block.Headers[attempt], block.Headers[instead] != ""}, nil
}

// begin makes a request for a key, perhaps in place of one that is lost, and keeps both, for the owner only, before anybody hears of
// them, with the digest of the certificate that is there.
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

// requestID names the request: the same for the same attempt and the same wish, whatever happened to the process in between.
func (p *pending) requestID(wish ...string) string {
	digest := sha256.Sum256([]byte(string(p.csr) + "\x00" + p.attempt + "\x00" + strings.Join(wish, "\x00")))
	return "files-" + hex.EncodeToString(digest[:16])
}

// Successor makes the key that follows an old one: of the algorithm, or, if that is none, of the old one's.
func Successor(old crypto.Signer, algorithm keys.Algorithm) (crypto.Signer, error) {
	algorithm = cmp.Or(algorithm, keys.AlgorithmOf(old.Public()))
	if algorithm == keys.NoAlgorithm {
		return nil, pki.Errorf(pki.KindInvalid, "make key", "the old key is of no kind that is made here").WithHint("name one: key_algorithm of the agent, or --key-algorithm of `signet renew`")
	}
	return keys.Generate(algorithm)
}

// firstKey is the key that a certificate which is no renewal is asked for with: the one that is there already, if no
// certificate of its own is there, for whoever put it there means it to be used. With reuse it is used beside one, too.
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

// inPlace reports whether the pending key is in its file. A key that is neither this one nor that of the certificate to be
// replaced is an error: something else may need it, and there may be no copy.
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
	case pki.KindOf(err) == pki.KindNotFound: // it came after firstKey looked, or a version began that did not look
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

// install replaces the certificate, and then the key. Both are durable beside the old ones before the first takes its place,
// so that a disk that is full, or a file that cannot be given to those who had the old one, leaves both as they were.
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
	if inPlace { // the file stays as whoever made it wrote it
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

// installKey replaces the key, after the certificate.
func (f Files) installKey(p *pending) error {
	if key, err := f.readKey(); err == nil && isPublic(key, p.key.Public()) {
		return nil
	}
	if err := durable.Rewrite(f.Key, p.keyPEM, 0o600); err != nil {
		return pki.Errorf(pki.KindInvalid, "install key", "%w", err)
	}
	return nil
}

// prepared is a file that only has to take its place. A file that is there keeps mode and owner.
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

// installed reports whether the certificate that is there is of the pending key, and not the one that was there before.
func (f Files) installed(p *pending) bool {
	_, leaf, err := readChain(f.Certificate)
	return err == nil && isKeyOf(p.key, leaf) && digestOf(leaf) != p.replaces
}

func digestOf(leaf *x509.Certificate) string {
	digest := sha256.Sum256(leaf.Raw)
	return hex.EncodeToString(digest[:])
}

// finish forgets what was pending: it is in its place, or of no use.
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

// parseChain reads the certificates of a PEM text: all of them, and the first.
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

// parseKey reads an unencrypted private key, and returns what stands behind it.
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
