package wire

import (
	"time"

	"signet.example/signet/handshake/wire/protocol"
	"signet.example/signet/pki"
)

// Role is an end of the connection.
type Role = protocol.Role

// The roles. Zero is the client.
const (
	Client = protocol.Client
	Server = protocol.Server
)

// Outcome is the result of a step.
type Outcome string

// The outcomes. The zero value is for a step that decides nothing.
const (
	OK      Outcome = "ok"
	Warning Outcome = "warning" // the handshake went on, but the step says something that a careful reader should know
	Failed  Outcome = "failed"  // the handshake ends here
)

// Step is one step of a handshake, for people (Says, Facts) and for programs (the other fields). At most one of the
// pointers from ClientHello on is set.
type Step struct {
	Number   int           `json:"number"` // 1 to 10, the textbook's place of the step
	Name     string        `json:"step"`   // as listed in the package documentation
	Title    string        `json:"title"`
	Outcome  Outcome       `json:"outcome,omitempty"`
	Elapsed  time.Duration `json:"-"`  // since NewTap
	Millis   float64       `json:"ms"` // Elapsed, in milliseconds
	Says     []string      `json:"says"`
	Facts    []Fact        `json:"-"`
	Messages []Message     `json:"messages,omitempty"` // that passed on the wire since the step before

	ClientHello     *protocol.ClientHello `json:"client_hello,omitempty"`
	ServerChoice    *ServerChoice         `json:"server_choice,omitempty"`
	Certificate     *Certificate          `json:"certificate,omitempty"`
	Trust           *Trust                `json:"trust,omitempty"`
	Revocation      *Revocation           `json:"revocation,omitempty"`
	KeyExchange     *KeyExchange          `json:"key_exchange,omitempty"`
	KeyDerivation   *KeyDerivation        `json:"key_derivation,omitempty"`
	Finished        *Finished             `json:"finished,omitempty"`
	ApplicationData *Traffic              `json:"application_data,omitempty"`
	Close           *Close                `json:"close,omitempty"`
}

// Fact is one line of a step for people: a name, and one value or several below each other.
type Fact struct {
	Name   string
	Values []string
}

// Message is one message that passed: a handshake message, an alert, a change of cipher. Application data is counted,
// not listed.
type Message struct {
	From      Role   `json:"from"`
	Name      string `json:"name"`
	Octets    int    `json:"octets"`    // of the message with its header
	Encrypted bool   `json:"encrypted"` // with keys of the handshake or of the session
	Opened    bool   `json:"opened"`    // it passed in the clear, or was decrypted with the session's own keys
}

// Trust is the verifier's judgement about the peer's chain. Judged passes it to the Tap.
type Trust struct {
	Accepted bool     `json:"accepted"`
	Root     string   `json:"root,omitempty"`    // subject of the trust anchor; empty if none was reached
	Path     []string `json:"path,omitempty"`    // subjects, leaf first
	Miss     string   `json:"miss,omitempty"`    // if not trusted: the one thing that was wrong ("expired", "wrong-name"); for programs
	Problem  string   `json:"problem,omitempty"` // if not trusted: one sentence
	Note     string   `json:"note,omitempty"`    // another fact that a reader should know, such as the override of the refusal
}

// Revocation is a judgement about the status of a chain. Checked passes it to the Tap.
type Revocation struct {
	Accepted     bool                `json:"accepted"`
	Policy       string              `json:"policy,omitempty"`
	Decision     string              `json:"decision,omitempty"`
	Certificates []CertificateStatus `json:"certificates,omitempty"` // leaf first
	Problem      string              `json:"problem,omitempty"`      // if refused: one sentence
}

// CertificateStatus is the revocation status of one certificate of a chain.
type CertificateStatus struct {
	Subject   string        `json:"subject"`
	Serial    string        `json:"serial"`
	Status    pki.Status    `json:"-"`
	Word      string        `json:"status"`
	Source    string        `json:"source,omitempty"`   // "staple", "crl", "ocsp"
	Location  string        `json:"location,omitempty"` // URL or file; empty for a staple
	Age       time.Duration `json:"-"`
	AgeSecs   int64         `json:"age_seconds,omitempty"`
	Next      *time.Time    `json:"next_update,omitempty"`
	Reason    string        `json:"reason,omitempty"`
	RevokedAt *time.Time    `json:"revoked_at,omitempty"`
	Asked     []string      `json:"asked,omitempty"` // one sentence for every source that was asked and did not settle it
}
