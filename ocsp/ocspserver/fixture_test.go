package ocspserver_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"fmt"
	"math/big"
	"sync/atomic"
	"testing"
	"time"

	"signet.example/signet/internal/auth"
	"signet.example/signet/internal/testdb"
	"signet.example/signet/ocsp"
	"signet.example/signet/ocsp/ocspserver"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
	"signet.example/signet/store"
	"signet.example/signet/store/postgres"
)

func TestMain(m *testing.M) { testdb.Main(m) }

// start is when the clock of a test begins: about now, since OpenSSL judges by the machine's clock.
var start = time.Now().UTC().Truncate(time.Second)

// epoch is the week in a year's time.
var epoch = func() pki.Epoch {
	e, err := pki.EpochAt(start.Add(365 * 24 * time.Hour).Unix())
	if err != nil {
		panic(err)
	}
	return e
}()

// authority is an issuer: its certificate, and its books in a store, written as the ca would.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	hash pki.KeyHash
	id   pki.IssuerID
	k    pki.SerialSecret
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newAuthority(t testing.TB, name string) *authority {
	t.Helper()
	a := &authority{key: newKey(t), k: sha256.Sum256([]byte(name))}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: start.Add(-time.Hour), NotAfter: start.Add(10 * 365 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	a.cert = a.sign(t, template, a.key.Public(), template)
	a.hash = pki.HashSPKI(a.cert.RawSubjectPublicKeyInfo)
	a.id = a.hash.Issuer()
	return a
}

func (a *authority) sign(t testing.TB, template *x509.Certificate, public crypto.PublicKey, parent *x509.Certificate) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, a.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// delegate certifies a responder's key, as the ca's internal profile does.
func (a *authority) delegate(public crypto.PublicKey, notBefore time.Time, lifetime time.Duration) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 150))
	if err != nil {
		return nil, err
	}
	return x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "OCSP responder"}, NotBefore: notBefore, NotAfter: notBefore.Add(lifetime),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning},
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}, Value: []byte{5, 0}}},
	}, a.cert, public, a.key)
}

// leaf makes a certificate with a serial number of the books.
func (a *authority) leaf(t testing.TB, serial pki.Serial) *x509.Certificate {
	return a.sign(t, &x509.Certificate{
		SerialNumber: serial.Big(), Subject: pkix.Name{CommonName: "leaf.example"},
		NotBefore: start.Add(-time.Hour), NotAfter: time.Unix(epoch.Start()+3600, 0),
	}, &newKey(t).PublicKey, a.cert)
}

// span is a range of indices of an authority.
type span struct {
	*authority
	epoch    pki.Epoch
	from, to uint64
	key      pki.RangeKey
}

// book files the authority in a store, with one closed range [0, 1000) whose first 20 indices are certificates that can
// be revoked, and one open range [1000, 2000) in which index 1000 is recorded.
func (a *authority) book(t testing.TB, s store.Store) (closed, open span) {
	t.Helper()
	at := dbTime(s, start)
	testdb.Exec(t, s, `INSERT INTO issuers (id, label, key_uri, subject, spki, spki_hash, visibility, state, base_url, created_at)
		VALUES ($1, $2, '', $3, $4, $5, 0, 1, 'http://ca.example', $6)`, a.id[:], a.cert.Subject.CommonName, a.cert.RawSubject, a.cert.RawSubjectPublicKeyInfo, a.hash[:], at)
	if _, ok := s.(*postgres.Store); ok {
		testdb.Exec(t, s, fmt.Sprintf(`CREATE TABLE IF NOT EXISTS certificates_%d PARTITION OF certificates FOR VALUES IN (%[1]d)`, epoch))
	}
	closed, open = a.span(0, 1000), a.span(1000, 2000)
	for _, r := range []struct {
		span
		state int
		key   any
	}{{closed, 2, closed.key[:]}, {open, 1, nil}} {
		testdb.Exec(t, s, `INSERT INTO ranges (issuer, epoch, from_idx, to_idx, state, key_from, nonce, owner, base_url, lease_until, changed_at, range_key)
			VALUES ($1, $2, $3, $4, $5, $3, $6, $6, '', $7, $7, $8)`, a.id[:], int64(epoch), int64(r.from), int64(r.to), r.state, make([]byte, 16), at, r.key)
	}
	for index := range uint64(20) {
		closed.record(t, s, index)
	}
	open.record(t, s, 1000)
	return closed, open
}

func (a *authority) span(from, to uint64) span {
	return span{a, epoch, from, to, pki.NewRangeKey(a.k, pki.RangeNonce{}, a.hash, epoch, from)}
}

func (s span) serial(index uint64) pki.Serial {
	return pki.NewSerial(s.span(s.from, s.to).key, s.hash, pki.Position{Epoch: s.epoch, Index: index})
}

func (s span) record(t testing.TB, db store.Store, index uint64) {
	t.Helper()
	serial := s.serial(index)
	hash := sha256.Sum256([]byte{byte(index)})
	testdb.Exec(t, db, `INSERT INTO certificates (issuer, epoch, idx, serial, range_id, profile, account, subject, spki_hash, not_before, not_after, issued_at, der)
		VALUES ($1, $2, $3, $4, 1, 'server', 'alice', '', $5, $6, $7, $6, $5)`,
		s.id[:], int64(s.epoch), int64(index), serial[:], hash[:], dbTime(db, start), dbTime(db, time.Unix(s.epoch.Start()+3600, 0)))
}

func dbTime(s store.Store, at time.Time) any {
	if _, ok := s.(*postgres.Store); ok {
		return at
	}
	return at.UnixMicro()
}

// fixed is a Delegates whose certificates were made beforehand.
type fixed map[pki.IssuerID]*ocspserver.Delegate

func (f fixed) Current(issuer pki.IssuerID) (*ocspserver.Delegate, error) {
	if d, ok := f[issuer]; ok {
		return d, nil
	}
	return nil, pki.Errorf(pki.KindUnavailable, "sign", "no delegate")
}

func (f fixed) add(t testing.TB, a *authority, lifetime time.Duration) {
	t.Helper()
	key := newKey(t)
	der, err := a.delegate(key.Public(), start.Add(-time.Hour), lifetime)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ocsp.NewSigner(key, cert)
	if err != nil {
		t.Fatal(err)
	}
	f[a.id] = &ocspserver.Delegate{Certificate: cert, Signer: signer}
}

// touching is a universe that was in touch with its database when the test says so; Run would be, every second.
type touching struct {
	*revocation.Universe
	asOf func() time.Time
}

func (u touching) AsOf() time.Time { return u.asOf() }

// system is a store with two authorities, a ledger, a universe that follows it, and a responder: one instance.
type system struct {
	store         store.Store
	one, two      *authority
	closed, open  span // of one
	closed2       span // of two
	universe      *revocation.Universe
	ledger        *revocation.Ledger
	delegates     fixed
	responder     *ocspserver.Responder
	offset        atomic.Int64 // of the clock
	silent        atomic.Int64 // offset of the clock when the database fell silent; zero: it did not
	stopFollowing func()
}

func (s *system) now() time.Time { return start.Add(time.Duration(s.offset.Load())) }

// asOf is when the database last answered.
func (s *system) asOf() time.Time {
	if silent := s.silent.Load(); silent != 0 {
		return start.Add(time.Duration(silent))
	}
	return s.now()
}

// eventually waits for what happens in the background.
func eventually(t testing.TB, what string, happened func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !happened(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// catchUp waits until the responder has followed the ledger.
func (s *system) catchUp(t testing.TB) {
	t.Helper()
	eventually(t, "responder in step", func() bool { return s.responder.Stats().InStep })
}

// advance moves the clock.
func (s *system) advance(d time.Duration) { s.offset.Add(int64(d)) }

// newSystem starts everything; change may alter the responder's configuration and its issuers.
func newSystem(t testing.TB, db store.Store, change func(*ocspserver.Config, []ocspserver.Issuer)) *system {
	t.Helper()
	s := &system{store: db, one: newAuthority(t, "One"), two: newAuthority(t, "Two"), delegates: fixed{}}
	s.closed, s.open = s.one.book(t, db)
	s.closed2, _ = s.two.book(t, db)
	s.delegates.add(t, s.one, 7*24*time.Hour)
	s.delegates.add(t, s.two, 7*24*time.Hour)
	var err error
	if s.universe, err = revocation.NewUniverse(revocation.UniverseConfig{Log: db, Ranges: db, Now: s.now}); err != nil {
		t.Fatal(err)
	}
	if err := s.universe.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s.ledger, err = revocation.NewLedger(revocation.LedgerConfig{Store: db, Universe: s.universe, Now: s.now}); err != nil {
		t.Fatal(err)
	}
	config := ocspserver.Config{Universe: touching{s.universe, s.asOf}, Delegates: s.delegates, Now: s.now}
	issuers := []ocspserver.Issuer{{Certificate: s.one.cert}, {Certificate: s.two.cert}}
	if change != nil {
		change(&config, issuers)
	}
	if s.responder, err = ocspserver.New(config); err != nil {
		t.Fatal(err)
	}
	if err := s.responder.SetIssuers(issuers); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	watch := s.universe.Watch(s.universe.Seq())
	go func() { ended <- s.responder.Run(ctx, watch) }()
	s.stopFollowing = func() {
		cancel()
		<-ended
	}
	s.catchUp(t)
	t.Cleanup(func() {
		cancel()
		if err := s.ledger.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *system) grant(t testing.TB) auth.Grant {
	t.Helper()
	g, err := auth.System("test").Authorize(auth.ActionRevoke, "")
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func (s *system) revoke(t testing.TB, issuer pki.IssuerID, serial pki.Serial, reason pki.Reason) {
	t.Helper()
	if _, err := s.ledger.Revoke(t.Context(), s.grant(t), revocation.Request{Key: revocation.Key{Issuer: issuer, Serial: serial}, Reason: reason}); err != nil {
		t.Fatal(err)
	}
}

// ask posts a request for serials of an authority and returns the reply.
func (s *system) ask(t testing.TB, a *authority, hash crypto.Hash, serials ...pki.Serial) ocspserver.Reply {
	t.Helper()
	return s.responder.Answer(t.Context(), "POST", path(a), requestFor(t, a, hash, nil, serials...))
}

func path(a *authority) string { return ocspserver.Prefix + a.id.String() }

func requestFor(t testing.TB, a *authority, hash crypto.Hash, nonce []byte, serials ...pki.Serial) []byte {
	t.Helper()
	issuer, err := ocsp.IssuerOf(a.cert)
	if err != nil {
		t.Fatal(err)
	}
	request := &ocsp.Request{Nonce: nonce}
	for _, serial := range serials {
		request.Items = append(request.Items, ocsp.SingleRequest{ID: issuer.CertID(hash, serial.Integer())})
	}
	der, err := request.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func encode(der []byte) string { return base64.StdEncoding.EncodeToString(der) }

// verify judges a reply as a client would.
func (s *system) verify(t testing.TB, reply ocspserver.Reply, a *authority, serial pki.Serial) ocsp.Result {
	t.Helper()
	result, err := ocsp.Verify(reply.Body, ocsp.Query{Serial: serial.Integer(), Issuers: []*x509.Certificate{a.cert}, Time: s.now()})
	if err != nil {
		t.Fatalf("reply %d %x: %v", reply.Code, reply.Body, err)
	}
	return result
}

// status of a reply without an answer; Successful if it has one.
func outcome(t testing.TB, reply ocspserver.Reply) ocsp.ResponseStatus {
	t.Helper()
	response, err := ocsp.ParseResponse(reply.Body)
	if err != nil || reply.Code != 200 {
		t.Fatalf("reply %d %q: %v", reply.Code, reply.Body, err)
	}
	return response.Status
}

// at is the genuine serial at a position of the closed range, or of the one certificate of the open range.
func (s span) at(p pki.Position) pki.Serial {
	if p.Epoch == s.epoch && p.Index < 1000 {
		return s.span(0, 1000).serial(p.Index)
	}
	return s.span(1000, 2000).serial(1000)
}
