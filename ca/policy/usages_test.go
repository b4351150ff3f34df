package policy_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	cryptorand "crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"signet.example/signet/ca/policy"
	"signet.example/signet/ca/profile"
)

// limits is what a certificate of a test says of what is below it.
type limits struct {
	usages   []asn1.ObjectIdentifier
	policies []asn1.ObjectIdentifier
	maps     [][2]asn1.ObjectIdentifier
	explicit int // -1: not said
	mapping  int
	noAny    int

	selfIssued bool // its name is that of the CA above it
}

var (
	gold, silver, bronze = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 55555, 1}, asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 55555, 2}, asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 55555, 3}
	everyPolicy          = asn1.ObjectIdentifier{2, 5, 29, 32, 0}
	nothingSaid          = limits{explicit: -1, mapping: -1, noAny: -1}
)

func (l limits) extensions(t *testing.T) (all []pkix.Extension) {
	t.Helper()
	add := func(value any, oid ...int) {
		der, err := asn1.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, pkix.Extension{Id: oid, Value: der})
	}
	if len(l.usages) > 0 {
		add(l.usages, 2, 5, 29, 37)
	}
	if len(l.policies) > 0 {
		var information []struct{ Policy asn1.ObjectIdentifier }
		for _, p := range l.policies {
			information = append(information, struct{ Policy asn1.ObjectIdentifier }{p})
		}
		add(information, 2, 5, 29, 32)
	}
	if len(l.maps) > 0 {
		var mappings []struct{ Issuer, Subject asn1.ObjectIdentifier }
		for _, m := range l.maps {
			mappings = append(mappings, struct{ Issuer, Subject asn1.ObjectIdentifier }{m[0], m[1]})
		}
		add(mappings, 2, 5, 29, 33)
	}
	switch {
	case l.explicit >= 0 && l.mapping >= 0:
		add(struct {
			Explicit int `asn1:"tag:0"`
			Mapping  int `asn1:"tag:1"`
		}{l.explicit, l.mapping}, 2, 5, 29, 36)
	case l.explicit >= 0:
		add(struct {
			Explicit int `asn1:"tag:0"`
		}{l.explicit}, 2, 5, 29, 36)
	case l.mapping >= 0:
		add(struct {
			Mapping int `asn1:"tag:1"`
		}{l.mapping}, 2, 5, 29, 36)
	}
	if l.noAny >= 0 {
		add(l.noAny, 2, 5, 29, 54)
	}
	return all
}

// lineage is a chain that is made, root first.
type lineage struct {
	t     *testing.T
	key   *ecdsa.PrivateKey // of the last
	chain []*x509.Certificate
}

func newLineage(t *testing.T, cas ...limits) *lineage {
	t.Helper()
	l := &lineage{t: t}
	for i, ca := range cas {
		name := fmt.Sprintf("CA %d", i)
		if ca.selfIssued {
			name = l.chain[i-1].Subject.CommonName
		}
		key, err := ecdsa.GenerateKey(elliptic.P256(), cryptorand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		l.chain = append(l.chain, l.sign(name, key, true, ca))
		l.key = key
	}
	return l
}

func (l *lineage) sign(name string, key *ecdsa.PrivateKey, isCA bool, limits limits) *x509.Certificate {
	l.t.Helper()
	c := &x509.Certificate{SerialNumber: big.NewInt(int64(len(l.chain) + 1)), Subject: pkix.Name{CommonName: name}, NotBefore: time.Unix(1e9, 0), NotAfter: time.Unix(2e9, 0),
		IsCA: isCA, BasicConstraintsValid: true, SubjectKeyId: []byte{byte(len(l.chain))}, ExtraExtensions: limits.extensions(l.t)}
	parent, signer := c, key
	if len(l.chain) > 0 {
		parent, signer = l.chain[len(l.chain)-1], l.key
	}
	der, err := x509.CreateCertificate(cryptorand.Reader, c, parent, key.Public(), signer)
	if err != nil {
		l.t.Fatal(err)
	}
	signed, err := x509.ParseCertificate(der)
	if err != nil {
		l.t.Fatal(err)
	}
	return signed
}

// accepts asks crypto/x509 about an end entity below the chain, for a usage; or, unless nil, with one policy alone and
// where a valid one is demanded.
func (l *lineage) accepts(says limits, usage x509.ExtKeyUsage, under asn1.ObjectIdentifier) bool {
	l.t.Helper()
	options := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: time.Unix(15e8, 0), KeyUsages: []x509.ExtKeyUsage{usage}}
	if under != nil {
		says.explicit, says.policies = 0, []asn1.ObjectIdentifier{under}
	}
	options.Roots.AddCert(l.chain[0])
	for _, c := range l.chain[1:] {
		options.Intermediates.AddCert(c)
	}
	_, err := l.sign("end entity", l.key, false, says).Verify(options)
	return err == nil
}

func (l *lineage) check(p *profile.Profile) error {
	l.t.Helper()
	chain := slices.Clone(l.chain)
	slices.Reverse(chain)
	below, err := policy.BelowOf(chain)
	if err != nil {
		l.t.Fatal(err)
	}
	return below.Check(p)
}

// What is refused is what crypto/x509 would refuse of the certificate, or for one of its usages, or under one of its
// policies. Policies below a CA that names none are valid for nobody, but it says nothing against them.
func TestWhatIsBelowAChainAsCryptoX509HasIt(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 10))
	usages := map[x509.ExtKeyUsage]asn1.ObjectIdentifier{x509.ExtKeyUsageServerAuth: profile.ServerAuth, x509.ExtKeyUsageClientAuth: profile.ClientAuth, x509.ExtKeyUsageCodeSigning: profile.CodeSigning}
	some := func(chance int, of ...asn1.ObjectIdentifier) (picked []asn1.ObjectIdentifier) {
		for _, oid := range of {
			if random.IntN(100) < chance {
				picked = append(picked, oid)
			}
		}
		return picked
	}
	count := func() int {
		if random.IntN(100) < 75 {
			return -1
		}
		return random.IntN(4)
	}
	allowed, refused := 0, 0
	for range 1500 {
		cas, void := []limits{nothingSaid}, false
		for i := range 1 + random.IntN(4) {
			ca := limits{explicit: count(), mapping: count(), noAny: count(), selfIssued: i > 0 && random.IntN(4) == 0}
			if random.IntN(3) == 0 {
				ca.usages = some(70, profile.ServerAuth, profile.ClientAuth, profile.CodeSigning)
			}
			if random.IntN(12) == 0 {
				ca.usages = append(ca.usages, profile.AnyExtKeyUsage)
			}
			if random.IntN(10) > 0 {
				ca.policies = some(70, gold, silver, bronze)
				ca.policies = append(ca.policies, some(50, everyPolicy)...)
			}
			if random.IntN(4) == 0 {
				ca.maps = [][2]asn1.ObjectIdentifier{{gold, bronze}, {silver, gold}}[:1+random.IntN(2)]
			}
			void = void || len(ca.policies) == 0
			cas = append(cas, ca)
		}
		l := newLineage(t, cas...)
		says := nothingSaid
		says.policies = some(40, gold, silver, bronze)
		if says.usages = some(40, profile.ServerAuth, profile.ClientAuth, profile.CodeSigning); len(says.usages) == 0 {
			says.usages = []asn1.ObjectIdentifier{profile.ServerAuth}
		}
		err := l.check(&profile.Profile{Name: "p", ExtKeyUsage: says.usages, Policies: says.policies})
		all, valid := true, true
		for usage, oid := range usages {
			if slices.ContainsFunc(says.usages, oid.Equal) {
				all = all && l.accepts(says, usage, nil)
			}
		}
		for _, p := range says.policies {
			valid = valid && l.accepts(says, x509.ExtKeyUsageAny, p)
		}
		if err == nil && (!all || !valid && !void) || err != nil && all && valid {
			t.Fatalf("%v; crypto/x509 accepts it: %t, under each policy: %t\nCAs: %+v\nend entity: %+v", err, all, valid, cas, says)
		}
		if err == nil {
			allowed++
		} else {
			refused++
		}
	}
	if allowed < 100 || refused < 100 {
		t.Errorf("%d allowed, %d refused: too few of one kind", allowed, refused)
	}
}

func TestWhatIsBelowAChain(t *testing.T) {
	with := func(change func(*limits)) limits {
		l := nothingSaid
		change(&l)
		return l
	}
	usages := func(of ...asn1.ObjectIdentifier) limits { return with(func(l *limits) { l.usages = of }) }
	policies := func(of ...asn1.ObjectIdentifier) limits { return with(func(l *limits) { l.policies = of }) }
	demands := func(after int, of ...asn1.ObjectIdentifier) limits {
		return with(func(l *limits) { l.explicit, l.policies = after, of })
	}
	server := &profile.Profile{Name: "server", ExtKeyUsage: []asn1.ObjectIdentifier{profile.ServerAuth}}
	both := &profile.Profile{Name: "both", ExtKeyUsage: []asn1.ObjectIdentifier{profile.ServerAuth, profile.ClientAuth}}
	under := func(of ...asn1.ObjectIdentifier) *profile.Profile {
		return &profile.Profile{Name: "under", Policies: of}
	}
	authority := func(usages, policies []asn1.ObjectIdentifier) *profile.Profile {
		return &profile.Profile{Name: "authority", CA: &profile.CA{Usages: usages, Policies: profile.Policies{Only: policies}}}
	}
	oids := func(of ...asn1.ObjectIdentifier) []asn1.ObjectIdentifier { return of }
	for name, test := range map[string]struct {
		cas  []limits
		p    *profile.Profile
		want string // empty: allowed
	}{
		"a root limits usages too":               {[]limits{usages(profile.ClientAuth)}, server, "check policy: profile: CN=CA 0 does not allow the extended key usage server_auth, which profile server gives"},
		"one usage of two":                       {[]limits{nothingSaid, usages(profile.ServerAuth)}, both, "check policy: profile: CN=CA 1 does not allow the extended key usage client_auth"},
		"one of the two of an authority":         {[]limits{nothingSaid, usages(profile.ServerAuth)}, authority(both.ExtKeyUsage, nil), ""},
		"none of an authority":                   {[]limits{nothingSaid, usages(profile.ServerAuth)}, authority(oids(profile.CodeSigning, profile.EmailProtection), nil), "check policy: profile: CN=CA 1 does not allow the extended key usage code_signing"},
		"an authority that says nothing":         {[]limits{nothingSaid, usages(profile.ServerAuth)}, authority(nil, nil), ""},
		"an authority for any usage":             {[]limits{nothingSaid, usages(profile.ServerAuth)}, authority(oids(profile.AnyExtKeyUsage), nil), ""},
		"a root does not limit policies":         {[]limits{demands(0, gold)}, under(silver), ""},
		"another policy":                         {[]limits{nothingSaid, policies(gold)}, under(gold, silver), "check policy: profile: CN=CA 1 does not allow the certificate policy 1.3.6.1.4.1.55555.2, which profile under gives"},
		"none, and none demanded":                {[]limits{nothingSaid, policies(gold)}, under(), ""},
		"any policy":                             {[]limits{nothingSaid, policies(gold)}, under(everyPolicy), ""},
		"any policy, inhibited and not demanded": {[]limits{nothingSaid, with(func(l *limits) { l.noAny, l.policies = 0, oids(gold) })}, under(everyPolicy), ""},
		"any policy, inhibited and demanded":     {[]limits{nothingSaid, with(func(l *limits) { l.noAny, l.explicit, l.policies = 0, 0, oids(gold) })}, under(everyPolicy), "check policy: profile: the chain of the issuer requires a certificate policy"},
		"any policy, demanded":                   {[]limits{nothingSaid, demands(0, gold)}, under(everyPolicy), ""},
		"demanded of an end entity":              {[]limits{nothingSaid, demands(1, gold)}, under(), "check policy: profile: the chain of the issuer requires a certificate policy, and profile under gives none"},
		"demanded later":                         {[]limits{nothingSaid, demands(2, gold)}, under(), ""},
		"soon demanded below an authority":       {[]limits{nothingSaid, demands(2, gold)}, authority(nil, nil), "check policy: profile: the chain of the issuer requires a certificate policy"},
		"demanded late below an authority":       {[]limits{nothingSaid, demands(3, gold)}, authority(nil, nil), ""},
		"one policy of two of an authority":      {[]limits{nothingSaid, policies(gold)}, authority(nil, oids(gold, silver)), ""},
		"no policy of an authority":              {[]limits{nothingSaid, policies(gold)}, authority(nil, oids(bronze, silver)), "check policy: profile: CN=CA 1 does not allow the certificate policy 1.3.6.1.4.1.55555.3"},
		"demanded where a CA names none":         {[]limits{nothingSaid, demands(0, gold), nothingSaid}, under(gold), "check policy: issuer: its chain requires a certificate policy, and below CN=CA 2 none is valid"},
		"demanded where nothing is left":         {[]limits{nothingSaid, demands(0, gold), policies(silver)}, under(everyPolicy), "check policy: issuer: its chain requires a certificate policy, and below CN=CA 2 none is valid"},
	} {
		t.Run(name, func(t *testing.T) {
			err := newLineage(t, test.cas...).check(test.p)
			if got := fmt.Sprint(err); test.want == "" && err != nil || !strings.HasPrefix(got, test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}

func TestWiderUsagesAndPolicies(t *testing.T) {
	oids := func(of ...asn1.ObjectIdentifier) []asn1.ObjectIdentifier { return of }
	rules := func(explicit, mapping, noAny *int) profile.CA {
		return profile.CA{Policies: profile.Policies{RequireExplicit: explicit, InhibitMapping: mapping, InhibitAny: noAny}}
	}
	policies := func(of ...asn1.ObjectIdentifier) profile.CA { return profile.CA{Policies: profile.Policies{Only: of}} }
	for name, test := range map[string]struct {
		given, asked profile.CA
		want         string // empty: not wider
	}{
		"the same usages":         {profile.CA{Usages: oids(profile.ServerAuth)}, profile.CA{Usages: oids(profile.ServerAuth)}, ""},
		"fewer usages":            {profile.CA{Usages: oids(profile.ServerAuth)}, profile.CA{Usages: oids(profile.ClientAuth, profile.ServerAuth)}, ""},
		"usages where none asked": {profile.CA{Usages: oids(profile.ServerAuth)}, profile.CA{}, ""},
		"any usage asked":         {profile.CA{}, profile.CA{Usages: oids(profile.ServerAuth, profile.AnyExtKeyUsage)}, ""},
		"no usages":               {profile.CA{}, profile.CA{Usages: oids(profile.ServerAuth)}, "it allows any extended key usage, but only [1.3.6.1.5.5.7.3.1] were asked for"},
		"one usage more":          {profile.CA{Usages: oids(profile.ServerAuth, profile.CodeSigning)}, profile.CA{Usages: oids(profile.ServerAuth)}, "it allows the extended key usage 1.3.6.1.5.5.7.3.3, but only [1.3.6.1.5.5.7.3.1] were asked for"},
		"any usage given":         {profile.CA{Usages: oids(profile.AnyExtKeyUsage)}, profile.CA{Usages: oids(profile.ServerAuth)}, "it allows the extended key usage 2.5.29.37.0, but only [1.3.6.1.5.5.7.3.1] were asked for"},
		"another policy":          {policies(gold), policies(silver), "it allows the certificate policy 1.3.6.1.4.1.55555.1, but only [1.3.6.1.4.1.55555.2] were asked for"},
		"any policy asked":        {policies(gold), policies(everyPolicy), ""},
		"demanded as asked":       {rules(new(1), new(2), new(3)), rules(new(1), new(2), new(3)), ""},
		"demanded sooner":         {rules(new(0), new(0), new(0)), rules(new(1), new(2), new(3)), ""},
		"demanded later":          {rules(new(2), nil, nil), rules(new(1), nil, nil), "it does not require a certificate policy after 1 certificates, as was asked for"},
		"not demanded":            {rules(nil, new(1), new(1)), rules(new(1), nil, nil), "it does not require a certificate policy after 1 certificates, as was asked for"},
		"mapped longer":           {rules(nil, new(2), nil), rules(nil, new(1), nil), "it does not inhibit the mapping of policies after 1 certificates, as was asked for"},
		"any for longer":          {rules(nil, nil, new(2)), rules(nil, nil, new(1)), "it does not inhibit anyPolicy after 1 certificates, as was asked for"},
	} {
		if got := policy.Wider(&test.given, &test.asked); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}
