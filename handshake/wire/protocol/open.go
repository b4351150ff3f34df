package protocol

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"strings"

	"golang.org/x/crypto/chacha20poly1305"
	"golang.org/x/crypto/cryptobyte"
)

// errSealed is the error of a wrong key or an altered record: by design the two cannot be told apart.
var errSealed = errors.New("the record does not open with this key")

// Opener opens the protected records of one direction. It counts them, so every record must be passed to it, in order.
type Opener interface {
	// Open returns the content type and the content of a record. header is the record's five octets.
	Open(header, payload []byte) (kind byte, content []byte, err error)
}

// TrafficOpener opens records of TLS 1.3 (RFC 8446, Section 5.2).
type TrafficOpener struct {
	suite  Suite
	secret []byte // traffic secret, kept for KeyUpdate
	aead   cipher.AEAD
	iv     []byte
	seq    uint64
}

// NewTrafficOpener returns an Opener for the records that are protected under a traffic secret (RFC 8446, Section 7.3).
func NewTrafficOpener(suite Suite, secret []byte) (*TrafficOpener, error) {
	keyLen, err := suite.KeyLength()
	if err != nil {
		return nil, err
	}
	key := expandLabel(suite, secret, "key", nil, keyLen)
	aead, err := suite.aead(key)
	if err != nil {
		return nil, err
	}
	return &TrafficOpener{suite: suite, secret: secret, aead: aead, iv: expandLabel(suite, secret, "iv", nil, aead.NonceSize())}, nil
}

func (o *TrafficOpener) Open(header, payload []byte) (byte, []byte, error) {
	content, err := o.aead.Open(nil, nonce(o.iv, o.seq), payload, header)
	if err != nil {
		return 0, nil, errSealed
	}
	o.seq++
	// The content type stands behind the content and before padding of zeros (RFC 8446, Section 5.4).
	for i := len(content) - 1; i >= 0; i-- {
		if content[i] != 0 {
			return content[i], content[:i], nil
		}
	}
	return 0, nil, errors.New("a protected record without content type")
}

// Next returns the opener after a KeyUpdate (RFC 8446, Section 7.2).
func (o *TrafficOpener) Next() (*TrafficOpener, error) {
	return NewTrafficOpener(o.suite, expandLabel(o.suite, o.secret, "traffic upd", nil, o.suite.Hash().Size()))
}

// Finished returns the verify_data that the owner of a handshake traffic secret sends (RFC 8446, Section 4.4.4).
func (o *TrafficOpener) Finished(transcript []byte) []byte {
	mac := hmac.New(o.suite.Hash().New, expandLabel(o.suite, o.secret, "finished", nil, o.suite.Hash().Size()))
	mac.Write(transcript)
	return mac.Sum(nil)
}

// nonce returns the static IV with the record's number XORed into its end (RFC 8446, Section 5.3; RFC 7905, Section 2).
func nonce(iv []byte, seq uint64) []byte {
	n := make([]byte, len(iv))
	binary.BigEndian.PutUint64(n[len(n)-8:], seq)
	subtle.XORBytes(n, n, iv)
	return n
}

// KeyLength returns the length of the suite's encryption key in octets.
func (s Suite) KeyLength() (int, error) {
	c := s.cipher()
	switch {
	case strings.HasPrefix(c, "AES_128_GCM"), strings.HasPrefix(c, "AES_128_CBC"):
		return 16, nil
	case strings.HasPrefix(c, "AES_256_GCM"), strings.HasPrefix(c, "AES_256_CBC"), strings.HasPrefix(c, "CHACHA20_POLY1305"):
		return 32, nil
	}
	return 0, fmt.Errorf("open records of %s: not built in", s)
}

func (s Suite) aead(key []byte) (cipher.AEAD, error) {
	if strings.HasPrefix(s.cipher(), "CHACHA20_POLY1305") {
		return chacha20poly1305.New(key)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// Opener splits the key block (RFC 5246, Section 6.3) and returns the opener for records from one side.
func (k Keys12) Opener(from Role, clientRandom, serverRandom []byte) (Opener, error) {
	keyLen, err := k.Suite.KeyLength()
	if err != nil {
		return nil, err
	}
	macLen, ivLen := k.Suite.MACLength(), k.Suite.NonceLength()
	seed := append(append([]byte{}, serverRandom...), clientRandom...)
	block := cryptobyte.String(prf(k.Suite, k.Master, "key expansion", seed, 2*(macLen+keyLen+ivLen)))
	var mac, key, iv [2][]byte
	for _, part := range []struct {
		out    *[2][]byte
		length int
	}{{&mac, macLen}, {&key, keyLen}, {&iv, ivLen}} {
		block.ReadBytes(&part.out[Client], part.length)
		block.ReadBytes(&part.out[Server], part.length)
	}
	if macLen > 0 {
		return newOpenerCBC(k.Suite, key[from], mac[from])
	}
	aead, err := k.Suite.aead(key[from])
	if err != nil {
		return nil, err
	}
	return &opener12{aead: aead, iv: iv[from]}, nil
}

// MACLength returns the length of the key of a separate MAC in octets, 0 for suites with authenticated encryption.
func (s Suite) MACLength() int {
	c := s.cipher()
	switch {
	case !strings.Contains(c, "_CBC_"):
		return 0
	case strings.HasSuffix(c, "_SHA256"):
		return sha256.Size
	case strings.HasSuffix(c, "_SHA384"):
		return 48
	}
	return sha1.Size
}

// NonceLength returns the length in octets of the part of the nonce that comes from the key block.
func (s Suite) NonceLength() int {
	switch {
	case strings.HasPrefix(s.cipher(), "CHACHA20"):
		return chacha20poly1305.NonceSize // RFC 7905, Section 2
	case strings.Contains(s.cipher(), "_GCM_"):
		return 4 // RFC 5288, Section 3
	}
	return 0
}

// opener12 opens records of TLS 1.2 under AES-GCM (RFC 5288) and ChaCha20-Poly1305 (RFC 7905).
type opener12 struct {
	aead cipher.AEAD
	iv   []byte
	seq  uint64
}

func (o *opener12) Open(header, payload []byte) (byte, []byte, error) {
	var n []byte
	if len(o.iv) == o.aead.NonceSize() {
		n = nonce(o.iv, o.seq)
	} else {
		explicit := o.aead.NonceSize() - len(o.iv)
		if len(payload) < explicit {
			return 0, nil, errSealed
		}
		n = append(append([]byte{}, o.iv...), payload[:explicit]...)
		payload = payload[explicit:]
	}
	if len(payload) < o.aead.Overhead() {
		return 0, nil, errSealed
	}
	content, err := o.aead.Open(nil, n, payload, additional12(o.seq, header, len(payload)-o.aead.Overhead()))
	if err != nil {
		return 0, nil, errSealed
	}
	o.seq++
	return header[0], content, nil
}

// additional12 returns the additional data that a MAC of TLS 1.2 covers (RFC 5246, Section 6.2.3.3).
func additional12(seq uint64, header []byte, length int) []byte {
	ad := binary.BigEndian.AppendUint64(nil, seq)
	ad = append(ad, header[:3]...)
	return binary.BigEndian.AppendUint16(ad, uint16(length))
}

// openerCBC opens records of TLS 1.2 under AES-CBC with HMAC (RFC 5246, Section 6.2.3.2). It does not resist a
// padding oracle and need not: no peer learns from it whether, or when, a record failed to open.
type openerCBC struct {
	block cipher.Block
	mac   hash.Hash
	seq   uint64
}

func newOpenerCBC(suite Suite, key, macKey []byte) (*openerCBC, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	newHash := sha1.New
	switch len(macKey) {
	case sha256.Size:
		newHash = sha256.New
	case 48:
		newHash = suite.Hash().New
	}
	return &openerCBC{block: block, mac: hmac.New(newHash, macKey)}, nil
}

func (o *openerCBC) Open(header, payload []byte) (byte, []byte, error) {
	size := o.block.BlockSize()
	if len(payload) < 2*size || len(payload)%size != 0 {
		return 0, nil, errSealed
	}
	content := make([]byte, len(payload)-size)
	cipher.NewCBCDecrypter(o.block, payload[:size]).CryptBlocks(content, payload[size:])
	padding := int(content[len(content)-1]) + 1
	if padding+o.mac.Size() > len(content) {
		return 0, nil, errSealed
	}
	content = content[:len(content)-padding]
	content, sum := content[:len(content)-o.mac.Size()], content[len(content)-o.mac.Size():]
	o.mac.Reset()
	o.mac.Write(additional12(o.seq, header, len(content)))
	o.mac.Write(content)
	if !hmac.Equal(sum, o.mac.Sum(nil)) {
		return 0, nil, errSealed
	}
	o.seq++
	return header[0], content, nil
}
