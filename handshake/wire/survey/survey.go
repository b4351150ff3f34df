// Package survey finds out what a TLS server can do, by asking: it sends one ClientHello after another, each on a
// connection of its own, and drops from each what the server picked in the one before. No handshake is finished and
// nothing secret is made.
//
// A single handshake shows what a server picked, not what it could have picked; with a survey one can say whether that was
// the strongest that both sides have.
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

// Config says whom to ask.
type Config struct {
	// Dial makes a connection on which TLS can begin. It is demanded.
	Dial func(ctx context.Context) (net.Conn, error)

	ServerName string        // the name to ask for; empty sends none
	Timeout    time.Duration // for one connection; zero is 5 seconds
	Most       int           // connections to make at most; zero is 120
}

// Report is what a server can do, of what this program knows the names of.
type Report struct {
	Versions    []Version        `json:"versions"` // newest first, those that are not spoken included
	Groups      []protocol.Group `json:"groups"`   // of TLS 1.3, in the order in which they were picked
	Connections int              `json:"connections"`
	Complete    bool             `json:"complete"` // false if the bound on connections ended the survey
}

// Version is what a server can do in one version.
type Version struct {
	Version     protocol.Version `json:"version"`
	Suites      []protocol.Suite `json:"cipher_suites"`          // in the order in which they were picked; none if the version is not spoken
	ServerOrder bool             `json:"server_order,omitempty"` // the server goes by its own order and not by the client's
	Refusal     string           `json:"refusal,omitempty"`      // how the last hello was turned down
}

// ErrNotTLS says that the server answered with something else than TLS.
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

// version asks for the suites of one version until the server turns down what is left.
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
	// Whose order was that? Offered the other way round, a server with an order of its own picks the same again.
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

// answer is what a server said to a hello.
type answer struct {
	hello *protocol.ServerHello // nil if it said something else
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

// ask sends one hello and reads the first thing that comes back.
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

// readAnswer reads records until there is a whole ServerHello, an alert, or the end. A connection that ends is an answer too:
// that is how some servers turn down what they do not speak.
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

// isReset reports whether a read failed because the other side closed the connection the hard way.
func isReset(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && !op.Timeout() && !errors.Is(err, net.ErrClosed)
}
