package main

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"signet.example/signet/api/client"
	"signet.example/signet/ca/keys"
	"signet.example/signet/internal/installation"
	"signet.example/signet/internal/server"
)

// site is a Signet under test: an authority of its own, and a process that serves it.
type site struct {
	dir       string
	database  string
	addresses server.Addresses
	roots     *x509.CertPool
	token     string
	api       *client.Client
	cmd       *exec.Cmd
}

// newSite makes an authority on a database of its own, "postgres" or "sqlite", and serves it.
func (b *bench) newSite(ctx context.Context, name, kind string) (*site, error) {
	database := "sqlite:signet.db"
	if kind == "postgres" {
		var err error
		if database, err = b.newDatabase(ctx, name); err != nil {
			return nil, err
		}
	}
	free, err := server.FreeAddresses()
	if err != nil {
		return nil, err
	}
	s := &site{dir: filepath.Join(b.dir, name), database: database, addresses: free}
	passphrase := filepath.Join(b.dir, name+".passphrase")
	if err := os.WriteFile(passphrase, []byte("only for a benchmark\n"), 0o600); err != nil {
		return nil, err
	}
	if _, err := installation.Initialize(ctx, installation.InitConfig{
		Dir: s.dir, Database: database, PublicURL: "http://" + s.addresses.Public, Passphrase: []byte("only for a benchmark"), PassphraseFile: passphrase,
		APIListen: s.addresses.API, PublicListen: s.addresses.Public, OpsListen: s.addresses.Ops,
	}); err != nil {
		return nil, err
	}
	if s.roots, err = client.ReadRoots(filepath.Join(s.dir, "root.pem")); err != nil {
		return nil, err
	}
	if s.token, err = client.ReadToken(filepath.Join(s.dir, "admin.token")); err != nil {
		return nil, err
	}
	if s.api, err = client.New(client.Config{Address: s.addresses.API, Roots: s.roots, Token: s.token}); err != nil {
		return nil, err
	}
	return s, s.start(ctx, b.signet)
}

// start runs the server until stop and waits until it is ready.
func (s *site) start(ctx context.Context, program string) error {
	log, err := os.Create(filepath.Join(s.dir, "serve.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	s.cmd = exec.Command(program, "--config", filepath.Join(s.dir, "signet.yaml"), "serve")
	s.cmd.Env = append(os.Environ(), "SIGNET_API_LISTEN="+s.addresses.API, "SIGNET_PUBLIC_LISTEN="+s.addresses.Public, "SIGNET_OPS_LISTEN="+s.addresses.Ops, "SIGNET_OPS_PROFILING=true")
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		return err
	}
	asker := http.Client{Timeout: time.Second}
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline) && ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
		answer, err := asker.Get("http://" + s.addresses.Ops + "/readyz")
		if err != nil {
			continue
		}
		answer.Body.Close()
		if answer.StatusCode == http.StatusOK {
			return nil
		}
	}
	return fmt.Errorf("the server did not become ready: see %s", log.Name())
}

func (s *site) stop() error { return errors.Join(s.api.Close(), s.halt()) }

// twin serves a second instance of the same authority, on the same database. It has no client.
func (s *site) twin(ctx context.Context, program string) (*site, error) {
	free, err := server.FreeAddresses()
	if err != nil {
		return nil, err
	}
	twin := &site{dir: s.dir + "-twin", database: s.database, addresses: free}
	if err := os.CopyFS(twin.dir, os.DirFS(s.dir)); err != nil {
		return nil, err
	}
	if err := filepath.WalkDir(twin.dir, func(path string, entry fs.DirEntry, err error) error { // a copy has lost its modes
		if err != nil {
			return err
		}
		return os.Chmod(path, map[bool]fs.FileMode{true: 0o700, false: 0o600}[entry.IsDir()])
	}); err != nil {
		return nil, err
	}
	return twin, twin.start(ctx, program)
}

// halt ends the server; start begins it again.
func (s *site) halt() error { return errors.Join(s.cmd.Process.Signal(syscall.SIGTERM), s.cmd.Wait()) }

func (s *site) pid() int { return s.cmd.Process.Pid }

// requests makes CSRs beforehand, each with a key of its own.
func requests(count int) ([][]byte, error) {
	all := make([][]byte, count)
	for i := range all {
		key, err := keys.Generate(keys.ECDSAP256)
		if err != nil {
			return nil, err
		}
		if all[i], err = x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// newDatabase makes an empty database beside the one of the script and returns its URL.
func (b *bench) newDatabase(ctx context.Context, name string) (string, error) {
	address, err := url.Parse(b.database)
	if err != nil {
		return "", err
	}
	conn, err := pgx.Connect(ctx, b.database)
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize()); err != nil {
		return "", err
	}
	address.Path = "/" + name
	return address.String(), nil
}
