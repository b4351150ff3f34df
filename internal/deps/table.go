package deps

// module is the path that the patterns below are relative to.
const module = "signet.example/signet"

// rule reads: the packages on the left may be imported by those on the right. "x/..." is x and everything below it.
type rule struct {
	packages []string
	by       []string
}

// table is section 3 of the plan of the house, line by line, and behind it what the plan did not foresee, with the
// reason. What no line allows is not allowed.
var table = []rule{
	{list("pki"), list("...")},
	{list("crl", "ocsp"), list("handshake", "handshake/fetch", "handshake/verify", "handshake/wire")},
	{list("handshake/fetch", "handshake/verify", "handshake/wire"), list("handshake")},
	{list("handshake"), list("handshake/grpccreds")}, // a package of its own: who does not speak gRPC does not link it
	{list("handshake/wire/protocol"), list("handshake/wire", "handshake/wire/laboratory", "handshake/wire/survey")},
	{list("handshake/wire"), list("handshake/wire/laboratory")},
	{list("internal/audit"), list("internal/auth")},
	{list("ca/profile"), list("ca/policy")},
	{list("crl", "ocsp"), list("ca/lint")},
	{list("ca/keys", "internal/durable"), list("ca/keys/...")},
	{list("internal/auth", "internal/audit", "ca/keys", "ca/profile", "ca/policy", "ca/lint", "ca/inventory"), list("ca")},
	{list("internal/auth", "internal/audit", "ca"), list("ca/approval")}, // files what needs an approval, and has the ca issue it
	{list("ca/approval"), list("api/rpc")},
	{list("ca/inventory"), list("ca/approval", "api/rpc", "store", "store/postgres", "store/sqlite", "store/storetest")}, // rows and pages are its values
	{list("internal/auth", "internal/audit", "ca/profile"), list("ca/profile/rollout")},                                  // tells instances of each other's profiles
	{list("ca/profile/rollout"), list("api/rpc")},
	{list("internal/auth", "internal/audit"), list("revocation")},
	{list("crl", "ca/lint", "revocation"), list("crl/crlserver")},
	{list("crl", "internal/durable"), list("crl/mirror")},
	{list("internal/auth", "internal/audit"), list("crl/crlserver")}, // to bring in a list is a privileged verb
	{list("ocsp", "ca/lint", "revocation"), list("ocsp/ocspserver")},
	{list("internal/auth", "internal/audit", "ca", "revocation"), list("api/rpc")},
	{list("ca/keys", "ca/profile"), list("api/rpc")}, // names of key types and the shape of name constraints, in ca.NewIssuer
	{list("crl", "ocsp", "handshake", "handshake/fetch"), list("handshake/handshaketest")},
	{list("handshake/handshaketest"), list("cmd/signet")}, // serve --misbehave shows the hostile peers to people
	{list(declaresStore...), list("store", "store/postgres", "store/sqlite", "store/storetest")},
	{list("internal/auth", "internal/audit"), list("store", "store/postgres", "store/sqlite", "store/storetest")},
	{list("store"), list("store/postgres", "store/sqlite", "store/storetest")},
	{list("migrations"), list("store/postgres", "store/sqlite", "cmd/signet")},
	{list("api/signetv1"), list("api/rpc", "api/rest", "api/client")},
	{list("api/openapi"), list("api/rest")},
	{list("...", except+"api/signetv1", except+"internal/testport", except+"internal/testbucket", except+"internal/testdb", except+"internal/testder", except+"internal/testprogram", except+"internal/invariant"),
		list("internal/server", "cmd/signet", "scripts/...")},
	{list("...", except+"api/signetv1"), list("internal/testbucket", "internal/testport", "internal/testdb", "internal/testprogram", "internal/invariant")},

	// The directory, keys and database of a Signet are opened, made, backed up and restored apart from the server that runs on them.
	{list("internal/settings", "internal/durable", "internal/auth", "internal/audit", "ca", "ca/keys", "ca/keys/pkcs11", "ca/keys/softkey", "ca/profile",
		"store", "store/postgres", "store/sqlite", "migrations"), list("internal/installation")},

	// Parts of the server that have rules of their own; what they are given, and when they run, is the server's.
	{list("internal/settings", "internal/durable", "internal/auth", "api/client", "ca"), list("internal/server/apicert")},
	{list("internal/durable", "internal/audit", "store"), list("internal/server/highwater")},

	{list("internal/durable"), list("internal/agent")},
	{list("ocsp", "handshake/fetch"), list("internal/agent")}, // asks how what it keeps stands, which takes no credential
	{list("api/client", "ca/keys"), list("internal/agent")},   // keeps files renewed, as any other client of the API

	{list("api/client", "ca/keys", "ca"), list("internal/rollover")}, // replaces an authority, as another client, which knows what can be repeated

	// Settings, profiles and the agent's list of certificates are written by people, and read in one way.
	{list("internal/written"), list("internal/settings", "internal/agent", "ca/profile")},

	// A ceremony uses the authority's own draft, rules and lists where there is no database.
	{list("ca", "ca/keys", "ca/lint", "ca/policy", "ca/profile", "crl", "internal/durable"), list("ca/ceremony")},
	// Profiles and policy speak of key algorithms, roles and lint rules, which are values of these packages.
	{list("ca/keys", "ca/lint", "internal/auth"), list("ca/profile")},
	{list("ca/keys"), list("ca/policy")},
	// The signature of a published list is kept, and is a value of crl.
	{list("crl"), list("store", "store/postgres", "store/sqlite", "store/storetest")},
}

// declaresStore are the packages with a store.go: what they need kept.
var declaresStore = []string{
	"ca", "ca/approval", "ca/profile", "ca/profile/rollout", "ca/keys", "revocation", "crl/crlserver", "ocsp/ocspserver", "api/rpc",
}

// testSupport are packages that only tests import, and that may import package testing.
var testSupport = []string{"internal/testbucket", "internal/testport", "internal/testdb", "internal/testder", "internal/testprogram", "internal/invariant", "store/storetest"}

// confinements keep a foreign package inside, or out of, some rooms.
var confinements = []confinement{
	{imports: list("database/sql/...", "github.com/jackc/pgx/v5/...", "modernc.org/sqlite/..."),
		only: list("store/...", "migrations/...", "internal/testdb", "scripts/..."),
		why:  "SQL stays in store and migrations"},
	{imports: list("net/http"), never: list("pki", "crl", "ocsp", "revocation", "ca"),
		why: "formats and domain know nothing of HTTP; their server halves do"},
	{imports: list("testing"), only: testSupport, why: "test code does not go into the product"},
}

// clocks may read the wall clock; everyone else is given the time.
var clocks = list("internal/server", "cmd/...", "scripts/...", "handshake/handshaketest", "internal/testdb", "internal/invariant", "store/storetest")

// bannedNames say nothing about what a package is for.
var bannedNames = list("util", "utils", "common", "helper", "helpers", "core", "mock", "mocks", "misc")

// storeMethods bounds the interfaces of a store.go.
const storeMethods = 6

const except = "!"

type confinement struct {
	imports []string
	only    []string // nobody else; empty: see never
	never   []string
	why     string
}

func list(patterns ...string) []string { return patterns }
