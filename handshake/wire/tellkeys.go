package wire

import (
	"crypto/tls"
	"fmt"

	"signet.example/signet/handshake/wire/protocol"
)

// This file puts steps 6 to 9 into words: key exchange, key derivation, Finished, application data.

// KeyExchange is step 6: how the two sides come to share a secret, and which of them proved its identity.
type KeyExchange struct {
	Method          string          `json:"method"`              // ECDHE, DHE, RSA, hybrid ML-KEM, PSK
	Group           protocol.Group  `json:"group,omitempty"`     // zero if there is none
	Signature       protocol.Scheme `json:"signature,omitempty"` // the server's proof of possession; zero for RSA and resumption
	ClientSignature protocol.Scheme `json:"client_signature,omitempty"`
	ClientSent      bool            `json:"client_certificate"` // a client certificate was sent
	ForwardSecrecy  bool            `json:"forward_secrecy"`
	PostQuantum     bool            `json:"post_quantum"`
	Resumed         bool            `json:"resumed"`
}

// KeyDerivation is step 7: how keys are derived from the shared secret. It never contains a key.
type KeyDerivation struct {
	Function     string `json:"function"` // "HKDF-SHA-256"
	Cipher       string `json:"cipher"`
	KeyOctets    int    `json:"key_octets"`
	NonceOctets  int    `json:"nonce_octets,omitempty"` // from the key schedule
	MACOctets    int    `json:"mac_octets,omitempty"`
	MasterSecret string `json:"master_secret,omitempty"` // TLS 1.2: "extended" (RFC 7627) or "plain"
}

// Finished is step 8: both sides' check over the handshake before it.
type Finished struct {
	Octets     int  `json:"verify_data_octets"`
	Client     bool `json:"client_matches"` // equal to what the Tap computed
	Server     bool `json:"server_matches"`
	Opened     bool `json:"opened"`            // both could be read
	Transcript int  `json:"transcript_octets"` // octets of the handshake that the later Finished covers
	Tickets    int  `json:"tickets,omitempty"` // for resumption, so far
}

// Traffic is step 9: the data after the handshake.
type Traffic struct {
	Sent       Volume `json:"sent"`
	Received   Volume `json:"received"`
	Tickets    int    `json:"tickets,omitempty"`     // NewSessionTicket messages, all together
	KeyUpdates int    `json:"key_updates,omitempty"` // both directions together
}

// Volume counts application data in one direction.
type Volume struct {
	Records int `json:"records"`
	Octets  int `json:"octets"`
}

func (s *story) keyExchange() Step {
	sh := s.choice()
	k := KeyExchange{Group: sh.Group, Resumed: sh.Resumed, Signature: s.verify[Server], ClientSignature: s.verify[Client],
		ClientSent: s.client != nil && s.client.Count > 0, ForwardSecrecy: sh.Suite.ForwardSecret()}
	if s.ske != nil {
		k.Group, k.Signature = s.ske.Group, s.ske.Scheme
	}
	k.PostQuantum = k.Group.PostQuantum()
	step := Step{Number: 6, Name: "key-exchange", Title: "Key exchange: a shared secret", KeyExchange: &k, Outcome: OK}
	switch {
	case sh.Version < tls.VersionTLS13 && sh.Resumed:
		s.resumed12(&step)
	case sh.Version < tls.VersionTLS13 && sh.Suite.KeyExchange() == "RSA":
		s.transport(&step)
	default:
		s.agreement(&step)
	}
	s.clientProof(&step)
	return step
}

// resumed12 describes an abbreviated handshake of TLS 1.2, which makes no new secret.
func (s *story) resumed12(step *Step) {
	k := step.KeyExchange
	k.Method, k.ForwardSecrecy = "PSK", false
	step.say("None: the session of an earlier connection is resumed with its master secret. No certificate is shown; " +
		"knowledge of that secret is the proof. There is no forward secrecy against an attacker who gets the ticket key.")
	step.fact("method", "resumption by ticket or session identifier")
}

// transport describes RSA key transport, the classical exchange of the textbooks.
func (s *story) transport(step *Step) {
	step.Outcome = Warning
	step.KeyExchange.Method = "RSA"
	us, our := "The client", "the server's"
	if s.tap.role == Client {
		us = "We"
	}
	step.say("%s made 48 random octets, the premaster secret, encrypted them to %s RSA key from the certificate, and sent them (ClientKeyExchange).", us, our)
	step.say("Only the owner of that key can decrypt them: this is also the server's whole proof, and it shows only when its Finished is right.")
	step.say("No forward secrecy: an attacker who records this connection and ever gets the server's key can decrypt the premaster secret, " +
		"and with it everything. TLS 1.3 has no such exchange any more.")
	step.fact("method", "RSA key transport")
	if leaf := s.leaf(); leaf != nil {
		step.fact("to the key", keyOf(leaf))
	}
}

// agreement describes a Diffie-Hellman exchange, or a hybrid of one with a key encapsulation.
func (s *story) agreement(step *Step) {
	k, sh := step.KeyExchange, s.choice()
	switch {
	case k.PostQuantum:
		k.Method = "hybrid ML-KEM"
		step.say("Both sides sent fresh public values in their hellos: an elliptic-curve point each, an ML-KEM key from the client " +
			"and a secret encapsulated to it from the server. The two results together are the shared secret; it never passed on the wire.")
	case k.Group == 0 && s.ske != nil:
		k.Method = "DHE"
		step.say("Each side made a fresh key pair and sent the public half; the server signed its half. " +
			"From its own private half and the other's public half each computes the same secret, which never passed on the wire.")
		step.fact("prime", fmt.Sprintf("%d bits", s.ske.Bits))
	case sh.Version == tls.VersionTLS13 && sh.Resumed && k.Group == 0:
		k.Method, k.ForwardSecrecy = "PSK", false
		step.say("None: the pre-shared key of an earlier session is the only secret. No forward secrecy.")
	default:
		k.Method = "ECDHE"
		where := "ServerKeyExchange and ClientKeyExchange"
		if sh.Version == tls.VersionTLS13 {
			where = "their hellos"
		}
		step.say("Each side made a fresh key pair and sent the public half (in %s). "+
			"From its own private half and the other's public half each computes the same secret, which never passed on the wire.", where)
	}
	step.fact("method", k.Method)
	if k.Group != 0 {
		step.fact("group", k.Group.String())
	}
	if sh.Resumed {
		step.say("The session of an earlier connection is resumed: its pre-shared key is the proof of identity, and nobody shows a certificate again.")
		return
	}
	if k.Signature != 0 {
		proof := "The server signed its public half together with both random values"
		if sh.Version == tls.VersionTLS13 {
			proof = "The server signed the whole handshake up to here (CertificateVerify)"
		}
		step.say("%s with the key of its certificate: that is its proof that the certificate is its own.", proof)
		step.fact("proof", "signed with "+k.Signature.String())
	}
	if k.ForwardSecrecy {
		step.say("Forward secrecy: the fresh keys are forgotten, and the certificate's key, should it leak one day, opens no recording of this.")
	}
}

// clientProof describes whether the client proved its identity.
func (s *story) clientProof(step *Step) {
	k := step.KeyExchange
	if s.client == nil {
		return
	}
	who := "The client"
	if s.tap.role == Client {
		who = "We"
	}
	if !k.ClientSent {
		step.say("%s answered the request for a certificate with an empty list.", who)
		return
	}
	if len(s.client.Certs) > 0 {
		step.fact("client", clean(NameOf(s.client.Certs[0])))
	}
	step.say("%s sent a certificate too, and proved it by signing the handshake.", who)
	if k.ClientSignature != 0 {
		step.fact("client proof", "signed with "+k.ClientSignature.String())
	}
}

func (s *story) keyDerivation() Step {
	sh := s.choice()
	d := KeyDerivation{Cipher: sh.Suite.Bulk(), MACOctets: sh.Suite.MACLength(), NonceOctets: sh.Suite.NonceLength()}
	d.KeyOctets, _ = sh.Suite.KeyLength() // 0 for a cipher that this package does not know; then left out below
	step := Step{Number: 7, Name: "key-derivation", Title: "Key derivation: from the secret to the keys", KeyDerivation: &d, Outcome: OK}
	if sh.Version == tls.VersionTLS13 {
		d.Function, d.NonceOctets, d.MACOctets = "HKDF-"+sh.Suite.HashName(), 12, 0
		step.say("HKDF extracts a handshake secret from the shared secret, and from that a master secret. Each is expanded, together with " +
			"the hash of all messages so far, into a traffic secret per direction: two for the handshake, two for the data, and others for " +
			"resumption and export. From each traffic secret come a key and a nonce.")
	} else {
		d.Function, d.MasterSecret = "PRF with "+sh.Suite.HashName(), "plain"
		with := "both random values"
		if sh.MasterSecret {
			d.MasterSecret, with = "extended", "the hash of the handshake (extended master secret, RFC 7627)"
		}
		from := "the premaster secret"
		if sh.Resumed {
			from, with = "the earlier session", "nothing new"
		}
		step.say("The master secret comes from %s and %s; it is expanded with both random values into a block of keys, cut into one set for each direction.", from, with)
	}
	step.fact("function", d.Function)
	step.fact("each way", d.perDirection())
	step.say("Keys are not shown: whoever has them reads the connection.")
	return step
}

func (d KeyDerivation) perDirection() string {
	text := d.Cipher
	if d.KeyOctets > 0 {
		text += fmt.Sprintf(" key of %d bits", 8*d.KeyOctets)
	}
	if d.MACOctets > 0 {
		text += fmt.Sprintf(", MAC key of %d bits", 8*d.MACOctets)
	}
	if d.NonceOctets > 0 {
		text += fmt.Sprintf(", nonce of %d bits", 8*d.NonceOctets)
	}
	return text
}

func (s *story) bothFinished() Step {
	c, v := s.claims[Client], s.claims[Server]
	f := Finished{Octets: v.octets, Client: c.matches, Server: v.matches, Opened: c.octets > 0 && v.octets > 0,
		Transcript: max(c.transcript, v.transcript), Tickets: s.tickets}
	step := Step{Number: 8, Name: "finished", Title: "Finished: both saw the same handshake", Finished: &f, Outcome: OK}
	step.say("Each side sent a MAC over every message of the handshake, made with a key that only the two can have. " +
		"Had anybody on the way changed one bit of any message, the hellos in the clear included, the two would not match.")
	switch {
	case !f.Opened:
		step.fact("checked here", "no: both passed encrypted, with keys that the tap was not given")
	case f.Client && f.Server:
		step.fact("covers", fmt.Sprintf("%d octets of handshake", f.Transcript))
		step.fact("verify_data", fmt.Sprintf("%d octets from each side", f.Octets))
		step.fact("checked here", "both recomputed from what passed, and equal")
	default:
		step.Outcome = Warning
		step.fact("checked here", "recomputed, and not equal")
	}
	if f.Tickets > 0 {
		step.fact("tickets", fmt.Sprintf("%d for resumption", f.Tickets))
	}
	return step
}

func (s *story) applicationData() Step {
	us, them := s.tap.flows[s.tap.role], s.tap.flows[s.tap.peer()]
	d := Traffic{Sent: Volume{us.records, us.octets}, Received: Volume{them.records, them.octets}, Tickets: s.tickets, KeyUpdates: s.updates}
	step := Step{Number: 9, Name: "application-data", Title: "Application data: what it was all for", ApplicationData: &d}
	step.say("Every record is encrypted, numbered and authenticated: one that was altered, repeated, left out or reordered is not accepted.")
	step.fact("sent", d.Sent.String())
	step.fact("received", d.Received.String())
	if d.Tickets > 0 {
		step.fact("tickets", fmt.Sprintf("%d for resumption", d.Tickets))
	}
	if d.KeyUpdates > 0 {
		step.fact("key updates", fmt.Sprint(d.KeyUpdates))
	}
	return step
}

// String returns text such as "1 record, 57 octets".
func (v Volume) String() string { return count(v.Records, "record") + ", " + count(v.Octets, "octet") }
