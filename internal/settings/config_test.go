package settings_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"signet.example/signet/internal/settings"
	"signet.example/signet/pki"
)

func env(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func TestParseConfigDefaults(t *testing.T) {
	c, err := settings.Parse("state/signet.yaml", []byte("public_url: http://pki.example\n"), env())
	if err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string][2]string{
		"database":      {c.Database, "sqlite:signet.db"},
		"api.listen":    {c.API.Listen, "127.0.0.1:8443"},
		"public.listen": {c.Public.Listen, "127.0.0.1:8080"},
		"ops.listen":    {c.Ops.Listen, "127.0.0.1:9090"},
		"client.server": {c.Client.Server, "127.0.0.1:8443"},
		"root":          {c.Path(c.Client.Root), filepath.Join("state", "root.pem")},
		"keys":          {c.State().Keys(), filepath.Join("state", "keys")},
		"profiles":      {c.ProfilesDir(), ""},
		"database name": {c.DatabaseName(), "SQLite, " + filepath.Join("state", "signet.db")},
	} {
		if got[0] != got[1] {
			t.Errorf("%s is %q, want %q", name, got[0], got[1])
		}
	}
	if c.API.Connections != 4096 || c.API.PerAddress != 1024 || c.Public.Connections != 16384 || c.Public.PerAddress != 4096 {
		t.Errorf("bounds: %+v %+v", c.API, c.Public)
	}
	if c.CRL.Lifetime != 72*time.Hour || c.CRL.Interval != 6*time.Hour || c.OCSP.Lifetime != 0 {
		t.Errorf("times: %+v %+v", c.CRL, c.OCSP)
	}
}

// TestEnvironmentOverrides: every kind of field can be set from outside, and a bad value names the variable.
func TestEnvironmentOverrides(t *testing.T) {
	text := []byte("public_url: http://pki.example\napi: {listen: 127.0.0.1:1}\n")
	c, err := settings.Parse("signet.yaml", text, env(
		"SIGNET_API_LISTEN", "0.0.0.0:9443", "SIGNET_API_NAMES", "pki.example,192.0.2.1", "SIGNET_CRL_LIFETIME", "48h", "SIGNET_DATABASE", "postgres://db/signet", "SIGNET_PASSPHRASE_FILE", "pass"))
	if err != nil {
		t.Fatal(err)
	}
	if c.API.Listen != "0.0.0.0:9443" || len(c.API.Names) != 2 || c.CRL.Lifetime != 48*time.Hour || c.Database != "postgres://db/signet" || c.PassphraseFile != "pass" {
		t.Errorf("got %+v", c)
	}
	_, err = settings.Parse("signet.yaml", text, env("SIGNET_CRL_LIFETIME", "soon"))
	if err == nil || !strings.Contains(err.Error(), "SIGNET_CRL_LIFETIME") {
		t.Errorf("a bad variable gives %v", err)
	}
	if c, err := settings.Parse("signet.yaml", []byte("public_url: http://pki.example\ncrl: {lifetime: 7d}\n"), env("SIGNET_REQUESTS_KEEP", "1y")); err != nil || c.CRL.Lifetime != 168*time.Hour || c.Requests.Keep != 365*24*time.Hour {
		t.Errorf("days and years give %+v, %v", c, err)
	}
}

// What is said of an issuer alone counts for it, and the rest is as for all, which the environment may set.
func TestOCSPOfAnIssuer(t *testing.T) {
	c, err := settings.Parse("signet.yaml", []byte("public_url: http://pki.example\nocsp:\n  lifetime: 2h\n  issuers:\n    a: {nonce: live}\n    b: {lifetime: 8h, nonce: ignore}\n    c:\n"),
		env("SIGNET_OCSP_LIFETIME", "3h"))
	if err != nil {
		t.Fatal(err)
	}
	for label, want := range map[string]settings.OCSPAnswers{"a": {Lifetime: 3 * time.Hour, Nonce: "live"}, "b": {Lifetime: 8 * time.Hour, Nonce: "ignore"},
		"c": {Lifetime: 3 * time.Hour, Nonce: "ignore"}, "other": {Lifetime: 3 * time.Hour, Nonce: "ignore"}} {
		if got := c.OCSP.For(label); got != want {
			t.Errorf("%s: %+v, want %+v", label, got, want)
		}
	}
}

// TestUnknownVariables: a variable that sets nothing is told of, unless an orchestrator set it.
func TestUnknownVariables(t *testing.T) {
	for _, tc := range []struct {
		variable string
		good     bool
	}{
		{"SIGNET_API_LISTEN=x", true}, {"SIGNET_API_CONNECTIONS_PER_ADDRESS=1", true}, {"SIGNET_KEYS_PKCS11_PIN_FILE=x", true}, {"SIGNET_PASSPHRASE=x", true}, {"SIGNET_CONFIG=x", true},
		{"PATH=x", true}, {"SIGNET_APILISTEN=", true},
		{"SIGNET_SERVICE_HOST=10.0.0.1", true}, {"SIGNET_PORT=tcp://10.0.0.1:8443", true}, {"SIGNET_API_PORT_8443_TCP_ADDR=10.0.0.1", true}, {"SIGNET_API_SERVICE_PORT_HTTPS=8443", true},
		{"SIGNET_APILISTEN=x", false}, {"SIGNET_OCSP_NONCE=x", true}, {"SIGNET_OCSP_ISSUERS=x", false}, {"SIGNET_OCSP_OCSPANSWERS=x", false}, {"SIGNET_API=x", false}, {"SIGNET_API_CROWDCONFIG=x", false}, {"SIGNET_CRL_LIFE_TIME=1h", false}, {"SIGNET_PASS_PHRASE=x", false},
	} {
		unknown := settings.UnknownVariables([]string{"HOME=/", tc.variable})
		name, _, _ := strings.Cut(tc.variable, "=")
		if tc.good && len(unknown) > 0 || !tc.good && (len(unknown) != 1 || unknown[0] != name) {
			t.Errorf("%s: %v", tc.variable, unknown)
		}
	}
}

// TestBadConfig: each error names file, line and field, and says what is wanted.
func TestBadConfig(t *testing.T) {
	const good = "public_url: http://pki.example\n"
	for _, tc := range []struct{ name, text, want string }{
		{"nothing", "", "public_url: missing"},
		{"not YAML", "a: [", "signet.yaml:1: did not find"},
		{"unknown field", good + "databse: x\n", "signet.yaml:2: databse: there is no such field here; did you mean database?"},
		{"unknown nested field", good + "api:\n  lisen: x\n", "signet.yaml:3: api.lisen: there is no such field here; did you mean listen?"},
		{"wrong type", good + "api: 7\n", `signet.yaml:2: api: "7" is not what belongs here: want fields`},
		{"number", good + "keys: {queue: many}\n", `signet.yaml:2: keys.queue: "many" is not what belongs here: want a number`},
		{"duration", good + "crl: {lifetime: 3 days}\n", `signet.yaml:2: crl.lifetime: "3 days" is not a duration such as 90s, 30m, 24h, 7d or 1y`},
		{"duration without a unit", good + "crl: {lifetime: 3}\n", `signet.yaml:2: crl.lifetime: "3" is not a duration`},
		{"two mistakes", "public_ulr: http://pki.example\napi: {conections: 7}\n", "signet.yaml:1: public_ulr: there is no such field here; did you mean public_url?; line 2: api.conections: there is no such field here; did you mean connections?"},
		{"field twice", good + good, "signet.yaml:2: public_url: stands here twice"},
		{"database", good + "database: mysql://x\n", "signet.yaml:2: database: want sqlite:FILE or postgres://"},
		{"empty sqlite", good + "database: 'sqlite:'\n", "signet.yaml:2: database"},
		{"https", "public_url: https://pki.example\n", "signet.yaml:1: public_url: must be http, not https"},
		{"no URL", "public_url: pki.example\n", "signet.yaml:1: public_url"},
		{"URL with user", "public_url: http://a:b@pki.example\n", "signet.yaml:1: public_url"},
		{"listen", good + "api:\n  names: []\n  listen: 8443\n", "signet.yaml:4: api.listen: \"8443\": want host:port"},
		{"API off", good + "api: {listen: 'off'}\n", "signet.yaml:2: api.listen"},
		{"connections", good + "public:\n  connections: -1\n", "signet.yaml:3: public.connections"},
		{"connections per address", good + "api: {connections: 10, connections_per_address: 11}\n", "signet.yaml:2: api.connections_per_address"},
		{"calls per second", good + "api: {calls_per_second: -1}\n", "signet.yaml:2: api.calls_per_second"},
		{"names", good + "api: {names: ['a b']}\n", "signet.yaml:2: api.names"},
		{"CRL lifetime", good + "crl: {lifetime: 1s}\n", "signet.yaml:2: crl.lifetime"},
		{"CRL interval", good + "crl: {lifetime: 1h, interval: 2h}\n", "signet.yaml:2: crl.interval"},
		{"OCSP lifetime", good + "ocsp: {lifetime: 1000h}\n", "signet.yaml:2: ocsp.lifetime"},
		{"OCSP nonce", good + "ocsp: {nonce: always}\n", "signet.yaml:2: ocsp.nonce"},
		{"OCSP lifetime of an issuer", good + "ocsp:\n  lifetime: 2h\n  issuers:\n    a: {nonce: live}\n    issuing: {lifetime: 1s}\n", "signet.yaml:6: ocsp.issuers.issuing.lifetime: 1s: want 1m to 240h"},
		{"OCSP nonce of an issuer", good + "ocsp:\n  issuers:\n    issuing: {nonce: always}\n", "signet.yaml:4: ocsp.issuers.issuing.nonce: \"always\": want ignore or live"},
		{"OCSP of an issuer", good + "ocsp:\n  issuers:\n    issuing: {nonces: live}\n", "signet.yaml:4: ocsp.issuers.issuing.nonces: there is no such field here; did you mean nonce?"},
		{"key store", good + "keys: {store: cloud}\n", "signet.yaml:2: keys.store"},
		{"half a token", good + "keys: {pkcs11: {module: /x.so}}\n", "signet.yaml:2: keys.pkcs11"},
		{"no token", good + "keys: {store: pkcs11}\n", "keys.pkcs11"},
		{"log format", good + "log: {format: xml}\n", "signet.yaml:2: log.format"},
		{"log level", good + "log: {level: loud}\n", "signet.yaml:2: log.level"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := settings.Parse("signet.yaml", []byte(tc.text), env())
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %v, want %q in it", err, tc.want)
			}
			if pki.KindOf(err) != pki.KindInvalid {
				t.Errorf("kind %s", pki.KindOf(err))
			}
		})
	}
}

// TestDatabasePasswordStaysOut: a database URL with a mistake must not end up in a log.
func TestDatabasePasswordStaysOut(t *testing.T) {
	_, err := settings.Parse("signet.yaml", []byte("public_url: http://pki.example\ndatabase: postgre://me:hunter2@db/x\n"), env())
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v", err)
	}
}

func TestLoadConfigBounds(t *testing.T) {
	dir := t.TempDir()
	if _, err := settings.Load(filepath.Join(dir, "signet.yaml"), env()); pki.KindOf(err) != pki.KindNotFound {
		t.Errorf("a missing file gives %v", err)
	}
	big := filepath.Join(dir, "big.yaml")
	if err := os.WriteFile(big, []byte(strings.Repeat("#", 2<<20)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := settings.Load(big, env()); pki.KindOf(err) != pki.KindInvalid {
		t.Errorf("a huge file gives %v", err)
	}
	if _, err := settings.Load(dir, env()); pki.KindOf(err) != pki.KindInvalid {
		t.Errorf("a directory gives %v", err)
	}
}

func TestLoopback(t *testing.T) {
	for url, want := range map[string]bool{
		"http://127.0.0.1:8080": true, "http://localhost": true, "http://[::1]:80": true, "http://a.localhost": true,
		"http://pki.example": false, "http://192.168.1.1": false, "http://localhost.example": false,
	} {
		if settings.Loopback(url) != want {
			t.Errorf("Loopback(%s) = %v", url, !want)
		}
	}
}

// What is said of a file that cannot be used is said of a PIN if it was to have one.
func TestPIN(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pin")
	read := settings.PKCS11Config{PINFile: path}.PIN
	_, err := read()
	if e, ok := errors.AsType[*pki.Error](err); !ok || e.Op != "read PIN" || e.Hint != "name a readable file with the PIN on its only line" {
		t.Errorf("no file: %v", err)
	}
	if err := os.WriteFile(path, []byte("1234\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if pin, err := read(); err != nil || string(pin) != "1234" {
		t.Errorf("PIN %q, %v", pin, err)
	}
}

func TestPassphraseSources(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	flag, fromEnv := write("flag", "from flag\n"), write("env", "from env file\r\n")
	write("signet-passphrase", "from systemd")
	for _, tc := range []struct {
		name   string
		source settings.PassphraseSource
		want   string
	}{
		{"flag first", settings.PassphraseSource{flag, env("SIGNET_PASSPHRASE_FILE", fromEnv, "SIGNET_PASSPHRASE", "x")}, "from flag"},
		{"then the file of the environment", settings.PassphraseSource{"", env("SIGNET_PASSPHRASE_FILE", fromEnv, "SIGNET_PASSPHRASE", "x")}, "from env file"},
		{"then the environment", settings.PassphraseSource{"", env("SIGNET_PASSPHRASE", " spaces count ", "CREDENTIALS_DIRECTORY", dir)}, " spaces count "},
		{"then systemd", settings.PassphraseSource{"", env("CREDENTIALS_DIRECTORY", dir)}, "from systemd"},
	} {
		got, ok, err := tc.source.Read()
		if err != nil || !ok || string(got) != tc.want {
			t.Errorf("%s: %q, %v, %v; want %q", tc.name, got, ok, err, tc.want)
		}
	}
	for _, none := range []settings.PassphraseSource{{"", env()}, {"", env("CREDENTIALS_DIRECTORY", t.TempDir())}} {
		if got, ok, err := none.Read(); ok || err != nil || got != nil {
			t.Errorf("no source gives %q, %v, %v", got, ok, err)
		}
	}
	for name, path := range map[string]string{"missing": filepath.Join(dir, "missing"), "empty": write("empty", "\n"), "two lines": write("two", "a\nb\n"), "huge": write("huge", strings.Repeat("a", 5000))} {
		if got, ok, err := (settings.PassphraseSource{path, env()}).Read(); err == nil || ok {
			t.Errorf("%s: %q, %v, want an error", name, got, ok)
		}
	}
}

func TestStateRefusesToOverwrite(t *testing.T) {
	s := settings.State{Dir: filepath.Join(t.TempDir(), "ca")}
	if err := s.Create(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(s.Keys()); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("keys: %v, %v", info, err)
	}
	if err := s.Create(); pki.KindOf(err) != pki.KindConflict {
		t.Errorf("a second time gives %v", err)
	}
	// Of many at the same time one has it: whoever fails later removes the keys that it made.
	for range 50 {
		s := settings.State{Dir: filepath.Join(t.TempDir(), "ca")}
		var made atomic.Int64
		var all sync.WaitGroup
		begin := make(chan struct{})
		for range 8 {
			all.Go(func() {
				<-begin
				if s.Create() == nil {
					made.Add(1)
				}
			})
		}
		close(begin)
		all.Wait()
		if made.Load() != 1 {
			t.Fatalf("%d of 8 made it", made.Load())
		}
	}
}
