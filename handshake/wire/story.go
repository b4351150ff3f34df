package wire

import (
	"crypto/tls"
	"crypto/x509"
	"slices"

	"signet.example/signet/handshake/wire/protocol"
)

// story puts the messages into the textbook's order. On the wire the order is another: in TLS 1.3 the key exchange
// comes before the certificate, and the Tap has often read the peer's whole flight before crypto/tls has judged its
// first message. So steps 6 to 8 are held back until the peer has been judged, which the next message of our side
// shows.
type story struct {
	tap      *Tap
	tell     func(Step)
	messages []Message // of steps that are not reported yet; at most maxMessageList

	retry   *protocol.ServerHello
	alpn    string
	cert    *protocol.CertificateMessage // the server's
	client  *protocol.CertificateMessage // the client's
	request *protocol.CertificateRequest
	stapled bool // TLS 1.2: CertificateStatus has come
	ske     *protocol.ServerKeyExchange
	verify  [2]protocol.Scheme // CertificateVerify, by sender
	claims  [2]claim           // Finished, by sender
	sent    bool               // ClientKeyExchange has passed
	changed bool               // TLS 1.2: a change_cipher_spec has passed
	keys    bool               // a secret of the key log has come
	tickets int
	updates int

	told  [11]bool // by number of the step; true: it was reported
	going bool     // our side has gone on, so the peer has been judged
	over  bool     // the last step has been reported
	fail  error
}

// claim is a Finished that passed.
type claim struct {
	octets     int
	matches    bool
	transcript int // octets it covers
}

func (s *story) version() protocol.Version     { return s.tap.version() }
func (s *story) choice() *protocol.ServerHello { return s.tap.choice }

// emit reports a step, once.
func (s *story) emit(step Step) {
	s.told[step.Number] = true
	due := func(m Message) bool { return s.place(m) <= step.Number }
	for _, m := range s.messages {
		if due(m) {
			step.Messages = append(step.Messages, m)
		}
	}
	s.messages = slices.DeleteFunc(s.messages, due)
	if s.tell == nil {
		return
	}
	step.Elapsed = s.tap.now().Sub(s.tap.start)
	step.Millis = float64(step.Elapsed.Microseconds()) / 1000
	s.tell(step)
}

// place returns the number of the step that a message belongs to.
func (s *story) place(m Message) int {
	switch m.Name {
	case "ClientHello":
		if s.retry != nil && s.told[1] {
			return 2
		}
		return 1
	case "ServerHello", "HelloRetryRequest", "EncryptedExtensions":
		return 2
	case "Certificate":
		if m.From == s.tap.role && m.From == Client {
			return 6
		}
		return 3
	case "CertificateRequest", "CertificateStatus", "CompressedCertificate":
		return 3
	case "ServerKeyExchange", "ServerHelloDone", "ClientKeyExchange", "CertificateVerify":
		return 6
	case "change_cipher_spec":
		if s.version() == tls.VersionTLS13 {
			return 2
		}
		return 7
	case "Finished", "NewSessionTicket":
		return 8
	case "KeyUpdate":
		return 9
	}
	return 10
}

// passed adds a message to the list of its step.
func (s *story) passed(m Message) {
	if len(s.messages) < maxMessageList {
		s.messages = append(s.messages, m)
	}
	if s.goesOn(m) {
		s.proceed()
	}
}

// goesOn reports whether a message of ours shows that crypto/tls has accepted the peer and has sent our whole part of
// the key exchange.
func (s *story) goesOn(m Message) bool {
	switch {
	case m.From != s.tap.role || s.going || s.choice() == nil:
		return false
	case s.tap.role == Server:
		return s.sent || s.tap.flows[Client].finished
	case s.version() == tls.VersionTLS13:
		return m.Name == "Finished"
	}
	return m.Name == "change_cipher_spec"
}

// proceed reports the steps that waited for the judgement.
func (s *story) proceed() {
	s.going = true
	s.catchUp()
}

// catchUp reports the steps that are complete.
func (s *story) catchUp() {
	if s.choice() == nil {
		return
	}
	s.tellChoice()
	s.tellCertificate()
	if !s.going {
		return
	}
	s.tellKeyExchange()
	if s.changed || s.keys && s.version() == tls.VersionTLS13 {
		s.tellDerivation()
	}
	if s.tap.flows[Client].finished && s.tap.flows[Server].finished {
		s.tellFinished()
	}
}

func (s *story) clientHello(h *protocol.ClientHello) {
	if !s.told[1] { // the second one follows a HelloRetryRequest
		s.emit(tellClientHello(s.tap.role, h))
	}
}

func (s *story) helloRetry(sh *protocol.ServerHello) { s.retry = sh }

func (s *story) serverHello(sh *protocol.ServerHello) {
	if sh.Version < tls.VersionTLS13 {
		s.alpn = sh.ALPN
		s.tellChoice()
	}
}

// message handles the handshake messages that are neither a hello nor Finished.
func (s *story) message(from Role, kind uint8, body []byte) (err error) {
	switch kind {
	case protocol.MsgEncryptedExtension:
		s.alpn, _, err = protocol.ParseEncryptedExtensions(body)
		s.tellChoice()
	case protocol.MsgCertificateRequest:
		s.request, err = protocol.ParseCertificateRequest(s.version(), body)
	case protocol.MsgCertificate:
		m, err := protocol.ParseCertificate(s.version(), body)
		if err != nil {
			return err
		}
		s.certificate(from, m)
	case protocol.MsgCertificateStatus:
		s.stapled = true
	case protocol.MsgServerKeyExchange:
		s.ske, err = protocol.ParseServerKeyExchange(s.choice().Suite, body)
	case protocol.MsgServerHelloDone:
		s.tellCertificate()
	case protocol.MsgClientKeyExchange:
		s.sent = true
	case protocol.MsgCertificateVerify:
		s.verify[from], err = protocol.ParseCertificateVerify(body)
	default:
		s.later(kind)
	}
	return err
}

// later handles a message that may follow the handshake.
func (s *story) later(kind uint8) {
	switch kind {
	case protocol.MsgNewSessionTicket:
		s.tickets++
	case protocol.MsgKeyUpdate:
		s.updates++
	}
}

func (s *story) certificate(from Role, m *protocol.CertificateMessage) {
	if from == Client {
		s.client = m
		if s.tap.role == Server && len(m.Certs) > 0 {
			s.emit(tellCertificate(s.tap.role, Client, m, nil, false, s.version()))
		}
		return
	}
	s.cert = m
	if s.version() == tls.VersionTLS13 {
		s.tellCertificate() // in TLS 1.2 staple and request follow: the step waits for ServerHelloDone or the judgement
	}
}

func (s *story) tellChoice() {
	if s.told[2] || s.choice() == nil {
		return
	}
	s.emit(tellChoice(s.tap.role, s.tap.hello, s.retry, s.choice(), s.alpn))
}

func (s *story) tellCertificate() {
	if s.told[3] || s.cert == nil {
		return
	}
	s.emit(tellCertificate(s.tap.role, Server, s.cert, s.request, s.stapled, s.version()))
}

func (s *story) judged(t Trust) {
	s.catchUp()
	s.emit(tellTrust(s.tap.peer(), t))
}

func (s *story) checked(r Revocation) {
	s.catchUp()
	s.emit(tellRevocation(r))
}

func (s *story) tellKeyExchange() {
	if s.told[6] {
		return
	}
	s.emit(s.keyExchange())
}

func (s *story) tellDerivation() {
	if s.told[7] {
		return
	}
	s.emit(s.keyDerivation())
}

func (s *story) tellFinished() {
	if s.told[8] || s.choice() == nil {
		return
	}
	s.emit(s.bothFinished())
	s.tap.transcript = nil
}

// changing handles a change_cipher_spec of TLS 1.2. If the server sends one although no certificate has passed, it has
// resumed a session.
func (s *story) changing(from Role) {
	s.changed = true
	if from == Server && s.cert == nil {
		s.choice().Resumed = true
	}
	if s.going {
		s.catchUp()
	}
}

// derived handles the arrival of a secret.
func (s *story) derived() {
	s.keys = true
	if s.going {
		s.catchUp()
	}
}

func (s *story) finished(from Role, octets int, matches bool, transcript int) {
	s.claims[from] = claim{octets: octets, matches: matches, transcript: transcript}
	if s.going {
		s.catchUp()
	}
}

// data handles a record of application data.
func (s *story) data(from Role) {
	if from == s.tap.role && !s.going {
		s.proceed()
	}
}

func (s *story) done(err error) {
	if err == nil {
		s.proceed()
		s.tellFinished() // the Tap may have failed to decrypt them; crypto/tls has seen them pass
		return
	}
	s.catchUp()
	s.fail = err
	s.finish()
}

func (s *story) close() { s.finish() }

// finish reports the steps that are left.
func (s *story) finish() {
	if s.over {
		return
	}
	s.over = true
	if s.fail == nil && s.going {
		s.catchUp()
		s.emit(s.applicationData())
	}
	s.emit(s.closing())
}

// leaf returns the server's own certificate, or nil if none was seen.
func (s *story) leaf() *x509.Certificate {
	if s.cert == nil || len(s.cert.Certs) == 0 {
		return nil
	}
	return s.cert.Certs[0]
}
