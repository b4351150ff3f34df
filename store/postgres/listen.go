package postgres

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// ear is the connection on which a store listens, one for all listeners. With every commit that notifies, PostgreSQL
// wakes each backend that listens to anything, which costs about 20 us of processor time. The connection is not from
// the pool, which would be one short.
type ear struct {
	mu   sync.Mutex
	line *line // nil: there are no listeners
}

// line is a connection that listens, and the listeners that it wakes.
type line struct {
	listeners []*listener // guarded by ear.mu
	listens   bool        // guarded by ear.mu: listening has begun
	hangUp    context.CancelFunc
	ended     chan struct{} // closed when the connection is closed
	err       error         // why the connection was closed; valid after ended is closed
}

// listener is woken by notifications on its channels.
type listener struct {
	channels []string
	wake     func(channel, payload string)
}

// listen calls wake with no channel once it listens, and then with the channel and payload of each notification, until
// ctx ends or the connection breaks. wake must not block.
func (s *Store) listen(ctx context.Context, op string, channels []string, wake func(channel, payload string)) error {
	if ctx.Err() != nil {
		return translate(op, ctx.Err())
	}
	l := &listener{channels, wake}
	on := s.join(ctx, l)
	select {
	case <-ctx.Done():
		s.leave(on, l)
		return translate(op, ctx.Err())
	case <-on.ended:
		return translate(op, on.err)
	}
}

// join adds a listener to the present line or to a new one.
func (s *Store) join(ctx context.Context, l *listener) *line {
	s.ear.mu.Lock()
	defer s.ear.mu.Unlock()
	if s.ear.line == nil {
		ctx, hangUp := context.WithCancel(context.WithoutCancel(ctx)) // it lasts as long as there are listeners
		on := &line{hangUp: hangUp, ended: make(chan struct{})}
		s.ear.line = on
		go func() {
			defer close(on.ended)
			defer hangUp()
			on.err = s.hear(ctx, on)
			s.ear.mu.Lock()
			defer s.ear.mu.Unlock()
			if s.ear.line == on {
				s.ear.line = nil // the next listener connects again
			}
		}()
	}
	on := s.ear.line
	on.listeners = append(on.listeners, l)
	if on.listens {
		l.wake("", "")
	}
	return on
}

// leave removes a listener, and ends the line with the last listener.
func (s *Store) leave(on *line, l *listener) {
	s.ear.mu.Lock()
	on.listeners = slices.DeleteFunc(on.listeners, func(other *listener) bool { return other == l })
	last := len(on.listeners) == 0
	if last && s.ear.line == on {
		s.ear.line = nil
	}
	s.ear.mu.Unlock()
	if last {
		on.hangUp()
		<-on.ended
	}
}

// hear connects and wakes listeners until ctx ends or the connection breaks.
func (s *Store) hear(ctx context.Context, on *line) error {
	config := s.pool.Config().ConnConfig.Copy()
	config.RuntimeParams["application_name"] = "signet listener"
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(closing) // nothing was written on it
	}()
	if _, err := conn.Exec(ctx, `LISTEN signet_ledger; LISTEN signet_ranges; LISTEN signet_publication`); err != nil {
		return err
	}
	s.ear.mu.Lock()
	on.listens = true
	for _, l := range on.listeners {
		l.wake("", "")
	}
	s.ear.mu.Unlock()
	for {
		waiting, cancel := context.WithTimeout(ctx, listenPatience)
		notification, err := conn.WaitForNotification(waiting)
		cancel()
		switch {
		case err == nil:
			s.ear.mu.Lock()
			for _, l := range on.listeners {
				if slices.Contains(l.channels, notification.Channel) {
					l.wake(notification.Channel, notification.Payload)
				}
			}
			s.ear.mu.Unlock()
			continue
		case ctx.Err() == nil && waiting.Err() != nil: // after a long silence, check the connection
			err = ping(ctx, conn)
		}
		if err != nil {
			return err
		}
	}
}

func ping(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, pingPatience)
	defer cancel()
	return conn.Ping(ctx)
}
