// Package survey finds out by asking what a TLS server can do. It sends one ClientHello after another, each on a
// connection of its own, and leaves out of each what the server chose in the one before. No handshake is finished and
// no secret is made.
//
// A single handshake shows what a server chose, not what it could have chosen. A survey shows whether that was the
// strongest that both sides have.
package survey

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"signet.example/signet/handshake/wire/protocol"
)

// Config configures a survey.
type Config struct {
	// Dial makes a connection on which TLS can begin. Required.
	Dial func(ctx context.Context) (net.Conn, error)

	ServerName string        // the name to ask for; empty sends none
	Timeout    time.Duration // for one connection; zero is 5 seconds
	Most       int           // connections to make at most; zero is 120
}

// Report lists what a server can do, as far as this program has names for it.
type Report struct {
	Versions    []Version        `json:"versions"` // newest first, including those that the server does not speak
	Groups      []protocol.Group `json:"groups"`   // of TLS 1.3, in the order in which the server chose them
	Connections int              `json:"connections"`
	Complete    bool             `json:"complete"` // false if the bound on connections ended the survey
}

// Version is what a server can do in one version.
type Version struct {
	Version     protocol.Version `json:"version"`
	Suites      []protocol.Suite `json:"cipher_suites"`          // in the order in which the server chose them; none if it does not speak the version
	ServerOrder bool             `json:"server_order,omitempty"` // the server follows its own order and not the client's
	Refusal     string           `json:"refusal,omitempty"`      // how the server refused the last hello
}

// ErrNotTLS means that the server answered with something other than TLS.
var ErrNotTLS = protocol.ErrNotTLS

var errMost = errors.New("the bound on connections is reached")

// Run surveys a server. An error means that it could not be reached, or does not speak TLS.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	cfg.Timeout = cmp.Or(cfg.Timeout, 5*time.Second)
	cfg.Most = cmp.Or(cfg.Most, 120)
	s := &surveyor{Config: cfg}
	report := &Report{Complete: true}
	for _, version := range []protocol.Version{tls.VersionTLS13, tls.VersionTLS12, tls.VersionTLS11, tls.VersionTLS10} {
		v, err := s.version(ctx, version)
		if err != nil && !errors.Is(err, errMost) {
			return nil, fmt.Errorf("survey: %w", err)
		}
		report.Complete = report.Complete && err == nil
		report.Versions = append(report.Versions, v)
	}
	if len(report.Versions[0].Suites) > 0 {
		groups, err := s.groups(ctx, report.Versions[0].Suites)
		if err != nil && !errors.Is(err, errMost) {
			return nil, fmt.Errorf("survey: %w", err)
		}
		report.Groups, report.Complete = groups, report.Complete && err == nil
	}
	report.Connections = s.made
	return report, nil
}

type surveyor struct {
	Config
	made int // connections
}

// version asks for the suites of one version until the server refuses the rest.
func (s *surveyor) version(ctx context.Context, version protocol.Version) (Version, error) {
	v := Version{Version: version}
	left := protocol.Suites(version)
	for len(left) > 0 {
		answer, err := s.ask(ctx, protocol.Offer{Version: version, Suites: left, Groups: protocol.Groups()})
		if err != nil {
			return v, err
		}
		if answer.hello == nil || answer.hello.Version != version || !slices.Contains(left, answer.hello.Suite) {
			v.Refusal = answer.refusal()
			break
		}
		v.Suites = append(v.Suites, answer.hello.Suite)
		left = slices.DeleteFunc(left, func(suite protocol.Suite) bool { return suite == answer.hello.Suite })
	}
	if len(v.Suites) < 2 {
		return v, nil
	}
	// Was that the server's order? If so, it chooses the same suite again from the reversed list.
	reversed := slices.Clone(v.Suites)
	slices.Reverse(reversed)
	answer, err := s.ask(ctx, protocol.Offer{Version: version, Suites: reversed, Groups: protocol.Groups()})
	if err != nil {
		return v, err
	}
	v.ServerOrder = answer.hello != nil && answer.hello.Suite == v.Suites[0]
	return v, nil
}

// groups asks for the groups of TLS 1.3.
func (s *surveyor) groups(ctx context.Context, suites []protocol.Suite) ([]protocol.Group, error) {
	var found []protocol.Group
	left := protocol.Groups()
	for len(left) > 0 {
		answer, err := s.ask(ctx, protocol.Offer{Version: tls.VersionTLS13, Suites: suites, Groups: left})
		if err != nil {
			return found, err
		}
		if answer.hello == nil || !slices.Contains(left, answer.hello.Group) {
			break
		}
		found = append(found, answer.hello.Group)
		left = slices.DeleteFunc(left, func(g protocol.Group) bool { return g == answer.hello.Group })
	}
	return found, nil
}

// answer is a server's answer to a hello.
type answer struct {
	hello *protocol.ServerHello // nil: it sent something else
	alert *protocol.Alert
}

func (a answer) refusal() string {
	switch {
	case a.hello != nil:
		return "answered with " + a.hello.Version.String()
	case a.alert != nil:
		return a.alert.String()
	}
	return "closed the connection"
}

// ask sends one hello and reads the answer.
func (s *surveyor) ask(ctx context.Context, offer protocol.Offer) (answer, error) {
	if s.made >= s.Most {
		return answer{}, errMost
	}
	s.made++
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	conn, err := s.Dial(ctx)
	if err != nil {
		return answer{}, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	offer.ServerName = s.ServerName
	if _, err := rand.Read(offer.Random[:]); err != nil {
		return answer{}, err
	}
	record, err := offer.Record()
	if err != nil {
		return answer{}, err
	}
	if _, err := conn.Write(record); err != nil {
		return answer{}, err
	}
	a, err := readAnswer(conn)
	if ctx.Err() != nil {
		return answer{}, fmt.Errorf("no answer: %w", ctx.Err())
	}
	return a, err
}

// readAnswer reads records until there is a whole ServerHello, an alert, or the end. The end of the connection is an
// answer too: some servers refuse that way what they do not speak.
func readAnswer(conn net.Conn) (answer, error) {
	var raw, handshake []byte
	buffer := make([]byte, 4096)
	for {
		n, readErr := conn.Read(buffer)
		raw = append(raw, buffer[:n]...)
		for {
			record, rest, err := protocol.CutRecord(raw)
			if err != nil {
				return answer{}, err
			}
			if record == nil {
				break
			}
			raw = rest
			switch record[0] {
			case protocol.RecordAlert:
				if len(record) != protocol.HeaderSize+2 {
					return answer{}, nil
				}
				level, alert := record[protocol.HeaderSize], protocol.Alert(record[protocol.HeaderSize+1])
				if level == 1 && alert != protocol.AlertCloseNotify {
					continue // a warning, such as that the name is not known: the answer follows
				}
				return answer{alert: &alert}, nil
			case protocol.RecordHandshake:
				handshake = append(handshake, record[protocol.HeaderSize:]...)
			}
			message, _, err := protocol.CutMessage(handshake)
			if err != nil {
				return answer{}, err
			}
			if message != nil && message[0] == protocol.MsgServerHello {
				hello, err := protocol.ParseServerHello(message[4:])
				return answer{hello: hello}, err
			}
			if message != nil {
				return answer{}, nil
			}
		}
		switch {
		case errors.Is(readErr, io.EOF) && len(raw) == 0, isReset(readErr):
			return answer{}, nil
		case readErr != nil:
			return answer{}, readErr
		}
	}
}

// isReset reports whether a read failed because the other side reset the connection.
func isReset(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && !op.Timeout() && !errors.Is(err, net.ErrClosed)
}
