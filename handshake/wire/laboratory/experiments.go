package laboratory

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"signet.example/signet/handshake/wire"
	"signet.example/signet/handshake/wire/protocol"
)

// Config configures the experiments.
type Config struct {
	// Certificate is the server's certificate with its RSA key, which will leak. Its first name is the server's name.
	Certificate tls.Certificate
	Roots       *x509.CertPool // that the clients trust

	// Revoke revokes the certificate. It returns the given client configuration changed to check revocation. Nil leaves
	// the last experiment out.
	Revoke func(ctx context.Context, client *tls.Config) (*tls.Config, error)

	// Refused reports whether the error of a handshake is that client's refusal of a revoked certificate. Nil: any
	// error is.
	Refused func(error) bool

	Question, Answer string           // sent in every session; empty: a request for an account, and its balance
	Tell             func(Step)       // called for every step, in order, if not nil
	Now              func() time.Time // nil is time.Now
}

// Step is one step of an experiment, for people, as the steps of a handshake are, and for programs.
type Step struct {
	wire.Step
	Evidence *Evidence `json:"evidence,omitempty"`
}

// Evidence is the result of an experiment.
type Evidence struct {
	Version   protocol.Version `json:"version,omitempty"`
	Suite     protocol.Suite   `json:"cipher_suite,omitempty"`
	Group     protocol.Group   `json:"group,omitempty"`
	Octets    int              `json:"octets_recorded,omitempty"`
	Records   int              `json:"records,omitempty"`
	Decrypted []Said           `json:"decrypted,omitempty"`
	Verified  bool             `json:"finished_verified,omitempty"`
	Tried     []Attempt        `json:"tried,omitempty"`
	Refused   string           `json:"refused,omitempty"` // the error of a client that was not deceived
}

// Attempt is one attack on a recording.
type Attempt struct {
	What   string `json:"what"`
	Result string `json:"result"`
	Worked bool   `json:"worked"`
}

// Report is the result of all experiments.
type Report struct {
	ClassicalFell  bool `json:"rsa_key_transport_decrypted"`
	ModernHeld     bool `json:"tls13_held"`
	Impersonated   bool `json:"impersonation_before_revocation"`
	RevocationHeld bool `json:"impersonation_refused_after_revocation"` // also false if the last experiment was left out
}

type laboratory struct {
	Config
	number int
	start  time.Time
	key    *rsa.PrivateKey
	report Report
}

// Run performs the experiments in order and reports each step. An error means that an experiment could not be made,
// not that its result was unexpected.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	key, ok := cfg.Certificate.PrivateKey.(*rsa.PrivateKey)
	if !ok || cfg.Certificate.Leaf == nil || len(cfg.Certificate.Leaf.DNSNames) == 0 {
		return nil, errors.New("laboratory: the server's certificate must have an RSA key, its Leaf and a DNS name")
	}
	cfg.Question = cmp.Or(cfg.Question, "GET /account HTTP/1.1\r\nAuthorization: Bearer only-the-bank-may-see-this\r\n\r\n")
	cfg.Answer = cmp.Or(cfg.Answer, "HTTP/1.1 200 OK\r\n\r\nbalance: 1,234,567.89\r\n")
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	l := &laboratory{Config: cfg, start: cfg.Now(), key: key}
	for _, experiment := range []func(context.Context) error{l.setUp, l.classical, l.modern, l.impersonation, l.revocation} {
		if err := experiment(ctx); err != nil {
			return nil, fmt.Errorf("laboratory: %w", err)
		}
	}
	return &l.report, nil
}

func (l *laboratory) tell(name, title string, outcome wire.Outcome, e *Evidence, facts []wire.Fact, says ...string) {
	l.number++
	if l.Tell == nil {
		return
	}
	elapsed := l.Now().Sub(l.start)
	l.Tell(Step{Evidence: e, Step: wire.Step{Number: l.number, Name: name, Title: title, Outcome: outcome, Says: says, Facts: facts,
		Elapsed: elapsed, Millis: float64(elapsed.Microseconds()) / 1000}})
}

func (l *laboratory) name() string { return l.Certificate.Leaf.DNSNames[0] }

func (l *laboratory) setUp(context.Context) error {
	leaf := l.Certificate.Leaf
	l.tell("set-up", "A server, a client, and Eve between them", wire.OK, nil, []wire.Fact{
		fact("server", leaf.Subject.String()),
		fact("issued by", leaf.Issuer.String()),
		fact("key", fmt.Sprintf("RSA, %d bits", l.key.N.BitLen())),
	}, "The server has a certificate and its private key. Eve can copy every octet that passes, and has no key. She has time.")
	return nil
}

// classical records a session of RSA key transport and decrypts it.
func (l *laboratory) classical(ctx context.Context) error {
	s, r, err := l.record(ctx, "record-rsa", wire.Classical, "TLS 1.2 with RSA key transport: Eve records",
		"The client makes the session's secret and sends it encrypted to the server's RSA key, as the textbooks of SSL tell it. Eve can do nothing with it today.")
	if err != nil {
		return err
	}
	stranger, err := rsa.GenerateKey(rand.Reader, l.key.N.BitLen())
	if err != nil {
		return err
	}
	_, wrong := Decrypt(r, stranger)
	l.tell("leak", "Years later the key leaks", wire.Warning, nil, nil,
		"A backup is stolen, a disk is sold, a memory is read. Nobody attacks the session: it ended long ago. What Eve kept is still what passed.")
	p, err := Decrypt(r, l.key)
	if err != nil {
		return err
	}
	l.report.ClassicalFell = p.Verified && wrong != nil && p.Said[protocol.Client].Text == l.Question && p.Said[protocol.Server].Text == l.Answer
	bound := "both random values, which passed in the clear"
	if p.Extended {
		bound = "the hash of the handshake, which passed in the clear (extended master secret: it binds, it does not hide)"
	}
	l.tell("decrypt-rsa", "Eve reads everything", wire.Warning, &Evidence{Version: s.choice.Version, Suite: s.choice.Suite, Decrypted: p.Said, Verified: p.Verified,
		Tried: []Attempt{{What: "another RSA key", Result: wrong.Error()}, {What: "the leaked key", Result: "everything was read", Worked: true}}}, append([]wire.Fact{
		fact("1", fmt.Sprintf("ClientKeyExchange, decrypted with the leaked key: the premaster secret, %d octets", p.Premaster)),
		fact("2", "master secret = PRF(premaster secret, "+bound+")"),
		fact("3", "key block = PRF(master secret, both random values): the keys of both directions"),
		fact("4", map[bool]string{true: "both Finished come out right: these are the session's keys", false: "the Finished messages do not come out right"}[p.Verified]),
	}, said(p.Said)...), "No forward secrecy: one key, one day, opens every session that was ever recorded. Revoking the certificate now takes nothing of it back.")
	return nil
}

// modern records a session of TLS 1.3 with the same certificate and fails to decrypt it.
func (l *laboratory) modern(ctx context.Context) error {
	var secrets bytes.Buffer // of the endpoints, for the counter-test; Eve has no access to it
	s, r, err := l.record(ctx, "record-tls13", func(cfg *tls.Config) *tls.Config {
		cfg = cfg.Clone()
		cfg.MinVersion = tls.VersionTLS13
		if cfg.RootCAs != nil { // the client's
			cfg.KeyLogWriter = &secrets
		}
		return cfg
	}, "TLS 1.3 with the same certificate: Eve records", "Client and server agree on a secret that is never sent, with fresh keys that both forget. The certificate's key only signs.")
	if err != nil {
		return err
	}
	tried, err := l.attack(s, r, secrets.String())
	if err != nil {
		return err
	}
	l.report.ModernHeld = !tried[0].Worked && !tried[1].Worked && !tried[2].Worked && tried[3].Worked
	var facts []wire.Fact
	for i, a := range tried {
		facts = append(facts, wire.Fact{Name: fmt.Sprint(i + 1), Values: []string{a.What + ":", a.Result}})
	}
	l.tell("attack-tls13", "Eve has the key, and reads nothing", wire.OK, &Evidence{Version: s.choice.Version, Suite: s.choice.Suite, Group: s.choice.Group, Tried: tried}, facts,
		"Forward secrecy: what the leaked key could open was never sent, and what was used was forgotten.")
	return nil
}

// attack tries on a recording of TLS 1.3 everything that the leaked key could be good for, and last, as a counter-test,
// the secret that only the two ends had.
func (l *laboratory) attack(s *sight, r *Recording, secrets string) ([]Attempt, error) {
	_, err := Decrypt(r, l.key)
	first := Attempt{What: "Find the secret that was encrypted to the key, as before", Result: "there is no ClientKeyExchange: TLS 1.3 has no such message", Worked: err == nil}
	if _, ok := errors.AsType[*ForwardSecretError](err); err != nil && !ok {
		return nil, err
	}
	second := Attempt{What: "Use the key as the private half of a key share",
		Result: fmt.Sprintf("the shares are of %s and were made for this session; an RSA key is no half of one, and the halves are gone", s.choice.Group)}
	transcript := bytes.Join([][]byte{s.client.messages[0], s.server.messages[0]}, nil)
	_, guess, err := protocol.HandshakeSecrets(s.choice.Suite, make([]byte, 32), transcript)
	if err != nil {
		return nil, err
	}
	third := Attempt{What: "Run the key schedule with all that passed and without the shared secret"}
	third.Worked, third.Result = s.opens(guess, "the first protected record opened", "the first protected record does not open: its authentication tag is wrong")
	own, err := secretOf(secrets, "SERVER_HANDSHAKE_TRAFFIC_SECRET")
	if err != nil {
		return nil, err
	}
	fourth := Attempt{What: "Counter-test, with the traffic secret that the client still had in memory"}
	fourth.Worked, fourth.Result = s.opens(own, "the same record opens: that secret, and nothing else, was missing", "the record does not open")
	return []Attempt{first, second, third, fourth}, nil
}

// opens tries a traffic secret on the first protected record of the server.
func (s *sight) opens(secret []byte, yes, no string) (bool, string) {
	opener, err := protocol.NewTrafficOpener(s.choice.Suite, secret)
	if err != nil || len(s.server.sealed) == 0 {
		return false, no
	}
	record := s.server.sealed[0]
	if _, _, err := opener.Open(record[:protocol.HeaderSize], record[protocol.HeaderSize:]); err != nil {
		return false, no
	}
	return true, yes
}

// secretOf reads one secret of a key log.
func secretOf(log, label string) ([]byte, error) {
	for line := range strings.Lines(log) {
		var name string
		var random, secret []byte
		if _, err := fmt.Sscanf(line, "%s %x %x", &name, &random, &secret); err == nil && name == label {
			return secret, nil
		}
	}
	return nil, fmt.Errorf("the key log has no %s", label)
}

// impersonation shows what the leaked key is good for in any version: to pose as the server.
func (l *laboratory) impersonation(ctx context.Context) error {
	_, err := Record(ctx, l.server(), l.client(), l.Question, "HTTP/1.1 200 OK\r\n\r\nsend the money here instead\r\n")
	l.report.Impersonated = err == nil
	result := "The client accepts: name, dates, chain and signature are all in order."
	if err != nil {
		result = "The client refused: " + err.Error()
	}
	l.tell("impersonation", "What the key is still good for: Eve poses as the server", wire.Warning, &Evidence{}, nil,
		"Eve needs no recording now. She takes the server's place with its certificate and the leaked key, in TLS 1.3, towards a client that checks everything but revocation. "+result)
	return nil
}

// revocation shows what stops it.
func (l *laboratory) revocation(ctx context.Context) error {
	if l.Revoke == nil {
		return nil
	}
	client, err := l.Revoke(ctx, l.client())
	if err != nil {
		return err
	}
	_, err = Record(ctx, l.server(), client, l.Question, l.Answer)
	if err == nil {
		l.tell("revocation", "Revocation: the client did not refuse", wire.Failed, &Evidence{}, nil, "The certificate was revoked for keyCompromise, and the client accepted it all the same.")
		return nil
	}
	l.report.RevocationHeld = l.Refused == nil || l.Refused(err)
	l.tell("revocation", "What stops her: revocation, and a client that looks", wire.OK, &Evidence{Refused: refusal(err)},
		[]wire.Fact{fact("client", refusal(err))},
		"The authority revokes the certificate for keyCompromise and publishes a CRL. A client that looks refuses Eve; one that does not look still believes her.")
	return nil
}

// refusal returns the client's part of the error: the server only received an alert.
func refusal(err error) string {
	text, _, _ := strings.Cut(err.Error(), "\n")
	return strings.TrimPrefix(text, "record a session: ")
}

func (l *laboratory) server() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{l.Certificate}, Time: l.Now}
}

func (l *laboratory) client() *tls.Config {
	return &tls.Config{RootCAs: l.Roots, ServerName: l.name(), Time: l.Now}
}

// record makes a recording, with each side's configuration changed by change, and reports the step.
func (l *laboratory) record(ctx context.Context, name string, change func(*tls.Config) *tls.Config, title string, says ...string) (*sight, *Recording, error) {
	r, err := Record(ctx, change(l.server()), change(l.client()), l.Question, l.Answer)
	if err != nil {
		return nil, nil, err
	}
	s, err := look(r)
	if err != nil {
		return nil, nil, err
	}
	e := &Evidence{Version: s.choice.Version, Suite: s.choice.Suite, Group: s.choice.Group, Octets: s.octets, Records: s.client.records + s.server.records}
	facts := []wire.Fact{
		fact("version", e.Version.String()),
		fact("cipher suite", e.Suite.String()),
		fact("recorded", fmt.Sprintf("%d octets in %d records", e.Octets, e.Records)),
		{Name: "Eve sees", Values: s.clearMessages()},
		fact("sealed", fmt.Sprintf("%d records that she cannot open", len(s.client.sealed)+len(s.server.sealed))),
	}
	l.tell(name, title, wire.OK, e, facts, says...)
	return s, r, nil
}

// clearMessages lists what passed in the clear.
func (s *sight) clearMessages() []string {
	var lines []string
	for _, side := range []struct {
		arrow string
		half  *half
	}{{"→", s.client}, {"←", s.server}} {
		var names []string
		for _, m := range side.half.messages {
			names = append(names, fmt.Sprintf("%s %d", protocol.MessageName(m), len(m)))
		}
		lines = append(lines, side.arrow+" "+strings.Join(names, ", "))
	}
	return lines
}

// said shows decrypted text line by line.
func said(list []Said) []wire.Fact {
	var facts []wire.Fact
	for _, s := range list {
		var lines []string
		for line := range strings.Lines(s.Text) {
			if line = strings.TrimRight(line, "\r\n"); line != "" {
				lines = append(lines, line)
			}
		}
		facts = append(facts, wire.Fact{Name: "the " + s.From.String(), Values: lines})
	}
	return facts
}

func fact(name, value string) wire.Fact { return wire.Fact{Name: name, Values: []string{value}} }
