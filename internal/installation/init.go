// Package installation manages the parts of a Signet that outlive its processes: a state directory, keys and a
// database. It opens them as configured, creates them for a new CA, backs them up and restores them.
package installation

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"text/template"
	"time"

	"signet.example/signet/ca"
	"signet.example/signet/ca/keys"
	"signet.example/signet/internal/durable"
	"signet.example/signet/internal/settings"
	"signet.example/signet/pki"
)

// InitConfig describes a new CA.
type InitConfig struct {
	Dir             string // state directory; created if it does not exist
	Database        string // zero: "sqlite:signet.db"
	PublicURL       string // required; see settings.CheckPublicURL
	Organization    string // in the subjects of both CAs; zero: none
	RootName        string // common name; zero: "Signet Root CA 1"
	IssuingName     string // common name; zero: "Signet Issuing CA 1"
	RootKey         keys.Algorithm
	IssuingKey      keys.Algorithm      // both zero: ECDSA P-256
	RootLifetime    time.Duration       // zero: that of the profile root-ca
	IssuingLifetime time.Duration       // zero: that of the profile issuing-ca
	Keys            settings.KeysConfig // where the keys of issuers are made; zero: in files
	OfflineRoot     []byte              // PEM of a root whose key is elsewhere; zero: a root is created
	Passphrase      []byte              // of the keys; required
	PassphraseFile  string              // written into signet.yaml, so that the server can start unattended; zero: none
	APIListen       string              // these three zero: the defaults of settings.Config
	PublicListen    string
	OpsListen       string
	Unsafe          bool             // accept a PostgreSQL that can lose confirmed writes
	Now             func() time.Time // zero: time.Now
}

// Initialized is the result of Initialize.
type Initialized struct {
	Dir       string              `json:"dir"`
	Config    string              `json:"config_file"`
	Database  string              `json:"database"`
	PublicURL string              `json:"public_url"`
	Root      string              `json:"root_file"`
	Token     string              `json:"token_file"`
	TokenEnds time.Time           `json:"token_ends"`
	Issuers   []InitializedIssuer `json:"issuers"` // the root first
	// Below an off-line root: the request for a ceremony to sign.
	Request string `json:"request_file,omitempty"`
}

// InitializedIssuer is one CA that Initialize created.
type InitializedIssuer struct {
	Label       string       `json:"label"`
	ID          pki.IssuerID `json:"-"`
	Issuer      string       `json:"issuer"` // ID as text
	Subject     string       `json:"subject"`
	Key         string       `json:"key"`                   // URI; empty: off-line
	KeyFile     string       `json:"key_file,omitempty"`    // of a key in a file
	Fingerprint string       `json:"fingerprint,omitempty"` // SHA-256 of the certificate, hexadecimal
	NotAfter    time.Time    `json:"not_after,omitzero"`
}

// Initialize creates a root, an issuing CA under it, the database, the first credential and the configuration. It
// overwrites nothing. If it fails, it removes the files that it created.
func Initialize(ctx context.Context, c InitConfig) (made *Initialized, err error) {
	c.fillDefaults()
	config, text, err := c.config()
	if err != nil {
		return nil, err
	}
	state := config.State()
	if err := state.Create(); err != nil {
		return nil, err
	}
	var undo undo // rows in a PostgreSQL stay: they are complete or absent, and a new attempt reports them
	undo.willMake(state.Config(), state.Root(), state.AdminToken(), state.Request())
	undo.willMake(sqliteFiles(config)...)
	undo.willFill(state.Keys())
	defer func() {
		if err != nil {
			err = errors.Join(err, undo.run())
		}
	}()
	keyStore, err := OpenKeys(config.KeyStores(), state.Keys(), c.Passphrase, nil)
	if err != nil {
		return nil, err
	}
	db, err := createDatabase(ctx, config, "signet init", c.Unsafe)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()

	made = &Initialized{Dir: c.Dir, Config: state.Config(), Database: config.DatabaseName(), PublicURL: c.PublicURL,
		Root: state.Root(), Token: state.AdminToken()}
	issuers, err := c.makeIssuers(ctx, db, keyStore)
	if err != nil {
		return nil, err
	}
	if made.Issuers, err = describeIssuers(state, issuers); err != nil {
		return nil, err
	}
	if made.TokenEnds, err = makeAdmin(ctx, db, c.Now, "init", "admin", state.AdminToken()); err != nil {
		return nil, err
	}
	if pending := issuers[1]; pending.CSR != nil {
		made.Request = state.Request()
		request := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: pending.CSR})
		if err := durable.WriteNew(state.Request(), request, 0o644); err != nil {
			return nil, err
		}
	}
	root := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: issuers[0].Certificates[0].DER})
	if err := durable.WriteNew(state.Root(), root, 0o644); err != nil {
		return nil, err
	}
	// This comes last, because it marks the state directory as complete.
	return made, durable.WriteNew(state.Config(), text, 0o600)
}

func (c *InitConfig) fillDefaults() {
	c.Database = cmp.Or(c.Database, "sqlite:signet.db")
	c.Keys.Store = cmp.Or(c.Keys.Store, "softkey")
	c.RootName = cmp.Or(c.RootName, "Signet Root CA 1")
	c.IssuingName = cmp.Or(c.IssuingName, "Signet Issuing CA 1")
	c.RootKey = cmp.Or(c.RootKey, keys.ECDSAP256)
	c.IssuingKey = cmp.Or(c.IssuingKey, keys.ECDSAP256)
	c.APIListen = cmp.Or(c.APIListen, "127.0.0.1:8443")
	c.PublicListen = cmp.Or(c.PublicListen, "127.0.0.1:8080")
	c.OpsListen = cmp.Or(c.OpsListen, "127.0.0.1:9090")
	if c.Now == nil {
		c.Now = time.Now
	}
}

// APIName returns the name by which other machines probably call the API, if it listens for them: the host of the
// public URL.
func (c *InitConfig) APIName() string {
	host, _, err := net.SplitHostPort(c.APIListen)
	if ip := net.ParseIP(host); err != nil || host == "localhost" || ip != nil && ip.IsLoopback() {
		return ""
	}
	public, err := url.Parse(c.PublicURL)
	if err != nil {
		return "" // it is refused when the configuration is read
	}
	name := strings.TrimSuffix(public.Hostname(), ".")
	if _, err := pki.ParseIdentifier(name); err != nil {
		return "" // a URL allows names that a certificate does not, such as one with an underscore
	}
	return name
}

// configTemplate is the signet.yaml of a new CA.
var configTemplate = template.Must(template.New("signet.yaml").Funcs(template.FuncMap{"quote": quoteYAML}).Parse(`# Signet. Every field can be overridden by the environment: api.listen is SIGNET_API_LISTEN.
# docs/OPERATIONS.md lists all of them.

# Base of the CRL, OCSP and issuer URLs in certificates of issuers made from now on. One that is there follows a change by
# "signet issuer update LABEL --base-url URL", and certificates that are issued keep the old one.
public_url: {{quote .PublicURL}}

# sqlite:FILE for one instance, or postgres://... for any number.
database: {{quote .Database}}
{{if .PassphraseFile}}
# The passphrase of the keys, so that the server starts unattended.
passphrase_file: {{quote .PassphraseFile}}
{{end}}{{if eq .Keys.Store "pkcs11"}}
# Where the keys of issuers are made. Keys in files can be used beside it: the responder's is one.
keys:
  store: pkcs11
  pkcs11: {module: {{quote .Keys.PKCS11.Module}}, token: {{quote .Keys.PKCS11.Token}}, pin_file: {{quote .Keys.PKCS11.PINFile}}}
{{end}}
api: {listen: {{quote .APIListen}}, names: [{{with .APIName}}{{quote .}}{{end}}]}        # gRPC and REST, TLS; names: by which others call it
public: {listen: {{quote .PublicListen}}}     # CRL, OCSP, issuers; plain HTTP
ops: {listen: {{quote .OpsListen}}}        # metrics and health; keep it private

# Profiles of your own: "signet profile show server" prints one to start from.
# profiles: profiles
`))

// quoteYAML quotes a string for YAML.
func quoteYAML(text string) string { return fmt.Sprintf("%q", text) }

// config creates signet.yaml and parses it, so that a server will accept what is written.
func (c *InitConfig) config() (*settings.Config, []byte, error) {
	var text bytes.Buffer
	if err := configTemplate.Execute(&text, c); err != nil {
		return nil, nil, pki.Errorf(pki.KindInternal, "write configuration", "%w", err)
	}
	path := settings.State{Dir: c.Dir}.Config()
	config, err := settings.Parse(path, text.Bytes(), func(string) string { return "" })
	return config, text.Bytes(), err
}

// describeIssuers returns the facts that a person wants to compare and write down.
func describeIssuers(state settings.State, issuers []*ca.Issuer) ([]InitializedIssuer, error) {
	var out []InitializedIssuer
	for _, issuer := range issuers {
		described := InitializedIssuer{Label: issuer.Label, ID: issuer.ID, Issuer: issuer.ID.String(), Key: issuer.KeyURI}
		if name, ok := strings.CutPrefix(issuer.KeyURI, "softkey:"); ok {
			described.KeyFile = state.Key(name)
		}
		var name pkix.RDNSequence
		if _, err := asn1.Unmarshal(issuer.Subject, &name); err != nil {
			return nil, pki.Errorf(pki.KindInternal, "read new issuer", "%w", err)
		}
		described.Subject = name.String()
		if len(issuer.Certificates) > 0 {
			certificate, err := x509.ParseCertificate(issuer.Certificates[0].DER)
			if err != nil {
				return nil, pki.Errorf(pki.KindInternal, "read new certificate", "%w", err)
			}
			fingerprint := sha256.Sum256(certificate.Raw)
			described.Fingerprint, described.NotAfter = hex.EncodeToString(fingerprint[:]), certificate.NotAfter
		}
		out = append(out, described)
	}
	return out, nil
}
