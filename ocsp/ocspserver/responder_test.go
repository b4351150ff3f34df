package ocspserver_test

import (
	"bytes"
	"crypto"
	"slices"
	"strings"
	"testing"
	"time"

	"signet.example/signet/internal/testdb"
	"signet.example/signet/ocsp"
	"signet.example/signet/ocsp/ocspserver"
	"signet.example/signet/pki"
	"signet.example/signet/revocation"
	"signet.example/signet/store"
)

func TestStatuses(t *testing.T) {
	testdb.Each(t, func(t *testing.T, db store.Store) {
		s := newSystem(t, db, nil)
		good, bad, held := s.closed.serial(1), s.closed.serial(2), s.closed.serial(3)
		s.revoke(t, s.one.id, bad, pki.KeyCompromise)
		if _, err := s.ledger.Hold(t.Context(), s.grant(t), revocation.Request{Key: revocation.Key{Issuer: s.one.id, Serial: held}}); err != nil {
			t.Fatal(err)
		}
		s.catchUp(t)
		for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512} {
			for range 2 { // signed, and from memory
				if r := s.verify(t, s.ask(t, s.one, hash, good), s.one, good); r.Status != pki.StatusGood || r.ExtendedRevoke {
					t.Errorf("%s: good certificate: %+v", hash, r)
				}
				if r := s.verify(t, s.ask(t, s.one, hash, bad), s.one, bad); r.Status != pki.StatusRevoked || r.Reason != pki.KeyCompromise || !r.RevokedAt.Equal(start) {
					t.Errorf("%s: revoked certificate: %+v", hash, r)
				}
			}
		}
		if r := s.verify(t, s.ask(t, s.one, crypto.SHA1, held), s.one, held); r.Status != pki.StatusRevoked || r.Reason != pki.CertificateHold || r.NeverIssued {
			t.Errorf("certificate on hold: %+v", r)
		}
		recorded := s.open.serial(1000)
		if r := s.verify(t, s.ask(t, s.one, crypto.SHA1, recorded), s.one, recorded); r.Status != pki.StatusGood {
			t.Errorf("certificate of an open range: %+v", r)
		}
		if stats := s.responder.Stats(); stats.Signed != 10 || stats.Kept != 8 || stats.Answers != 10 || stats.Successful != 18 {
			t.Errorf("stats %+v", stats)
		}
	})
}

// TestUnknownSerials: what was never issued is never good.
func TestUnknownSerials(t *testing.T) {
	for _, public := range []bool{false, true} {
		s := newSystem(t, testdb.SQLite(t), func(_ *ocspserver.Config, issuers []ocspserver.Issuer) { issuers[0].Public = public })
		genuine := s.closed.serial(1)
		forged := s.one.span(1, 2).serial(1) // the right index under another range key
		beyond := s.one.span(5000, 6000).serial(5000)
		for name, serial := range map[string]pki.Serial{
			"forged with a good index": forged, "index beyond every range": beyond, "not of the scheme": {0: 0x42, 19: 1},
			"small": {19: 5}, "zero": {}, "longer than 20 octets": {0: 0x80},
		} {
			reply := s.ask(t, s.one, crypto.SHA256, serial)
			if public {
				if got := outcome(t, reply); got != ocsp.Unauthorized {
					t.Errorf("public, %s: %s", name, got)
				}
				continue
			}
			if r := s.verify(t, reply, s.one, serial); r.Status != pki.StatusRevoked || !r.NeverIssued || !r.ExtendedRevoke || r.Reason != pki.CertificateHold || r.RevokedAt.Unix() != 0 {
				t.Errorf("private, %s: %+v", name, r)
			}
		}
		// The forged serial was asked about first. It must not displace the genuine one, nor be good after it.
		if r := s.verify(t, s.ask(t, s.one, crypto.SHA256, genuine), s.one, genuine); r.Status != pki.StatusGood {
			t.Errorf("genuine serial after a forged one: %+v", r)
		}
		if reply := s.ask(t, s.one, crypto.SHA256, forged); !public && s.verify(t, reply, s.one, forged).Status == pki.StatusGood {
			t.Error("a forged serial is good after the genuine one")
		}
		// An index of an open range that is not recorded: it may be recorded soon.
		if got := outcome(t, s.ask(t, s.one, crypto.SHA256, s.open.serial(1500))); got != ocsp.TryLater {
			t.Errorf("open range, not recorded: %s", got)
		}
		past := pki.NewSerial(pki.RangeKey{}, s.one.hash, pki.Position{Epoch: 1})
		if got := outcome(t, s.ask(t, s.one, crypto.SHA256, past)); got != ocsp.Unauthorized {
			t.Errorf("week that has passed: %s", got)
		}
	}
}

// TestAdoptedIssuer: an adopted issuer may have issued certificates elsewhere that are not in the inventory. No later
// request will find out either, so the answer is not tryLater, and it is not "never issued".
func TestAdoptedIssuer(t *testing.T) {
	for _, public := range []bool{false, true} {
		db := testdb.SQLite(t)
		s := newSystem(t, db, func(_ *ocspserver.Config, issuers []ocspserver.Issuer) {
			issuers[0].Public, issuers[0].Foreign = public, true
		})
		testdb.Exec(t, db, `UPDATE issuers SET signed_outside = 1 WHERE id = $1`, s.one.id[:])
		go s.universe.Run(t.Context(), nil)
		eventually(t, "the universe knows that it was adopted", func() bool {
			return slices.ContainsFunc(s.universe.Issuers(), func(i revocation.IssuerKey) bool { return i.Foreign })
		})
		for name, serial := range map[string]pki.Serial{
			"of the other CA": {0: 0x42, 19: 1}, "small": {19: 5}, "like one of ours": s.one.span(1, 2).serial(1), "beyond every range": s.one.span(5000, 6000).serial(5000),
		} {
			for what, serials := range map[string][]pki.Serial{"alone": {serial}, "beside one of ours": {s.closed.serial(1), serial}} {
				if got := outcome(t, s.ask(t, s.one, crypto.SHA256, serials...)); got != ocsp.Unauthorized {
					t.Errorf("public %v, %s, %s: %s", public, name, what, got)
				}
			}
		}
		one, err := ocsp.IssuerOf(s.one.cert)
		if err != nil {
			t.Fatal(err)
		}
		long, err := (&ocsp.Request{Items: []ocsp.SingleRequest{{ID: one.CertID(crypto.SHA256, bytes.Repeat([]byte{1}, 21))}}}).Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if got := outcome(t, s.responder.Answer(t.Context(), "POST", path(s.one), long)); got != ocsp.Unauthorized {
			t.Errorf("public %v, 21 octets: %s", public, got)
		}
		own := s.closed.serial(1)
		if r := s.verify(t, s.ask(t, s.one, crypto.SHA256, own), s.one, own); r.Status != pki.StatusGood {
			t.Errorf("public %v, its own: %+v", public, r)
		}
		if got := outcome(t, s.ask(t, s.one, crypto.SHA256, s.open.serial(1500))); got != ocsp.TryLater {
			t.Errorf("public %v, open range, not recorded: %s", public, got)
		}
	}
}

// TestIssuersAreKeptApart: the same serial under another issuer, and requests that name two issuers.
func TestIssuersAreKeptApart(t *testing.T) {
	s := newSystem(t, testdb.SQLite(t), nil)
	serial := s.closed.serial(1)
	for i := uint64(2); ; i++ { // about a week that has passed, which one in 200 claims under another issuer, nothing is said
		if claimed, _ := serial.Unmask(s.two.hash); !claimed.Epoch.Passed(start.Unix()) {
			break
		}
		serial = s.closed.serial(i)
	}
	if r := s.verify(t, s.ask(t, s.one, crypto.SHA1, serial), s.one, serial); r.Status != pki.StatusGood {
		t.Fatalf("under its issuer: %+v", r)
	}
	if r := s.verify(t, s.ask(t, s.two, crypto.SHA1, serial), s.two, serial); r.Status != pki.StatusRevoked || !r.NeverIssued {
		t.Errorf("the same serial under another issuer: %+v", r)
	}
	request := requestFor(t, s.one, crypto.SHA1, nil, serial)
	if got := outcome(t, s.responder.Answer(t.Context(), "POST", path(s.two), request)); got != ocsp.Unauthorized {
		t.Errorf("one's certificate asked at two: %s", got)
	}
	one, err := ocsp.IssuerOf(s.one.cert)
	if err != nil {
		t.Fatal(err)
	}
	two, err := ocsp.IssuerOf(s.two.cert)
	if err != nil {
		t.Fatal(err)
	}
	octets := serial.Integer()
	for name, items := range map[string][]ocsp.CertID{
		"name of another":      {ocsp.Issuer{Name: two.Name, Key: one.Key}.CertID(crypto.SHA1, octets)},
		"key of another":       {ocsp.Issuer{Name: one.Name, Key: two.Key}.CertID(crypto.SHA1, octets)},
		"second of another":    {one.CertID(crypto.SHA1, octets), two.CertID(crypto.SHA1, octets)},
		"hash that is unknown": {{Algorithm: []byte{0x2a, 3}, NameHash: octets, KeyHash: octets, Serial: octets}},
		"same, and the right":  {one.CertID(crypto.SHA256, octets), {Algorithm: []byte{0x2a, 3}, NameHash: octets, KeyHash: octets, Serial: octets}},
	} {
		r := new(ocsp.Request)
		for _, id := range items {
			r.Items = append(r.Items, ocsp.SingleRequest{ID: id})
		}
		der, err := r.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if got := outcome(t, s.responder.Answer(t.Context(), "POST", path(s.one), der)); got != ocsp.Unauthorized {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestSeveralInOne(t *testing.T) {
	s := newSystem(t, testdb.SQLite(t), nil)
	var serials []pki.Serial
	for i := range uint64(8) {
		serials = append(serials, s.closed.serial(i))
	}
	s.revoke(t, s.one.id, serials[3], pki.Superseded)
	serials[7] = pki.Serial{19: 9} // never issued
	reply := s.ask(t, s.one, crypto.SHA256, serials...)
	for i, serial := range serials {
		want := pki.StatusGood
		if i == 3 || i == 7 {
			want = pki.StatusRevoked
		}
		if r := s.verify(t, reply, s.one, serial); r.Status != want || r.NeverIssued != (i == 7) {
			t.Errorf("certificate %d: %+v", i, r)
		}
	}
	if got := outcome(t, s.ask(t, s.one, crypto.SHA256, append(serials, s.closed.serial(9))...)); got != ocsp.MalformedRequest {
		t.Errorf("nine certificates: %s", got)
	}
	serials[0] = s.open.serial(1500)
	if got := outcome(t, s.ask(t, s.one, crypto.SHA256, serials...)); got != ocsp.TryLater {
		t.Errorf("one of eight cannot be told: %s", got)
	}
}

func TestNonce(t *testing.T) {
	s := newSystem(t, testdb.SQLite(t), func(_ *ocspserver.Config, issuers []ocspserver.Issuer) { issuers[1].Nonce = ocspserver.NonceLive })
	for _, length := range []int{1, 15, 16, 32, 33, 128} {
		nonce := bytes.Repeat([]byte{byte(length)}, length)
		for _, c := range []struct {
			*authority
			serial pki.Serial
			echo   bool
		}{{s.one, s.closed.serial(1), false}, {s.two, s.closed2.serial(1), true}} {
			reply := s.responder.Answer(t.Context(), "POST", path(c.authority), requestFor(t, c.authority, crypto.SHA1, nonce, c.serial))
			response, err := ocsp.ParseResponse(reply.Body)
			if err != nil {
				t.Fatal(err)
			}
			if echoed := bytes.Equal(response.Nonce, nonce); echoed != c.echo || !c.echo && response.Nonce != nil {
				t.Errorf("%s, nonce of %d: response has %x", c.cert.Subject.CommonName, length, response.Nonce)
			}
			if s.verify(t, reply, c.authority, c.serial).Status != pki.StatusGood {
				t.Error("not good")
			}
			if c.echo != (reply.CacheControl == "no-store") {
				t.Errorf("%s: Cache-Control %q", c.cert.Subject.CommonName, reply.CacheControl)
			}
		}
	}
	if stats := s.responder.Stats(); stats.Signed != 1+6 || stats.Answers != 1 {
		t.Errorf("stats %+v: a response with a nonce was kept, or one without was not", stats)
	}
	empty := append(bytes.Clone(requestFor(t, s.two, crypto.SHA1, make([]byte, 1), s.closed2.serial(1))), 0)
	if got := outcome(t, s.responder.Answer(t.Context(), "POST", path(s.two), empty)); got != ocsp.MalformedRequest {
		t.Errorf("trailing octet: %s", got)
	}
}

// TestTimes: validity, half-life, end, and a clock that leaps back.
func TestTimes(t *testing.T) {
	s := newSystem(t, testdb.SQLite(t), func(_ *ocspserver.Config, issuers []ocspserver.Issuer) { issuers[1].Public = true })
	for _, c := range []struct {
		*authority
		serial   pki.Serial
		validity time.Duration
		control  string
	}{
		{s.one, s.closed.serial(1), time.Hour, "max-age=30, public, no-transform, must-revalidate"},
		{s.two, s.closed2.serial(1), 8 * time.Hour, "max-age=300, public, no-transform, must-revalidate"},
	} {
		reply := s.ask(t, c.authority, crypto.SHA1, c.serial)
		r := s.verify(t, reply, c.authority, c.serial)
		if r.NextUpdate.Sub(r.ThisUpdate) != c.validity || !r.ThisUpdate.Equal(s.now()) || reply.CacheControl != c.control ||
			reply.LastModified != r.ThisUpdate.Format("Mon, 02 Jan 2006 15:04:05 GMT") || reply.Expires != r.NextUpdate.Format("Mon, 02 Jan 2006 15:04:05 GMT") {
			t.Errorf("reply %+v", reply)
		}
	}
	// A shorter life is not for those who serve the public, and nothing is kept for more than four days without a look.
	if err := s.responder.SetIssuers([]ocspserver.Issuer{{Certificate: s.two.cert, Public: true, Validity: time.Hour}, {Certificate: s.one.cert, Validity: 10 * 24 * time.Hour}}); err != nil {
		t.Fatal(err)
	}
	if r := s.verify(t, s.ask(t, s.two, crypto.SHA1, s.closed2.serial(2)), s.two, s.closed2.serial(2)); r.NextUpdate.Sub(r.ThisUpdate) != 8*time.Hour {
		t.Errorf("an issuer that serves the public answers for %s", r.NextUpdate.Sub(r.ThisUpdate))
	}
	s.delegates.add(t, s.one, 20*24*time.Hour)
	s.ask(t, s.one, crypto.SHA1, s.closed.serial(2))
	s.advance(4*24*time.Hour + time.Minute)
	s.ask(t, s.one, crypto.SHA1, s.closed.serial(2))
	eventually(t, "refresh after four days of ten", func() bool { return s.responder.Stats().Refreshed == 1 })
	s.advance(-4*24*time.Hour - time.Minute)
	if err := s.responder.SetIssuers([]ocspserver.Issuer{{Certificate: s.one.cert}}); err != nil {
		t.Fatal(err)
	}

	serial := s.closed.serial(3)
	first := s.ask(t, s.one, crypto.SHA1, serial)
	s.advance(time.Hour - 10*time.Second)
	late := s.ask(t, s.one, crypto.SHA1, serial) // past its half-life: given, and replaced in the background
	if !bytes.Equal(late.Body, first.Body) || !strings.HasPrefix(late.CacheControl, "max-age=10,") {
		t.Errorf("ten seconds before its end: %q", late.CacheControl)
	}
	eventually(t, "refresh", func() bool { return s.responder.Stats().Refreshed == 2 })
	if fresh := s.ask(t, s.one, crypto.SHA1, serial); bytes.Equal(fresh.Body, first.Body) {
		t.Error("past its half-life the answer is not made anew")
	}
	s.advance(-30 * time.Minute)
	if r := s.verify(t, s.ask(t, s.one, crypto.SHA1, serial), s.one, serial); r.ThisUpdate.After(s.now()) {
		t.Errorf("after the clock leapt back: %+v", r)
	}
}

// TestClocksThatDiffer: answers carry the earlier of two times; one that would have ended by the later is not given.
func TestClocksThatDiffer(t *testing.T) {
	behind := 10 * time.Minute
	var s *system
	s = newSystem(t, testdb.SQLite(t), func(c *ocspserver.Config, _ []ocspserver.Issuer) {
		c.Earliest = func() time.Time { return s.now().Add(-behind) }
	})
	s.delegates.add(t, s.one, 7*24*time.Hour)
	reply := s.ask(t, s.one, crypto.SHA1, s.closed.serial(1))
	r := s.verify(t, reply, s.one, s.closed.serial(1))
	if want := s.now().Add(-behind); !r.ThisUpdate.Equal(want) || !r.ProducedAt.Equal(want) || !r.NextUpdate.Equal(want.Add(time.Hour)) {
		t.Errorf("by a clock that is ten minutes ahead: %s, produced %s, until %s; want %s", r.ThisUpdate, r.ProducedAt, r.NextUpdate, want)
	}
	behind = 2 * time.Hour
	if got := outcome(t, s.ask(t, s.one, crypto.SHA1, s.closed.serial(2))); got != ocsp.TryLater {
		t.Errorf("an answer that ended before it was given: %s", got)
	}
}

// TestDates: producedAt is the earlier of two clocks; thisUpdate is that too while the database answers, and after that
// when it last did, if that was earlier. No answer says that a certificate was revoked after its own time.
func TestDates(t *testing.T) {
	for name, test := range map[string]struct {
		other, answered      time.Duration // the other clock, and when the database last answered, from this clock
		produced, thisUpdate time.Duration
	}{
		"one time":                                  {0, 0, 0, 0},
		"the other is ahead":                        {5 * time.Minute, 0, 0, 0},
		"the other is behind":                       {-5 * time.Minute, 0, -5 * time.Minute, -5 * time.Minute},
		"the database answered a moment ago":        {0, -9 * time.Second, 0, 0},
		"the database has fallen silent":            {0, -11 * time.Second, 0, -11 * time.Second},
		"it fell silent, the other is ahead":        {5 * time.Minute, -11 * time.Second, 0, -11 * time.Second},
		"it fell silent, the other is behind":       {-5 * time.Minute, -11 * time.Second, -5 * time.Minute, -5 * time.Minute},
		"it fell silent long ago, the other behind": {-5 * time.Minute, -20 * time.Minute, -5 * time.Minute, -20 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			var s *system
			s = newSystem(t, testdb.SQLite(t), func(c *ocspserver.Config, _ []ocspserver.Issuer) {
				c.Earliest = func() time.Time { return s.now().Add(test.other) }
			})
			serial := s.closed.serial(1)
			s.revoke(t, s.one.id, serial, pki.Superseded)
			s.catchUp(t)
			if test.answered != 0 {
				s.silent.Store(int64(test.answered))
			}
			r := s.verify(t, s.ask(t, s.one, crypto.SHA1, serial), s.one, serial)
			if produced, thisUpdate := r.ProducedAt.Sub(s.now()), r.ThisUpdate.Sub(s.now()); produced != test.produced || thisUpdate != test.thisUpdate {
				t.Errorf("produced at %s, this update %s; want %s and %s", produced, thisUpdate, test.produced, test.thisUpdate)
			}
			if r.Status != pki.StatusRevoked || !r.RevokedAt.Equal(r.ThisUpdate) {
				t.Errorf("%s at %s, by an answer of %s", r.Status, r.RevokedAt, r.ThisUpdate)
			}
		})
	}
}

// TestDelegateEnds: no answer outlives the certificate of its responder, and without one there is no answer.
func TestDelegateEnds(t *testing.T) {
	s := newSystem(t, testdb.SQLite(t), nil)
	serial := s.closed.serial(1)
	s.delegates.add(t, s.one, time.Hour+20*time.Minute) // it began an hour ago
	r := s.verify(t, s.ask(t, s.one, crypto.SHA1, serial), s.one, serial)
	if !r.NextUpdate.Equal(r.Responder.Certificate.NotAfter) {
		t.Errorf("the answer ends at %s, its responder at %s", r.NextUpdate, r.Responder.Certificate.NotAfter)
	}
	s.advance(20*time.Minute - 20*time.Second)
	if got := outcome(t, s.ask(t, s.one, crypto.SHA256, serial)); got != ocsp.TryLater {
		t.Errorf("twenty seconds before the responder's end: %s", got)
	}
	delete(s.delegates, s.two.id)
	if reply := s.ask(t, s.two, crypto.SHA1, s.closed2.serial(1)); outcome(t, reply) != ocsp.TryLater || reply.RetryAfter != "5" || reply.CacheControl != "no-store" {
		t.Errorf("without a delegate: %+v", reply)
	}
}

func TestBadRequests(t *testing.T) {
	s := newSystem(t, testdb.SQLite(t), nil)
	der := requestFor(t, s.one, crypto.SHA1, nil, s.closed.serial(1))
	get := path(s.one) + "/" + encode(der)
	for _, c := range []struct {
		name, method, path string
		body               []byte
		code               int
	}{
		{"post", "POST", path(s.one), der, 200},
		{"post with a slash", "POST", path(s.one) + "/", der, 200},
		{"get", "GET", get, nil, 200},
		{"head", "HEAD", get, nil, 200},
		{"put", "PUT", path(s.one), der, 405},
		{"no such issuer", "POST", "/ocsp/00000000000000000000", der, 404},
		{"issuer in capitals", "POST", strings.ToUpper(path(s.one)), der, 404},
		{"no issuer", "POST", "/ocsp/", der, 404},
		{"elsewhere", "POST", "/crl/" + s.one.id.String(), der, 404},
		{"get of nothing", "GET", path(s.one), nil, 400},
		{"get of a slash", "GET", path(s.one) + "/", nil, 400},
		{"get too long", "GET", path(s.one) + "/" + strings.Repeat("M", 1025), nil, 414},
		{"post too large", "POST", path(s.one), make([]byte, 10<<10+1), 413},
	} {
		reply := s.responder.Answer(t.Context(), c.method, c.path, c.body)
		if reply.Code != c.code || c.code == 405 && reply.Allow != "GET, HEAD, POST" {
			t.Errorf("%s: %+v, want %d", c.name, reply, c.code)
		}
		if c.code != 200 && reply.CacheControl != "no-store" {
			t.Errorf("%s: an error may be cached: %q", c.name, reply.CacheControl)
		}
	}
	for name, body := range map[string][]byte{"nothing": nil, "text": []byte("hello"), "cut": der[:len(der)-1], "deep": bytes.Repeat([]byte{0x30, 0x80}, 5000)} {
		if got := outcome(t, s.responder.Answer(t.Context(), "POST", path(s.one), body)); got != ocsp.MalformedRequest {
			t.Errorf("%s: %s", name, got)
		}
	}
	if got := outcome(t, s.responder.Answer(t.Context(), "GET", path(s.one)+"/%%%", nil)); got != ocsp.MalformedRequest {
		t.Errorf("not base64: %s", got)
	}
}

func TestConfigIsChecked(t *testing.T) {
	if _, err := ocspserver.New(ocspserver.Config{}); pki.KindOf(err) != pki.KindInvalid {
		t.Errorf("empty configuration: %v", err)
	}
	s := newSystem(t, testdb.SQLite(t), nil)
	for name, issuer := range map[string]ocspserver.Issuer{
		"no certificate":           {},
		"lives too long":           {Certificate: s.one.cert, Validity: 11 * 24 * time.Hour},
		"lives too short":          {Certificate: s.one.cert, Validity: time.Second},
		"cached beyond half-life":  {Certificate: s.one.cert, Validity: time.Hour, MaxAge: 31 * time.Minute},
		"cached for negative time": {Certificate: s.one.cert, MaxAge: -1},
	} {
		if err := s.responder.SetIssuers([]ocspserver.Issuer{issuer}); pki.KindOf(err) != pki.KindInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := outcome(t, s.ask(t, s.one, crypto.SHA1, s.closed.serial(1))); got != ocsp.Successful {
		t.Errorf("a refused configuration replaced the one before: %s", got)
	}
	if err := s.responder.SetIssuers(nil); err != nil {
		t.Fatal(err)
	}
	if reply := s.ask(t, s.one, crypto.SHA1, s.closed.serial(1)); reply.Code != 404 {
		t.Errorf("an issuer that was taken away answers %+v", reply)
	}
}
