package crlserver_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/hex"
	"math/big"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"signet.example/signet/crl"
	"signet.example/signet/crl/crlserver"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
	"signet.example/signet/store"
	"signet.example/signet/store/postgres"
)

func TestMain(m *testing.M) {
	if url := os.Getenv("SIGNET_TEST_PUBLISHER"); url != "" {
		runPublisher(url)
		return
	}
	testdb.Main(m)
}

const base = "http://pki.example"

// epoch is the week of expiry of most certificates, the better part of a year from now. The clock below is real time,
// and a database has one of its own: a week that is fixed would pass one day.
var epoch = pki.FirstEpoch(time.Now().Unix()) + 42

// clock is real time, moved.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time       { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) move(d time.Duration) { c.ahead.Add(int64(d)) }

// authority is an issuer in a database, with its key.
type authority struct {
	store  store.Store
	cert   *x509.Certificate
	key    crypto.Signer
	hash   pki.KeyHash
	issuer pki.IssuerID
	ranges int64
}

func newAuthority(t testing.TB, s store.Store, name string) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().AddDate(-1, 0, 0), NotAfter: time.Now().AddDate(20, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: []byte(name)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{store: s, cert: cert, key: key, hash: pki.HashSPKI(cert.RawSubjectPublicKeyInfo)}
	a.issuer = a.hash.Issuer()
	testdb.Exec(t, s, `INSERT INTO issuers (id, label, key_uri, subject, spki, spki_hash, visibility, state, base_url, created_at)
		VALUES ($1, $2, '', $3, $4, $5, 0, 1, $6, $7)`, a.issuer[:], name, cert.RawSubject, cert.RawSubjectPublicKeyInfo, a.hash[:], base, a.time(time.Now()))
	return a
}

func (a *authority) time(at time.Time) any {
	if _, ok := a.store.(*postgres.Store); ok {
		return at
	}
	return at.UnixMicro()
}

// config is how a publisher is told of the issuer.
func (a *authority) config() crlserver.Issuer {
	return crlserver.Issuer{Key: a.hash, Subject: a.cert.RawSubject, KeyID: a.cert.SubjectKeyId, Public: a.key.Public(), BaseURL: base, Signer: a.key}
}

// reserve opens a range of 100 indices, as the ca does before it issues.
func (a *authority) reserve(t testing.TB, epoch pki.Epoch, from uint64, baseURL string) {
	t.Helper()
	a.ranges++
	testdb.Exec(t, a.store, `INSERT INTO ranges (issuer, epoch, from_idx, to_idx, state, key_from, nonce, owner, base_url, lease_until, changed_at)
		VALUES ($1, $2, $3, $4, 1, $3, $5, $5, $6, $7, $7)`, a.issuer[:], int64(epoch), int64(from), int64(from+100), make([]byte, 16), baseURL, a.time(time.Now()))
}

func serial(epoch pki.Epoch, index uint64) (s pki.Serial) {
	s[0] = 0x41
	binary.BigEndian.PutUint16(s[1:], uint16(epoch))
	binary.BigEndian.PutUint64(s[8:], index*0x9e3779b97f4a7c15)
	return s
}

// event is a ledger entry to come.
func (a *authority) event(epoch pki.Epoch, index uint64, kind revocation.Kind, reason pki.Reason, expected uint64) revocation.NewEntry {
	return revocation.NewEntry{Expected: expected, Entry: revocation.Entry{Issuer: a.issuer, Serial: serial(epoch, index), Position: pki.Position{Epoch: epoch, Index: index},
		Kind: kind, Reason: reason, RevokedAt: time.Now().UTC().Truncate(time.Second), Actor: "test"}}
}

// append writes to the ledger and returns its new end.
func (a *authority) append(t testing.TB, entries ...revocation.NewEntry) uint64 {
	t.Helper()
	seq, err := a.store.AppendLedger(t.Context(), 0, entries, nil)
	if err != nil {
		t.Fatal(err)
	}
	return seq
}

func (a *authority) revoke(t testing.TB, index uint64) uint64 {
	t.Helper()
	return a.append(t, a.event(epoch, index, revocation.KindRevoke, pki.KeyCompromise, 0))
}

func (a *authority) shard() crlserver.List {
	return crlserver.List{Series: crlserver.Series{Issuer: a.issuer, Shard: pki.Shard{Epoch: epoch}, Sharded: true}, Kind: crlserver.KindShard}
}

func (a *authority) complete() crlserver.List {
	return crlserver.List{Series: crlserver.Series{Issuer: a.issuer}, Kind: crlserver.KindComplete}
}

func (a *authority) delta() crlserver.List {
	return crlserver.List{Series: crlserver.Series{Issuer: a.issuer}, Kind: crlserver.KindDelta}
}

// instance is a running publisher.
type instance struct {
	*crlserver.Publisher
	stop func()
}

var instances atomic.Uint32

// start runs a publisher on a store until the test ends or stop is called.
func start(t testing.TB, s store.Store, c *clock, change func(*crlserver.Config), issuers ...crlserver.Issuer) instance {
	t.Helper()
	universe, err := revocation.NewUniverse(revocation.UniverseConfig{Log: s, Ranges: s, Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	if err := universe.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	config := crlserver.Config{Publications: s, Bases: s, Imports: s, Universe: universe, Issuers: func() []crlserver.Issuer { return issuers }, Now: c.now}
	binary.BigEndian.PutUint32(config.Instance[:], instances.Add(1))
	if change != nil {
		change(&config)
	}
	p, err := crlserver.New(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { universe.Run(ctx, nil) })
	running.Go(func() { p.Run(ctx) })
	stop := sync.OnceFunc(func() { cancel(); running.Wait() })
	t.Cleanup(stop)
	return instance{p, stop}
}

// await fails the test if the publisher does not reach seq.
func (i instance) await(t testing.TB, seq uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := i.Await(ctx, seq); err != nil {
		t.Fatal(err, i.Check())
	}
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
	}
}

// list reads a list as it is served, with everything about it checked that a stranger can check.
func (i instance) list(t testing.TB, a *authority, l crlserver.List) *crl.List {
	t.Helper()
	document, head, ok := i.Document(l)
	if !ok {
		t.Fatalf("%s is not served", l)
	}
	list, err := crl.Parse(document.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if err := list.Verify(a.cert); err != nil {
		t.Fatal(err)
	}
	if list.Unusable != nil || document.Sum() != head.Sum || list.Number != crl.NumberOf(head.Number) || list.Len() != head.Entries || document.Size() != head.Size {
		t.Fatalf("%s is not what its head says: %+v", l, head)
	}
	return list
}

// has reports whether a list names the certificate at an index, and with what reason.
func has(l *crl.List, epoch pki.Epoch, index uint64) (pki.Reason, bool) {
	s := serial(epoch, index)
	e, ok := l.Lookup(s[:], l.Issuer)
	return e.Reason, ok
}

// publisherProcess starts a publisher in a process of its own, to be killed. The test binary is the program.
func publisherProcess(t *testing.T, url string, a *authority) *exec.Cmd {
	t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), "SIGNET_TEST_PUBLISHER="+url, "SIGNET_TEST_KEY="+hex.EncodeToString(key), "SIGNET_TEST_CERTIFICATE="+hex.EncodeToString(a.cert.Raw))
	child.Stderr = os.Stderr
	child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	return child
}

// runPublisher is the program of publisherProcess. It ends by being killed.
func runPublisher(url string) {
	ctx := context.Background()
	s := must(postgres.Open(ctx, postgres.Config{URL: url, Unsafe: true, MaxConns: 4}))
	cert := must(x509.ParseCertificate(must(hex.DecodeString(os.Getenv("SIGNET_TEST_CERTIFICATE")))))
	key := must(x509.ParsePKCS8PrivateKey(must(hex.DecodeString(os.Getenv("SIGNET_TEST_KEY"))))).(crypto.Signer)
	a := &authority{store: s, cert: cert, key: key, hash: pki.HashSPKI(cert.RawSubjectPublicKeyInfo)}
	universe := must(revocation.NewUniverse(revocation.UniverseConfig{Log: s, Ranges: s}))
	config := crlserver.Config{Publications: s, Bases: s, Universe: universe, Issuers: func() []crlserver.Issuer { return []crlserver.Issuer{a.config()} }}
	must(rand.Read(config.Instance[:]))
	p := must(crlserver.New(config))
	for _, load := range []func(context.Context) error{universe.Load, p.Load} {
		if err := load(ctx); err != nil {
			panic(err)
		}
	}
	go universe.Run(ctx, nil)
	p.Run(ctx)
}
