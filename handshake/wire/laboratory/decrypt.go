package laboratory

import (
	"crypto/rsa"
	"crypto/tls"
	"errors"
	"fmt"

	"signet.example/signet/handshake/wire/protocol"
)

// ForwardSecretError means that a recording does not hold the session's secret encrypted to the server's key.
type ForwardSecretError struct {
	Version protocol.Version
	Suite   protocol.Suite
}

// Error names the reason.
func (e *ForwardSecretError) Error() string {
	return fmt.Sprintf("a session of %s with %s has forward secrecy: no message of it carries a secret that is encrypted to the server's key", e.Version, e.Suite)
}

// ErrWrongKey means that the session's secret was encrypted to another key.
var ErrWrongKey = errors.New("the key does not open the session's secret")

// Plaintext is a decrypted recording.
type Plaintext struct {
	Said      []Said
	Premaster int  // length of the decrypted premaster secret, in octets
	Extended  bool // the master secret was bound to the handshake (RFC 7627)
	Verified  bool // both Finished match, so this is the session's secret
}

// Said is the data that one side sent, put together from its records.
type Said struct {
	From protocol.Role `json:"from"`
	Text string        `json:"text"`
}

// Decrypt decrypts a recording with the private key of the server, and nothing else. It is the whole attack on RSA key
// transport (RFC 5246, Section 7.4.7.1): it needs neither side to be on line, and works at any later time.
func Decrypt(r *Recording, key *rsa.PrivateKey) (*Plaintext, error) {
	s, err := look(r)
	if err != nil {
		return nil, fmt.Errorf("decrypt a recording: %w", err)
	}
	if s.choice.Version >= tls.VersionTLS13 || s.choice.Suite.KeyExchange() != "RSA" {
		return nil, fmt.Errorf("decrypt a recording: %w", &ForwardSecretError{s.choice.Version, s.choice.Suite})
	}
	premaster, err := s.openPremaster(key)
	if err != nil {
		return nil, fmt.Errorf("decrypt a recording: %w", err)
	}
	p := &Plaintext{Premaster: len(premaster), Extended: s.hello.MasterSecret && s.choice.MasterSecret}
	var sessionHash []byte
	if p.Extended {
		sessionHash = s.hash(s.inTheClear(protocol.MsgClientKeyExchange))
	}
	keys := protocol.Keys12{Suite: s.choice.Suite, Master: protocol.MasterSecret(s.choice.Suite, premaster, s.hello.Random[:], s.choice.Random[:], sessionHash)}
	if err := s.open(keys, p); err != nil {
		return nil, fmt.Errorf("decrypt a recording: %w", err)
	}
	return p, nil
}

// openPremaster decrypts the premaster secret in ClientKeyExchange.
func (s *sight) openPremaster(key *rsa.PrivateKey) ([]byte, error) {
	body := s.client.find(protocol.MsgClientKeyExchange)
	if len(body) < 2 {
		return nil, errors.New("the recording has no ClientKeyExchange")
	}
	//lint:ignore SA1019 this is the laboratory that shows what is wrong with it, on recordings of its own
	premaster, err := rsa.DecryptPKCS1v15(nil, key, body[2:])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrWrongKey, err)
	}
	if len(premaster) != 48 {
		return nil, ErrWrongKey
	}
	return premaster, nil
}

// inTheClear returns the messages of the handshake that passed in the clear, in order: the client's hello, the server's
// messages, the other messages of the client. With upTo they end with the client's message of that kind.
func (s *sight) inTheClear(upTo byte) []byte {
	var transcript []byte
	for i, m := range s.client.messages {
		transcript = append(transcript, m...)
		if i == 0 {
			for _, m := range s.server.messages {
				if m[0] != protocol.MsgNewSessionTicket { // comes after the client's Finished
					transcript = append(transcript, m...)
				}
			}
		}
		if m[0] == upTo {
			break
		}
	}
	return transcript
}

func (s *sight) hash(transcript []byte) []byte {
	h := s.choice.Suite.Hash().New()
	h.Write(transcript)
	return h.Sum(nil)
}

// open decrypts every protected record of both directions: first Finished, then the data.
func (s *sight) open(keys protocol.Keys12, p *Plaintext) error {
	transcript := s.inTheClear(protocol.MsgCertificateVerify)
	p.Verified = true
	for _, from := range []protocol.Role{protocol.Client, protocol.Server} {
		h := s.half(from)
		opener, err := keys.Opener(from, s.hello.Random[:], s.choice.Random[:])
		if err != nil {
			return err
		}
		text := ""
		for _, record := range h.sealed {
			kind, content, err := opener.Open(record[:protocol.HeaderSize], record[protocol.HeaderSize:])
			if err != nil {
				return fmt.Errorf("%s: %w", from, err)
			}
			switch kind {
			case protocol.RecordApplication:
				text += string(content)
			case protocol.RecordHandshake:
				if from == protocol.Server {
					for _, m := range h.messages {
						if m[0] == protocol.MsgNewSessionTicket {
							transcript = append(transcript, m...)
						}
					}
				}
				p.Verified = p.Verified && len(content) > 4 && string(content[4:]) == string(keys.Finished(from, s.hash(transcript)))
				transcript = append(transcript, content...)
			}
		}
		p.Said = append(p.Said, Said{From: from, Text: text})
	}
	return nil
}

func (s *sight) half(from protocol.Role) *half {
	if from == protocol.Server {
		return s.server
	}
	return s.client
}
