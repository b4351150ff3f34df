package wire

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"signet.example/signet/handshake/wire/protocol"
)

const (
	maxMessage     = 1 << 18 // the longest Certificate message that crypto/tls accepts
	maxTranscript  = 1 << 20
	maxWaiting     = 1 << 20 // octets of encrypted records that wait for their key, per direction
	maxMessageList = 64      // messages listed in one step
)

// The labels of the key log lines that crypto/tls writes.
const (
	labelMaster          = "CLIENT_RANDOM"
	labelClientHandshake = "CLIENT_HANDSHAKE_TRAFFIC_SECRET"
	labelServerHandshake = "SERVER_HANDSHAKE_TRAFFIC_SECRET"
	labelClientTraffic   = "CLIENT_TRAFFIC_SECRET_0"
	labelServerTraffic   = "SERVER_TRAFFIC_SECRET_0"
)

// Config configures a Tap.
type Config struct {
	Role Role // our end of the connection; the zero value is Client

	// The Tap calls Step, if not nil, for every step in order, as soon as the step is complete. Calls never overlap. They
	// come from inside Read, Write and Close of the connection, so Step must not call these, nor any method of the Tap.
	Step func(Step)

	// DemandClose makes Read return ErrCutOff when the connection ends without close_notify. crypto/tls accepts such an
	// end as proper if it comes between two records, because popular servers end so. Then only the last step shows it.
	DemandClose bool

	// Sessions, shared with the Taps of other connections, lets the Tap decrypt connections that resume one of theirs
	// with TLS 1.2. Nil: it does not.
	Sessions *Sessions

	Now func() time.Time // nil is time.Now
}

// ErrCutOff means that the peer's data ended without close_notify, so an attacker on the way may have cut off the end of
// it (RFC 8446, Section 6.1).
var ErrCutOff = errors.New("wire: the connection ended without close_notify: its end may have been cut off")

// Tap is a net.Conn that crypto/tls uses in place of the connection it wraps. All methods may be called concurrently.
type Tap struct {
	net.Conn
	role  Role
	now   func() time.Time
	start time.Time

	demandClose bool
	sessions    *Sessions

	mu         sync.Mutex // guards everything below
	flows      [2]flow    // by sender
	hello      *protocol.ClientHello
	choice     *protocol.ServerHello // the ServerHello that counts, not a HelloRetryRequest
	transcript []byte                // handshake messages so far; dropped when both Finished have passed
	secrets    map[string][]byte
	ticket     []byte // of TLS 1.2, from the server
	keys12     *protocol.Keys12
	lost       error // why the Tap stopped following; nil if it did not
	closed     bool
	story      story
}

// flow is one direction of the connection.
type flow struct {
	raw       []byte          // octets of a record that is not complete
	handshake []byte          // octets of a handshake message that is not complete
	sealed    bool            // records are protected from now on
	want      string          // label of the secret that decrypts them
	opener    protocol.Opener // nil until the secret has come
	waiting   [][]byte
	waits     int   // octets in waiting
	broken    error // a record that could not be decrypted: nothing after it can be read

	records, octets int // application data records, and octets of content or of ciphertext if not opened
	finished        bool
	closing         bool // close_notify has passed
	ended           bool // the connection ended from this side
	alert           *protocol.Alert
}

// hidden reports whether records have passed that could not be decrypted, so that a close_notify may be among them.
func (f *flow) hidden() bool { return f.broken != nil || f.waits > 0 }

// NewTap returns a Tap on conn. Use it in place of conn.
func NewTap(conn net.Conn, cfg Config) *Tap {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	t := &Tap{Conn: conn, role: cfg.Role, now: cfg.Now, start: cfg.Now(), demandClose: cfg.DemandClose, sessions: cfg.Sessions, secrets: map[string][]byte{}}
	t.story = story{tap: t, tell: cfg.Step}
	return t
}

// Watch returns a copy of cfg that hands the connection's secrets to the Tap, and also to cfg.KeyLogWriter if it is
// set. Use the copy for this connection only. Without Watch the Tap reports only what passes in the clear.
func (t *Tap) Watch(cfg *tls.Config) *tls.Config {
	cfg = cfg.Clone()
	if cfg.KeyLogWriter == nil {
		cfg.KeyLogWriter = (*keyLog)(t)
	} else {
		cfg.KeyLogWriter = io.MultiWriter((*keyLog)(t), cfg.KeyLogWriter)
	}
	return cfg
}

// Judged reports step 4. Call it when the peer's chain has been judged, before Checked and Done.
func (t *Tap) Judged(trust Trust) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.story.judged(trust)
}

// Checked reports step 5. Call it when the status of the peer's chain has been judged, before Done.
func (t *Tap) Checked(r Revocation) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.story.checked(r)
}

// Done ends the handshake, with the error that crypto/tls returned or nil. A failure of the handshake is reported as the
// last step.
func (t *Tap) Done(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.story.done(err)
}

// Read reads from the connection and parses the octets.
func (t *Tap) Read(p []byte) (int, error) {
	n, err := t.Conn.Read(p)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.follow(t.peer(), p[:n])
	t.flows[t.peer()].ended = t.flows[t.peer()].ended || errors.Is(err, io.EOF)
	if peer := &t.flows[t.peer()]; t.demandClose && errors.Is(err, io.EOF) && !peer.closing && !peer.hidden() {
		return n, ErrCutOff
	}
	return n, err
}

// Write parses p, then sends it, so that an answer cannot be reported before its question.
func (t *Tap) Write(p []byte) (int, error) {
	t.mu.Lock()
	t.follow(t.role, p)
	t.mu.Unlock()
	return t.Conn.Write(p)
}

// Close reports the last steps, drops all secrets and closes the connection.
func (t *Tap) Close() error {
	t.mu.Lock()
	if !t.closed {
		t.closed = true
		t.story.close()
		t.secrets, t.keys12, t.transcript, t.ticket = nil, nil, nil, nil
		for i := range t.flows {
			t.flows[i].opener, t.flows[i].waiting = nil, nil
		}
	}
	t.mu.Unlock()
	return t.Conn.Close()
}

func (t *Tap) peer() Role { return t.role.Peer() }

// lose stops parsing for good. The connection goes on.
func (t *Tap) lose(err error) {
	if t.lost == nil {
		t.lost = err
	}
	for i := range t.flows {
		f := &t.flows[i]
		f.raw, f.handshake, f.waiting = nil, nil, nil
	}
}

// follow splits octets into records.
func (t *Tap) follow(from Role, p []byte) {
	if t.lost != nil || t.closed || len(p) == 0 {
		return
	}
	f := &t.flows[from]
	f.raw = append(f.raw, p...)
	for t.lost == nil {
		record, rest, err := protocol.CutRecord(f.raw)
		if err != nil {
			t.lose(fmt.Errorf("what the %s sent is %w", from, err))
		}
		if record == nil {
			return
		}
		f.raw = rest
		t.record(from, bytes.Clone(record))
	}
}

// record handles one whole record.
func (t *Tap) record(from Role, record []byte) {
	f := &t.flows[from]
	header, payload := record[:protocol.HeaderSize], record[protocol.HeaderSize:]
	switch {
	case !f.sealed, t.version() == tls.VersionTLS13 && header[0] != protocol.RecordApplication:
		// In TLS 1.3 an alert may pass in the clear before its sender has keys, and a change_cipher_spec for the sake of
		// middleboxes at any time (RFC 8446, Appendix D.4).
		t.content(from, header[0], payload, false)
	case f.broken != nil:
	case f.opener == nil:
		if f.waits += len(record); f.waits <= maxWaiting {
			f.waiting = append(f.waiting, record)
		}
	default:
		kind, content, err := f.opener.Open(header, payload)
		switch {
		case err == nil:
			t.content(from, kind, content, true)
		case from == Client && t.hello != nil && t.hello.EarlyData:
			// Early data that the server did not accept is skipped, not decrypted (RFC 8446, Section 4.2.10).
		default:
			f.broken = err
		}
	}
}

func (t *Tap) version() protocol.Version {
	if t.choice == nil {
		return 0
	}
	return t.choice.Version
}

// seal marks the records of one sender as protected from now on, by the secret with this label.
func (t *Tap) seal(from Role, label string) {
	f := &t.flows[from]
	f.sealed, f.opener, f.want = true, nil, label
	t.unseal(from)
}

// unseal makes the opener of a direction if its secret has come, and decrypts the records that waited for it.
func (t *Tap) unseal(from Role) {
	f := &t.flows[from]
	secret, known := t.secrets[f.want]
	if !f.sealed || f.opener != nil || !known || t.choice == nil {
		return
	}
	var err error
	if f.want == labelMaster {
		t.keys12 = &protocol.Keys12{Suite: t.choice.Suite, Master: secret}
		f.opener, err = t.keys12.Opener(from, t.hello.Random[:], t.choice.Random[:])
	} else {
		f.opener, err = protocol.NewTrafficOpener(t.choice.Suite, secret)
	}
	if err != nil {
		t.lose(err)
		return
	}
	for len(f.waiting) > 0 && f.opener != nil && t.lost == nil {
		record := f.waiting[0]
		f.waiting, f.waits = f.waiting[1:], f.waits-len(record)
		t.record(from, record)
	}
}

// resume looks up the master secret of a resumed session of TLS 1.2, which stays the same.
func (t *Tap) resume() {
	if _, known := t.secrets[labelMaster]; known || t.choice == nil || !t.choice.Resumed {
		return
	}
	master := t.sessions.recall(t.hello.Ticket)
	if master == nil {
		return
	}
	t.secrets[labelMaster] = master
	t.sessions.remember(t.ticket, master)
	t.story.derived()
}

// content handles the content of a record.
func (t *Tap) content(from Role, kind byte, content []byte, opened bool) {
	f := &t.flows[from]
	m := Message{From: from, Octets: len(content), Encrypted: opened, Opened: true}
	switch kind {
	case protocol.RecordHandshake:
		f.handshake = append(f.handshake, content...)
		t.messages(from, opened)
	case protocol.RecordAlert:
		if len(content) != 2 {
			return
		}
		alert := protocol.Alert(content[1])
		m.Name = "alert " + alert.String()
		t.story.passed(m)
		f.closing = f.closing || alert == protocol.AlertCloseNotify
		// Before TLS 1.3 a warning ends nothing; from then on the level has no meaning (RFC 8446, Section 6).
		if warning := content[0] == 1 && t.version() < tls.VersionTLS13; !warning || f.closing {
			f.alert = &alert
		}
	case protocol.RecordChangeCipher:
		m.Name = "change_cipher_spec"
		t.story.passed(m)
		if v := t.version(); v != 0 && v < tls.VersionTLS13 {
			t.story.changing(from)
			t.resume()
			t.seal(from, labelMaster)
		}
	case protocol.RecordApplication:
		f.records++
		f.octets += len(content)
		t.story.data(from)
	}
}

// messages splits the octets that have come into handshake messages.
func (t *Tap) messages(from Role, opened bool) {
	f := &t.flows[from]
	for t.lost == nil {
		cut, rest, err := protocol.CutMessage(f.handshake)
		if err != nil {
			t.lose(err)
		}
		if cut == nil {
			return
		}
		f.handshake = rest
		message := bytes.Clone(cut)
		t.story.passed(Message{From: from, Name: protocol.MessageName(message), Octets: len(message), Encrypted: opened, Opened: true})
		if err := t.message(from, message[0], message[4:], message); err != nil {
			t.lose(err)
		}
	}
}

// message handles one handshake message: body is without its header, whole with it.
func (t *Tap) message(from Role, kind uint8, body, whole []byte) error {
	before := t.transcript
	if !t.handshaking(kind) {
		return t.postHandshake(from, kind)
	}
	if len(t.transcript)+len(whole) > maxTranscript {
		return fmt.Errorf("a handshake of more than %d octets", maxTranscript)
	}
	t.transcript = append(t.transcript, whole...)
	switch kind {
	case protocol.MsgClientHello:
		hello, err := protocol.ParseClientHello(body)
		if err != nil {
			return err
		}
		t.hello = hello
		t.story.clientHello(hello)
	case protocol.MsgServerHello:
		return t.serverHello(body, before, whole)
	case protocol.MsgFinished:
		return t.readFinished(from, body, before)
	case protocol.MsgNewSessionTicket: // of TLS 1.2: those of later versions come after the handshake
		t.ticket = readTicket(body)
		t.sessions.remember(t.ticket, t.secrets[labelMaster])
		return t.story.message(from, kind, body)
	default:
		if t.choice == nil {
			return fmt.Errorf("a %s before any ServerHello", protocol.MessageName(whole))
		}
		return t.story.message(from, kind, body)
	}
	return nil
}

// handshaking reports whether a message belongs to the handshake whose transcript Finished protects.
func (t *Tap) handshaking(kind uint8) bool {
	switch {
	case kind == protocol.MsgHelloRequest, t.flows[Client].finished && t.flows[Server].finished:
		return false
	case t.version() == tls.VersionTLS13:
		return kind != protocol.MsgNewSessionTicket && kind != protocol.MsgKeyUpdate
	}
	return true
}

func (t *Tap) postHandshake(from Role, kind uint8) error {
	t.story.later(kind)
	if kind != protocol.MsgKeyUpdate || t.version() != tls.VersionTLS13 {
		return nil
	}
	current, ok := t.flows[from].opener.(*protocol.TrafficOpener)
	if !ok {
		return errors.New("a KeyUpdate in the clear")
	}
	next, err := current.Next()
	if err != nil {
		return err
	}
	t.flows[from].opener = next
	return nil
}

func (t *Tap) serverHello(body, before, whole []byte) error {
	sh, err := protocol.ParseServerHello(body)
	if err != nil {
		return err
	}
	if t.hello == nil {
		return errors.New("a ServerHello before any ClientHello")
	}
	if sh.Retry {
		// The first ClientHello is replaced by its hash (RFC 8446, Section 4.4.1).
		h := sh.Suite.Hash().New()
		h.Write(before)
		t.transcript = append([]byte{protocol.MsgMessageHash, 0, 0, byte(h.Size())}, h.Sum(nil)...)
		t.transcript = append(t.transcript, whole...)
		t.story.helloRetry(sh)
		return nil
	}
	t.choice = sh
	t.story.serverHello(sh)
	if sh.Version == tls.VersionTLS13 {
		t.seal(Server, labelServerHandshake)
		t.seal(Client, labelClientHandshake)
	}
	return nil
}

// readFinished recomputes the sender's verify_data over the transcript.
func (t *Tap) readFinished(from Role, verify, before []byte) error {
	if t.choice == nil {
		return errors.New("a Finished before any ServerHello")
	}
	h := t.choice.Suite.Hash().New()
	h.Write(before)
	var expected []byte
	switch f := t.flows[from].opener.(type) {
	case *protocol.TrafficOpener:
		expected = f.Finished(h.Sum(nil))
	default:
		if t.keys12 != nil {
			expected = t.keys12.Finished(from, h.Sum(nil))
		}
	}
	t.flows[from].finished = true
	t.story.finished(from, len(verify), bytes.Equal(expected, verify), len(before))
	if t.choice.Version == tls.VersionTLS13 {
		t.seal(from, map[Role]string{Client: labelClientTraffic, Server: labelServerTraffic}[from])
	}
	return nil
}

// keyLog is the Tap as crypto/tls's KeyLogWriter. It is a type of its own, because a Tap in its place would send the
// secrets to the peer.
type keyLog Tap

// Write takes one line of a key log: label, client random, secret.
func (k *keyLog) Write(line []byte) (int, error) {
	t := (*Tap)(k)
	t.mu.Lock()
	defer t.mu.Unlock()
	var label string
	var random, secret []byte
	if _, err := fmt.Sscanf(string(line), "%s %x %x", &label, &random, &secret); err != nil || t.closed {
		return len(line), nil // an error would end the connection; the Tap does without this line
	}
	if t.hello == nil || !bytes.Equal(random, t.hello.Random[:]) {
		return len(line), nil
	}
	t.secrets[label] = secret
	if label == labelMaster {
		t.sessions.remember(t.ticket, secret)
	}
	t.story.derived()
	// The server's flight comes before the client's in every transcript that waits for a secret.
	t.unseal(Server)
	t.unseal(Client)
	return len(line), nil
}
