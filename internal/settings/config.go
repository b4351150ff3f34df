// Package settings reads what people decide about a Signet: signet.yaml and the environment, the paths of its state
// directory, and where the passphrase of its keys comes from. What they name is opened elsewhere.
package settings

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"signet.example/signet/internal/written"
	"signet.example/signet/pki"
)

// Config is signet.yaml after validation. The environment overrides the file: SIGNET_ and the path of the field in
// capitals, words joined by underscores (api.listen is SIGNET_API_LISTEN; lists are separated by commas), but for ocsp.issuers. Relative
// paths are relative to the directory of the file.
type Config struct {
	File           string         `yaml:"-"`               // path of the file
	Dir            string         `yaml:"-"`               // its directory: the state directory
	Database       string         `yaml:"database"`        // "sqlite:FILE" or "postgres://..."; default "sqlite:signet.db"
	PublicURL      string         `yaml:"public_url"`      // base of the CRL, OCSP and issuer URLs in certificates of issuers made from now on; demanded
	PassphraseFile string         `yaml:"passphrase_file"` // holds the passphrase of the keys; empty: see Passphrase
	Keys           KeysConfig     `yaml:"keys"`            // where the keys of issuers are kept
	API            APIConfig      `yaml:"api"`             // gRPC and REST
	Public         ListenConfig   `yaml:"public"`          // CRL, OCSP, issuers
	Ops            OpsConfig      `yaml:"ops"`             // metrics and health
	Requests       RequestsConfig `yaml:"requests"`        // that wait for an approval
	CRL            CRLConfig      `yaml:"crl"`             //
	OCSP           OCSPConfig     `yaml:"ocsp"`            //
	Log            LogConfig      `yaml:"log"`             //
	Client         ClientConfig   `yaml:"client"`          // how commands reach the API
	Profiles       string         `yaml:"profiles"`        // directory of profile files; empty: only the built-in ones
	WeakKeys       string         `yaml:"weak_keys"`       // file with the hashes of keys that are never certified; empty: none
}

// RequestsConfig bounds the requests that wait for an approval.
type RequestsConfig struct {
	Lifetime   time.Duration `yaml:"lifetime"`    // until a decision and, once approved, until issued; default 168h (7 days)
	Keep       time.Duration `yaml:"keep"`        // for which a decided or expired one can be read; default 720h (30 days)
	PerAccount int           `yaml:"per_account"` // most pending ones of an account; default 100
	Total      int           `yaml:"total"`       // most pending ones; default 10,000
}

// KeysConfig says where keys are kept. Keys in files are always there: the OCSP responder's is one.
type KeysConfig struct {
	Store  string       `yaml:"store"` // where new issuers' keys are made: softkey or pkcs11; default softkey
	PKCS11 PKCS11Config `yaml:"pkcs11"`

	Deadline time.Duration `yaml:"deadline"` // of a signature by a token, waiting included; default 5s
	Queue    int           `yaml:"queue"`    // signatures for certificates that wait for one key; default 1024
	Places   int           `yaml:"places"`   // calls at a time for one key of a token, for certificates; default 4
}

// PKCS11Config is a token.
type PKCS11Config struct {
	Module  string `yaml:"module"`   // path of the vendor's library; empty: there is no token
	Token   string `yaml:"token"`    // label of the token
	PINFile string `yaml:"pin_file"` // holds the user's PIN on its only line
}

// ListenConfig is one listener.
type ListenConfig struct {
	Listen string `yaml:"listen"` // host:port; "off" switches it off (not possible for the API)

	CrowdConfig `yaml:",inline"`
}

// OpsConfig is the listener of operators.
type OpsConfig struct {
	ListenConfig `yaml:",inline"`

	Profiling bool `yaml:"profiling"` // serves profiles of the process under /debug/pprof/ too
}

// CrowdConfig bounds the open connections of a listener.
type CrowdConfig struct {
	Connections int `yaml:"connections"`             // all of them; default 4,096, 16,384 for the public listener
	PerAddress  int `yaml:"connections_per_address"` // of one IPv4 address or IPv6 /64; default a quarter of all. Behind a proxy: all
}

// APIConfig is the listener of gRPC and REST.
type APIConfig struct {
	Listen string   `yaml:"listen"` // host:port; default 127.0.0.1:8443
	Names  []string `yaml:"names"`  // host names and addresses for its certificate, besides those of Listen and localhost

	CallsPerSecond int `yaml:"calls_per_second"` // most calls and items of streams for one credential, and as many at once; 0: no limit

	CrowdConfig `yaml:",inline"`
}

// CRLConfig times the CRLs.
type CRLConfig struct {
	Lifetime time.Duration `yaml:"lifetime"` // thisUpdate to nextUpdate; default 72h
	Interval time.Duration `yaml:"interval"` // rebuilt at least this often; default a twelfth of the lifetime

	Directory string   `yaml:"directory"` // each list is written below it too, for a web server or CDN; empty: not
	S3        S3Config `yaml:"s3"`        // each list is copied there too
}

// S3Config is a bucket of S3-compatible storage. Its credentials are in the environment: AWS_ACCESS_KEY_ID,
// AWS_SECRET_ACCESS_KEY and, if they are temporary, AWS_SESSION_TOKEN.
type S3Config struct {
	Endpoint string `yaml:"endpoint"` // https://s3.eu-central-1.amazonaws.com; the bucket goes into the path
	Region   string `yaml:"region"`   // default us-east-1
	Bucket   string `yaml:"bucket"`   // empty: nothing is copied
	Prefix   string `yaml:"prefix"`   // before the names, such as pki/
}

// OCSPConfig says what OCSP responses are like.
type OCSPConfig struct {
	OCSPAnswers `yaml:",inline"`

	Issuers map[string]OCSPAnswers `yaml:"issuers"` // by label: what is otherwise for an issuer; what is not said is as for all
}

// For is what the responses of the issuer with a label are like.
func (c OCSPConfig) For(label string) OCSPAnswers {
	answers := c.Issuers[label]
	setDefault(&answers.Lifetime, c.Lifetime)
	setDefault(&answers.Nonce, c.Nonce)
	return answers
}

// OCSPAnswers times responses, and says what becomes of nonces.
type OCSPAnswers struct {
	Lifetime time.Duration `yaml:"lifetime"` // thisUpdate to nextUpdate; default 1h, 8h for issuers that serve the public
	Nonce    string        `yaml:"nonce"`    // ignore: answers come from the cache; live: a nonce is answered afresh; default ignore
}

// LogConfig is the server's log on stderr.
type LogConfig struct {
	Format string `yaml:"format"` // text or json; default text
	Level  string `yaml:"level"`  // debug, info, warn or error; default info
}

// ClientConfig says how the commands of this machine reach the API.
type ClientConfig struct {
	Server    string `yaml:"server"`     // host:port; default api.listen
	TokenFile string `yaml:"token_file"` // default admin.token
	Root      string `yaml:"root"`       // PEM bundle that the API's certificate must chain to; default root.pem
}

// configLimit bounds the file, in octets.
const configLimit = 1 << 20

// Load reads and validates the file at path with the overrides of the environment (os.Getenv). Errors name
// file, line and field.
func Load(path string, getenv func(string) string) (*Config, error) {
	const op = "read configuration"
	text, err := readBounded(path, configLimit)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, pki.Errorf(pki.KindNotFound, op, "%s does not exist", path).
			WithHint("run `signet init` to make one, or name it with --config or SIGNET_CONFIG")
	case err != nil:
		return nil, pki.Errorf(pki.KindInvalid, op, "%w", err).WithHint("check the owner and mode of the file")
	}
	c, err := Parse(path, text, getenv)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Parse is Load for a text already read.
func Parse(path string, text []byte, getenv func(string) string) (*Config, error) {
	const op = "read configuration"
	c := &Config{File: path, Dir: filepath.Dir(path)}
	doc, mistakes := written.Read(text, c)
	if len(mistakes) > 0 {
		return nil, misread(path, mistakes)
	}
	if field, err := overrideFromEnv(reflect.ValueOf(c).Elem(), nil, getenv); err != nil {
		return nil, pki.Errorf(pki.KindInvalid, op, "%s: %w", envName(field), err).InField(strings.Join(field, "."))
	}
	c.PublicURL = strings.TrimSuffix(c.PublicURL, "/") // as the URLs of issuers are kept
	c.fillDefaults()
	if field, err := c.validate(); err != nil {
		line, _ := doc.Locate(steps(field)...)
		from := place(path, line)
		if variable := envName(strings.Split(field, ".")); getenv(variable) != "" {
			from = variable
		}
		return nil, pki.Errorf(pki.KindInvalid, "read "+from, "%w", err).InField(field).WithHint("docs/OPERATIONS.md says what each field takes")
	}
	return c, nil
}

// misread says what is wrong with the text of a file: the first of it by file, line and field, and the rest behind it.
func misread(path string, mistakes []written.Mistake) error {
	first, text := mistakes[0], mistakes[0].Text
	for _, m := range mistakes[1:] {
		text += "; " + m.String()
	}
	return pki.Errorf(pki.KindInvalid, "read "+place(path, first.Line), "%s", text).InField(first.Field).WithHint("docs/OPERATIONS.md lists every field")
}

// place is "file:line", or the file if there is no line to name.
func place(path string, line int) string {
	if line == 0 {
		return path
	}
	return fmt.Sprintf("%s:%d", path, line)
}

// fillDefaults states the zero of every field.
func (c *Config) fillDefaults() {
	setDefault(&c.Database, "sqlite:signet.db")
	setDefault(&c.Keys.Store, "softkey")
	setDefault(&c.API.Listen, "127.0.0.1:8443")
	setDefault(&c.Public.Listen, "127.0.0.1:8080")
	setDefault(&c.Ops.Listen, "127.0.0.1:9090")
	setDefault(&c.Public.Connections, 16_384)
	for _, crowd := range []*CrowdConfig{&c.API.CrowdConfig, &c.Public.CrowdConfig, &c.Ops.CrowdConfig} {
		setDefault(&crowd.Connections, 4096)
		setDefault(&crowd.PerAddress, max(1, crowd.Connections/4))
	}
	setDefault(&c.Requests.Lifetime, 7*24*time.Hour)
	setDefault(&c.Requests.Keep, 30*24*time.Hour)
	setDefault(&c.Requests.PerAccount, 100)
	setDefault(&c.Requests.Total, 10_000)
	setDefault(&c.CRL.Lifetime, 72*time.Hour)
	setDefault(&c.CRL.Interval, c.CRL.Lifetime/12)
	setDefault(&c.OCSP.Nonce, "ignore")
	setDefault(&c.Log.Format, "text")
	setDefault(&c.Log.Level, "info")
	setDefault(&c.Client.Server, c.API.Listen)
	setDefault(&c.Client.TokenFile, "admin.token")
	setDefault(&c.Client.Root, "root.pem")
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// validate returns the first field at fault and why.
func (c *Config) validate() (field string, err error) {
	for _, part := range []func() (string, error){c.validateKeys, c.validateListeners, c.validateAPI, c.validateCRL, c.validateOCSP, c.validateLog} {
		if field, err := part(); err != nil {
			return field, err
		}
	}
	if r := c.Requests; r.Lifetime < time.Minute || r.Keep < 24*time.Hour || r.PerAccount < 1 || r.Total < r.PerAccount {
		return "requests", fmt.Errorf("want a lifetime of a minute at least, keep of a day at least (request ids count so long), and total not below per_account")
	}
	if err := CheckDatabase(c.Database); err != nil {
		return "database", err
	}
	if err := CheckPublicURL(c.PublicURL); err != nil {
		return "public_url", err
	}
	return "", nil
}

func (c *Config) validateKeys() (field string, err error) {
	if c.Keys.Deadline < 0 || c.Keys.Queue < 0 || c.Keys.Places < 0 {
		return "keys", fmt.Errorf("deadline, queue and places cannot be negative")
	}
	if c.Keys.Store != "softkey" && c.Keys.Store != "pkcs11" {
		return "keys.store", fmt.Errorf("%q: want softkey or pkcs11", c.Keys.Store)
	}
	if token := c.Keys.PKCS11; c.Keys.Store == "pkcs11" || token != (PKCS11Config{}) {
		if token.Module == "" || token.Token == "" || token.PINFile == "" {
			return "keys.pkcs11", fmt.Errorf("a token needs module, token and pin_file")
		}
	}
	return "", nil
}

func (c *Config) validateListeners() (field string, err error) {
	for _, l := range []struct {
		field, value string
		off          bool
	}{{"api.listen", c.API.Listen, false}, {"public.listen", c.Public.Listen, true}, {"ops.listen", c.Ops.Listen, true}, {"client.server", c.Client.Server, false}} {
		if l.off && l.value == "off" {
			continue
		}
		if _, _, err := net.SplitHostPort(l.value); err != nil {
			return l.field, fmt.Errorf("%q: want host:port, such as 127.0.0.1:8443", l.value)
		}
	}
	for _, l := range []struct {
		field string
		crowd CrowdConfig
	}{{"api", c.API.CrowdConfig}, {"public", c.Public.CrowdConfig}, {"ops", c.Ops.CrowdConfig}} {
		if l.crowd.Connections < 1 || l.crowd.Connections > 1_000_000 {
			return l.field + ".connections", fmt.Errorf("%d: want 1 to 1000000", l.crowd.Connections)
		}
		if l.crowd.PerAddress < 1 || l.crowd.PerAddress > l.crowd.Connections {
			return l.field + ".connections_per_address", fmt.Errorf("%d: want 1 to the %d connections of the listener", l.crowd.PerAddress, l.crowd.Connections)
		}
	}
	return "", nil
}

func (c *Config) validateAPI() (field string, err error) {
	for _, name := range c.API.Names {
		if _, err := pki.ParseIdentifier(name); err != nil {
			return "api.names", err
		}
	}
	if c.API.CallsPerSecond < 0 || c.API.CallsPerSecond > 1_000_000 {
		return "api.calls_per_second", fmt.Errorf("%d: want 1 to 1000000, or 0 for no limit", c.API.CallsPerSecond)
	}
	return "", nil
}

func (c *Config) validateCRL() (field string, err error) {
	if c.CRL.Lifetime < time.Minute || c.CRL.Lifetime > 366*24*time.Hour {
		return "crl.lifetime", fmt.Errorf("%s: want 1m to 8784h", c.CRL.Lifetime)
	}
	if c.CRL.Interval <= 0 || c.CRL.Interval >= c.CRL.Lifetime {
		return "crl.interval", fmt.Errorf("%s: want less than the lifetime of %s, so that a fresh CRL is there before the old one ends", c.CRL.Interval, c.CRL.Lifetime)
	}
	return "", nil
}

func (c *Config) validateOCSP() (field string, err error) {
	if field, err := c.OCSP.validate("ocsp"); err != nil {
		return field, err
	}
	for _, label := range slices.Sorted(maps.Keys(c.OCSP.Issuers)) {
		if field, err := c.OCSP.For(label).validate("ocsp.issuers." + label); err != nil {
			return field, err
		}
	}
	return "", nil
}

func (c *Config) validateLog() (field string, err error) {
	if c.Log.Format != "text" && c.Log.Format != "json" {
		return "log.format", fmt.Errorf("%q: want text or json", c.Log.Format)
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, c.Log.Level) {
		return "log.level", fmt.Errorf("%q: want debug, info, warn or error", c.Log.Level)
	}
	return "", nil
}

// validate returns the first field at fault, below the one that is named, and why.
func (a OCSPAnswers) validate(below string) (field string, err error) {
	if a.Lifetime != 0 && a.Lifetime < time.Minute || a.Lifetime > 10*24*time.Hour {
		return below + ".lifetime", fmt.Errorf("%s: want 1m to 240h", a.Lifetime)
	}
	if a.Nonce != "ignore" && a.Nonce != "live" {
		return below + ".nonce", fmt.Errorf("%q: want ignore or live", a.Nonce)
	}
	return "", nil
}

// CheckPublicURL says whether url can be the base of the URLs in certificates: plain http, since checking the TLS
// certificate of a responder would need the answer it is about to give (RFC 5280, Section 8).
func CheckPublicURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case text == "":
		return errors.New("missing: the base URL at which other machines reach the public listener, such as http://pki.example.com")
	case err != nil:
		return fmt.Errorf("%q is not a URL", text)
	case u.Scheme == "https":
		return errors.New("must be http, not https: a client would need to check the certificate of this very URL to fetch the answer; CRLs and OCSP responses are signed")
	case u.Scheme != "http" || u.Host == "":
		return fmt.Errorf("%q: want http://host or http://host:port", text)
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return fmt.Errorf("%q: user, query and fragment do not belong here", text)
	}
	return nil
}

// Loopback reports whether the host of a public URL can only mean this machine.
func Loopback(publicURL string) bool {
	u, err := url.Parse(publicURL)
	if err != nil {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || strings.HasSuffix(u.Hostname(), ".localhost") || ip != nil && ip.IsLoopback()
}

// CheckDatabase refuses what names no database of a kind that is known.
func CheckDatabase(text string) error {
	switch {
	case strings.HasPrefix(text, "sqlite:") && len(text) > len("sqlite:"):
		return nil
	case strings.HasPrefix(text, "postgres://"), strings.HasPrefix(text, "postgresql://"):
		return nil
	}
	// The text may hold a password, so it is not repeated.
	return errors.New("want sqlite:FILE or postgres://user@host/database")
}

// Identity is the SHA-256, in hexadecimal, of the path of the file from the root, links followed: two servers of one machine tell
// each other apart by it, and whoever may ask them is not told the path.
func (c *Config) Identity() string {
	path := c.File
	if whole, err := filepath.Abs(path); err == nil {
		path = whole
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	digest := sha256.Sum256([]byte(path))
	return hex.EncodeToString(digest[:])
}

// Path resolves a path of the configuration against the directory of the file.
func (c *Config) Path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(c.Dir, name)
}

// DatabaseName names the database without any password, for people.
func (c *Config) DatabaseName() string {
	if path, ok := c.SQLitePath(); ok {
		return "SQLite, " + path
	}
	return "PostgreSQL"
}

// SQLitePath is the path of the SQLite file, if the database is one.
func (c *Config) SQLitePath() (string, bool) {
	name, ok := strings.CutPrefix(c.Database, "sqlite:")
	if !ok {
		return "", false
	}
	return c.Path(name), true
}

// PassphraseFilePath is the path of the file with the passphrase; empty: none is configured.
func (c *Config) PassphraseFilePath() string {
	if c.PassphraseFile == "" {
		return ""
	}
	return c.Path(c.PassphraseFile)
}

// KeyStores is Keys with its paths resolved.
func (c *Config) KeyStores() KeysConfig {
	stores := c.Keys
	stores.PKCS11.PINFile = c.Path(stores.PKCS11.PINFile)
	return stores
}

// ProfilesDir is the directory of profile files; empty: only the built-in ones.
func (c *Config) ProfilesDir() string {
	if c.Profiles == "" {
		return ""
	}
	return c.Path(c.Profiles)
}

// WeakKeysPath is the path of the list of weak keys; empty: none is configured.
func (c *Config) WeakKeysPath() string {
	if c.WeakKeys == "" {
		return ""
	}
	return c.Path(c.WeakKeys)
}

// readBounded reads a file of at most limit octets.
func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(text)) > limit {
		return nil, fmt.Errorf("%s: longer than %d octets", path, limit)
	}
	return text, nil
}
