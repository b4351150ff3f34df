package wire

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"reflect"

	"signet.example/signet/handshake/wire/protocol"
)

// Class is the kind of a failure, for programs.
type Class string

// The classes. Zero is no failure.
const (
	ClassAltered     Class = "altered"     // a record or the handshake was changed on its way, or the keys do not match
	ClassMalformed   Class = "malformed"   // the peer does not follow the protocol
	ClassTruncated   Class = "truncated"   // the connection ended where it must not
	ClassCertificate Class = "certificate" // one side does not accept the other's certificate
	ClassMismatch    Class = "mismatch"    // no version, suite, group or protocol in common
	ClassNotTLS      Class = "not-tls"     // the peer speaks something else
	ClassTimeout     Class = "timeout"
	ClassNetwork     Class = "network"
	ClassOther       Class = "other"
)

// Failure is the end of a connection by an error, from the error that crypto/tls returned and the alerts that passed.
type Failure struct {
	Class  Class           `json:"class"`
	Alert  *protocol.Alert `json:"alert,omitempty"` // the alert that ended it
	By     Role            `json:"-"`               // the sender of the alert
	Reason string          `json:"reason"`          // one sentence
}

// Close is step 10: how the connection ended.
type Close struct {
	Clean      bool     `json:"clean"` // both sides sent close_notify
	ByClient   bool     `json:"close_notify_client"`
	ByServer   bool     `json:"close_notify_server"`
	Failure    *Failure `json:"failure,omitempty"`
	NotFollows string   `json:"not_followed,omitempty"` // why the Tap could not follow to the end
}

// Explain returns the Failure behind err, with the help of the alerts that passed. It returns nil if err is nil.
func (t *Tap) Explain(err error) *Failure {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.explain(err)
}

func (t *Tap) explain(err error) *Failure {
	if err == nil {
		return nil
	}
	f := &Failure{Reason: clean(err.Error())}
	if f.Alert, f.By = t.endedBy(err); f.Alert == nil {
		f.Class = t.classify(err)
		if t.lost != nil && f.Class == ClassNotTLS {
			f.Reason = clean(t.lost.Error())
		}
		if f.Class == ClassTruncated && t.choice == nil && t.role == Client {
			f.Reason = "the server closed the connection and did not answer our hello"
		}
		return f
	}
	f.Class = classOf(*f.Alert)
	if f.By != t.role {
		f.Reason = reasonOf(f.By, *f.Alert)
	}
	return f
}

func reasonOf(by Role, a protocol.Alert) string {
	return fmt.Sprintf("the %s ended it with the alert %s: %s", by, a, meaningOf(a))
}

// refusedLate returns the failure if the peer refused us after the handshake was complete on our side, as a server of
// TLS 1.3 does that judges our certificate only then.
func (t *Tap) refusedLate() *Failure {
	peer := t.peer()
	a := t.flows[peer].alert
	if a == nil || *a == protocol.AlertCloseNotify || t.flows[peer].closing {
		return nil
	}
	return &Failure{Class: classOf(*a), Alert: a, By: peer, Reason: reasonOf(peer, *a)}
}

// endedBy returns the alert that ended the connection, and its sender. Our alert comes first: it names what we found,
// and the peer's answer to it adds nothing. An alert encrypted with keys that the Tap does not have is taken from the
// error of crypto/tls.
func (t *Tap) endedBy(err error) (*protocol.Alert, Role) {
	for _, side := range []Role{t.role, t.peer()} {
		if a := t.flows[side].alert; a != nil && *a != protocol.AlertCloseNotify {
			return a, side
		}
	}
	var op *net.OpError
	if !errors.As(err, &op) || op.Err == nil {
		return nil, t.role
	}
	// The type of an alert is not exported by crypto/tls; it is the only one of its kind in an OpError of these two names.
	value := reflect.ValueOf(op.Err)
	if value.Kind() != reflect.Uint8 {
		return nil, t.role
	}
	alert := protocol.Alert(value.Uint())
	switch op.Op {
	case "local error":
		return &alert, t.role
	case "remote error":
		return &alert, t.peer()
	}
	return nil, t.role
}

// classify looks at the types of errors only, not at their texts.
func (t *Tap) classify(err error) Class {
	var (
		header  tls.RecordHeaderError
		cert    *tls.CertificateVerificationError
		network net.Error
	)
	switch {
	case errors.As(err, &header):
		return ClassNotTLS
	case errors.As(err, &cert):
		return ClassCertificate
	case errors.Is(err, ErrCutOff), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return ClassTruncated
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return ClassTimeout
	case errors.As(err, &network) && network.Timeout():
		return ClassTimeout
	case t.flows[Client].broken != nil, t.flows[Server].broken != nil:
		return ClassAltered
	case errors.As(err, &network):
		return ClassNetwork
	}
	return ClassOther
}

func classOf(a protocol.Alert) Class {
	switch a {
	case 20, 21, 51: // bad_record_mac, decryption_failed, decrypt_error
		return ClassAltered
	case 10, 22, 30, 47, 50, 109, 110: // unexpected_message, record_overflow, …, decode_error, missing and unsupported_extension
		return ClassMalformed
	case 41, 42, 43, 44, 45, 46, 48, 49, 111, 113, 114, 116:
		return ClassCertificate
	case 40, 60, 70, 71, 86, 112, 120:
		return ClassMismatch
	}
	return ClassOther
}

// meaningOf explains an alert in words.
func meaningOf(a protocol.Alert) string {
	switch a {
	case 10, 47, 50:
		return "what we sent does not follow the protocol, or was altered on its way"
	case 20, 21, 51:
		return "what we sent was altered on its way, or the keys do not match"
	case 40:
		return "there is no cipher suite, group or certificate that suits both, or it demands something of us"
	case 42, 46:
		return "it does not accept our certificate"
	case 43:
		return "it cannot use our certificate"
	case 44:
		return "our certificate is revoked"
	case 45:
		return "our certificate has expired"
	case 48:
		return "it does not know the authority of our certificate"
	case 49:
		return "our certificate is good, and we may not come in"
	case 70:
		return "it does not speak a version that we offer"
	case 71:
		return "it demands stronger ciphers than we offer"
	case 86:
		return "it can do better than this version: somebody may have downgraded us"
	case 112:
		return "it does not serve this name"
	case 113:
		return "it does not accept the stapled OCSP response"
	case 116:
		return "it demands a client certificate, and we sent none"
	case 120:
		return "there is no application protocol in common"
	case 80:
		return "something broke inside it"
	}
	return "see RFC 8446, Section 6"
}

func (s *story) closing() Step {
	t := s.tap
	c := Close{ByClient: t.flows[Client].closing, ByServer: t.flows[Server].closing}
	c.Clean = c.ByClient && c.ByServer && s.fail == nil
	step := Step{Number: 10, Name: "close", Title: "Close: how it ended", Close: &c, Outcome: OK}
	if t.lost != nil {
		c.NotFollows = clean(t.lost.Error())
	}
	us, them := t.flows[t.role].closing, t.flows[t.peer()].closing
	if c.Failure = t.explain(s.fail); c.Failure == nil {
		c.Failure = t.refusedLate()
	}
	switch {
	case c.Failure != nil && s.fail == nil:
		step.Outcome = Failed
		step.say("%s.", c.Failure.Reason)
		step.fact("class", string(c.Failure.Class))
	case c.Failure != nil:
		step.Outcome, step.Title = Failed, "Close: the handshake failed"
		step.say("%s.", c.Failure.Reason)
		if c.Failure.Alert != nil && c.Failure.By == t.role {
			step.say("We sent the alert %s and nothing else.", *c.Failure.Alert)
		}
		step.fact("class", string(c.Failure.Class))
	case us && them:
		step.say("Both sides said close_notify: nothing was cut off at the end.")
	case !them && t.flows[t.peer()].ended && !t.flows[t.peer()].hidden():
		step.Outcome = Warning
		step.say("The %s ended the connection without close_notify: an attacker on the way may have cut off the end (RFC 8446, Section 6.1).", t.peer())
	case us:
		step.say("We said close_notify. The %s had not said so yet when we closed.", t.peer())
	case them:
		step.say("The %s said close_notify: nothing was cut off at the end.", t.peer())
	case t.lost != nil, t.flows[t.peer()].hidden():
		step.say("The connection ended. Whether the %s said close_notify cannot be told: what it sent last could not be opened here.", t.peer())
	default:
		step.Outcome = Warning
		step.say("The connection ended without close_notify: an attacker on the way may have cut off the end.")
	}
	return step
}
