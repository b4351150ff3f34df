package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"signet.example/signet/internal/server"
	"signet.example/signet/internal/settings"
	"signet.example/signet/pki"
)

type serveCmd struct {
	Role           string `default:"all" enum:"all,public" help:"all: issue, revoke, publish and answer. public: only serve CRLs, OCSP and issuers, without any key that can sign a certificate."`
	PassphraseFile string `placeholder:"FILE" type:"path" help:"File with the passphrase of the keys on its only line (passphrase_file)."`
	UnsafeDatabase bool   `help:"Accept a PostgreSQL that can lose confirmed writes. For tests."`
}

// Help is shown by "signet serve --help".
func (serveCmd) Help() string {
	return `It runs until it is told to stop (SIGTERM, Ctrl-C), lets calls in progress finish, and gives back what it had reserved.
At SIGHUP it reads the profiles again; if one is bad, the whole old set stays in effect, and the log says why.
The passphrase of the keys comes from --passphrase-file, passphrase_file in signet.yaml, SIGNET_PASSPHRASE_FILE,
SIGNET_PASSPHRASE, the systemd credential signet-passphrase, or a prompt at a terminal.

Examples:
  signet serve
  signet --config /etc/signet/signet.yaml serve --passphrase-file /run/secrets/signet
  signet serve --role public          # beside others, on the same database`
}

// Run serves until the context ends.
func (c *serveCmd) Run(a *app) (err error) {
	outliveReaders()
	config, err := a.loadConfig()
	if err != nil {
		return err
	}
	role, err := server.ParseRole(c.Role)
	if err != nil {
		return err
	}
	file := c.PassphraseFile
	if file == "" && config.PassphraseFile != "" {
		file = config.Path(config.PassphraseFile)
	}
	passphrase, err := a.passphrase(file, false)
	if err != nil {
		return err
	}
	log := logger(a, config)
	if unknown := settings.UnknownVariables(os.Environ()); len(unknown) > 0 {
		log.Warn("the environment sets a variable that is no field of the configuration", "variables", unknown, "next", "api.listen is SIGNET_API_LISTEN; docs/OPERATIONS.md lists every field")
	}
	s, err := server.Open(a.ctx, config, server.Options{Role: role, Passphrase: passphrase, Unsafe: c.UnsafeDatabase, Log: log})
	if a.interrupted(err) {
		log.Info("signet was told to stop before it served", "at", err)
		return nil
	}
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, s.Close(context.WithoutCancel(a.ctx))); err == nil {
			log.Info("signet has stopped: calls in progress were completed, and what was reserved was given back")
		}
	}()
	debug.FreeOSMemory() // deriving the key from the passphrase took much of it
	if a.getenv("GOGC") == "" {
		go collectRarely(a.ctx)
	}
	defer reloadOnHangup(a.ctx, s)()
	if err := a.announce(s); err != nil {
		return err
	}
	if err := s.Run(a.ctx); err != nil {
		return pki.Errorf(pki.KindOf(err), "serve", "%w", err)
	}
	return nil
}

// reloadOnHangup reloads the profiles at each SIGHUP until the returned function is called. The server logs the result.
func reloadOnHangup(ctx context.Context, s *server.Server) (stop func()) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-hangups:
				_ = s.ReloadProfiles(ctx) // on an error the old ones stay, and the log has the reason
			case <-done:
				return
			}
		}
	}()
	return func() { signal.Stop(hangups); close(done) }
}

// served is what `signet serve --output json` prints once it listens.
type served struct {
	API    string `json:"api,omitempty"`
	Public string `json:"public,omitempty"`
	Ops    string `json:"ops,omitempty"`
}

// announce prints the addresses of the server.
func (a *app) announce(s *server.Server) error {
	at := s.Addresses()
	return a.show(served(at), func(p *printer) {
		p.line("signet serves:")
		p.fields("API (gRPC, REST)", at.API, "CRL, OCSP, issuers", at.Public, "metrics, health", at.Ops)
		if at.API != "" {
			p.next("in another terminal: signet issue app.example")
		}
	})
}

func logger(a *app, config *settings.Config) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(config.Log.Level)); err != nil {
		level = slog.LevelInfo // the configuration was validated; this is for a level unknown to slog
	}
	options := &slog.HandlerOptions{Level: level}
	if config.Log.Format == "json" {
		return slog.New(slog.NewJSONHandler(a.err, options))
	}
	return slog.New(slog.NewTextHandler(a.err, options))
}
