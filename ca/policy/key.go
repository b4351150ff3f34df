package policy

import (
	"bufio"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	_ "embed"
	"encoding/hex"
	"fmt"
	"io"
	"math/big"
	"slices"
	"strings"
	"sync"

	"signet.example/signet/ca/keys"
	"signet.example/signet/ca/profile"
	"signet.example/signet/pki"
)

const newKey = "make a new key, with other software or hardware; no profile allows this one"

// keyField is the field that every error about the key names.
const keyField = "csr"

// CheckKeyShape refuses keys that must not even be used to verify the request's signature: keys of a kind or size that
// the profile does not allow, RSA keys whose modulus or exponent makes verification meaningless, and Ed25519 keys of
// small order. It is cheap.
func CheckKeyShape(p *profile.Profile, pub crypto.PublicKey) error {
	switch key := pub.(type) {
	case *rsa.PublicKey:
		if err := checkRSAShape(key); err != nil {
			return err
		}
	case ed25519.PublicKey:
		if smallOrder(key) {
			return refuse(keyField, "anyone can sign for this Ed25519 key: its point has a small order").WithHint(newKey)
		}
	}
	algorithm := keys.AlgorithmOf(pub)
	if algorithm == keys.NoAlgorithm || !slices.Contains(p.Algorithms, algorithm) {
		var want []string
		for _, a := range p.Algorithms {
			want = append(want, a.String())
		}
		return refuse(keyField, "profile %s does not allow %s", p.Name, describe(pub)).WithHint("use one of %s", strings.Join(want, ", "))
	}
	return nil
}

func describe(pub crypto.PublicKey) string {
	switch key := pub.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("an RSA key of %d bits", key.N.BitLen())
	case *ecdsa.PublicKey:
		return "a key on " + key.Curve.Params().Name
	case ed25519.PublicKey:
		return "an Ed25519 key"
	}
	if set, _ := pki.MLDSAOf(pub); set != pki.NoMLDSA {
		return "an " + set.String() + " key"
	}
	return "this kind of key"
}

func checkRSAShape(key *rsa.PublicKey) error {
	// CA/Browser Forum Baseline Requirements, Section 6.1.6: odd, at least 2^16 + 1.
	if key.E < 65537 || key.E%2 == 0 {
		return refuse(keyField, "RSA exponent %d: want an odd one of at least 65537", key.E).WithHint(newKey)
	}
	if key.N.Bit(0) == 0 {
		return refuse(keyField, "the RSA modulus is even").WithHint(newKey)
	}
	return nil
}

// smallOrders are the y-coordinates of the points of Ed25519 whose order divides 8, in every encoding that
// crypto/ed25519 accepts: the values 0, 1 and -1, reduced modulo the prime and not, and the two of order 8 (RFC 8032,
// Section 5.1.3).
var smallOrders = [...]string{
	"0000000000000000000000000000000000000000000000000000000000000000",
	"0100000000000000000000000000000000000000000000000000000000000000",
	"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
	"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
}

func smallOrder(key ed25519.PublicKey) bool {
	y := slices.Clone(key)
	y[len(y)-1] &= 0x7f // the sign of x
	return slices.Contains(smallOrders[:], hex.EncodeToString(y))
}

// CheckKey refuses keys whose private half can be computed from the public half or is published, and the keys in weak.
func CheckKey(pub crypto.PublicKey, weak WeakKeys) error {
	if key, ok := pub.(*rsa.PublicKey); ok {
		if err := checkRSAFactors(key.N); err != nil {
			return err
		}
	}
	spki, err := pki.HashPublicKey(pub)
	if err != nil {
		return refuse(keyField, "cannot be encoded: %w", err)
	}
	if where, known := published()[spki]; known {
		return refuse(keyField, "%s", where).WithHint(newKey)
	}
	if len(weak) == 0 {
		return nil
	}
	for _, hash := range []pki.KeyHash{spki, pki.HashKeyMaterial(pub)} {
		if reason, known := weak[hash]; known {
			return refuse(keyField, "the key is on the list of weak keys: %s", reason).WithHint(newKey)
		}
	}
	return nil
}

func checkRSAFactors(n *big.Int) error {
	tables := smallPrimes()
	if new(big.Int).GCD(nil, nil, n, tables.product).BitLen() > 1 {
		return refuse(keyField, "the RSA modulus has a small factor").WithHint(newKey)
	}
	if tables.roca(n) {
		return refuse(keyField, "the RSA key has the structure of a broken generator (ROCA, CVE-2017-15361)").WithHint(newKey)
	}
	if closePrimes(n) {
		return refuse(keyField, "the RSA primes are so close that Fermat's method finds them").WithHint(newKey)
	}
	return nil
}

// fermatRounds bounds the candidates that Fermat's method tries. Honest keys need about 2^(bits/4) or more.
const fermatRounds = 100

func closePrimes(n *big.Int) bool {
	a := new(big.Int).Sqrt(n)
	square, b2, b := new(big.Int), new(big.Int), new(big.Int)
	for range fermatRounds {
		a.Add(a, big.NewInt(1))
		b2.Sub(square.Mul(a, a), n)
		if low := b2.Bits(); len(low) > 0 && low[0]&3 > 1 {
			continue // squares are 0 or 1 modulo 4
		}
		b.Sqrt(b2)
		if square.Mul(b, b).Cmp(b2) == 0 {
			return true
		}
	}
	root := new(big.Int).Sqrt(n)
	return root.Mul(root, root).Cmp(n) == 0
}

type primeTables struct {
	product *big.Int // of the primes below 2^13
	tests   []rocaTest
}

// rocaTest holds which residues modulo prime are powers of 65537.
type rocaTest struct {
	prime  uint64
	powers []bool
}

var smallPrimes = sync.OnceValue(func() primeTables {
	const limit, rocaLimit = 1 << 13, 167
	t := primeTables{product: big.NewInt(1)}
	composite := make([]bool, limit)
	for p := 2; p < limit; p++ {
		if composite[p] {
			continue
		}
		for multiple := p * p; multiple < limit; multiple += p {
			composite[multiple] = true
		}
		t.product.Mul(t.product, big.NewInt(int64(p)))
		if p > 2 && p <= rocaLimit {
			t.tests = append(t.tests, newROCATest(uint64(p)))
		}
	}
	return t
})

func newROCATest(prime uint64) rocaTest {
	t := rocaTest{prime, make([]bool, prime)}
	for power := uint64(1); !t.powers[power]; power = power * 65537 % prime {
		t.powers[power] = true
	}
	return t
}

// roca reports whether the modulus is a power of 65537 modulo every odd prime up to 167. All moduli of the broken
// generator are, and about one honest modulus in 2^60 (Nemec and others, "The Return of Coppersmith's Attack", 2017).
func (t primeTables) roca(n *big.Int) bool {
	rest := new(big.Int)
	for _, test := range t.tests {
		if !test.powers[rest.Mod(n, new(big.Int).SetUint64(test.prime)).Uint64()] {
			return false
		}
	}
	return true
}

//go:embed published_keys.txt
var publishedKeys string

// published holds keys whose private halves everyone can read in the sources of widespread programs.
var published = sync.OnceValue(func() WeakKeys {
	weak, err := ReadWeakKeys(strings.NewReader(publishedKeys))
	if err != nil {
		panic(err) // the file is part of the program
	}
	return weak
})

// WeakKeys maps keys that must not be certified to the reason. A key is the SHA-256 of the SPKI or
// pki.HashKeyMaterial.
type WeakKeys map[pki.KeyHash]string

// ReadWeakKeys reads one key per line: 64 hexadecimal digits, optionally followed by the reason. It skips empty lines
// and lines that begin with #. Errors are of KindInvalid and name the line.
func ReadWeakKeys(r io.Reader) (WeakKeys, error) {
	weak := make(WeakKeys)
	lines := bufio.NewScanner(r)
	for number := 1; lines.Scan(); number++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		text, reason, _ := strings.Cut(strings.ReplaceAll(line, "\t", " "), " ")
		hash, err := pki.ParseKeyHash(text)
		if err != nil {
			// The error does not quote the line: this may be the wrong file, with a secret in it.
			return nil, pki.Errorf(pki.KindInvalid, "read weak keys", "line %d does not begin with the SHA-256 of a key, 64 hexadecimal digits", number)
		}
		weak[hash] = strings.TrimSpace(reason)
	}
	if err := lines.Err(); err != nil {
		return nil, pki.Errorf(pki.KindInvalid, "read weak keys", "%w", err)
	}
	return weak, nil
}
