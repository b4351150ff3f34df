package server_test

import (
	"bytes"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"signet.example/signet/internal/testdb"
)

// composed is what of docker-compose.yml says what runs.
type composed struct {
	Services map[string]struct {
		Command, Entrypoint []string
		Environment         map[string]string
		Healthcheck         struct{ Test []string }
	}
}

// containers runs the command lines of docker-compose.yml without containers: volumes are directories, and the names of
// services the loopback address.
type containers struct {
	composed
	t      *testing.T
	root   string            // of the volumes
	places *strings.Replacer // addresses
}

var mounted = regexp.MustCompile(`(^|[\s=])/(state|app|secrets|password)\b`)

func (c *containers) localized(text string) string {
	text = strings.ReplaceAll(text, "$$", "$") // compose's escape
	return c.places.Replace(mounted.ReplaceAllString(text, "${1}"+c.root+"/${2}"))
}

// command makes a command of a service; without arguments its own.
func (c *containers) command(service string, args ...string) *exec.Cmd {
	c.t.Helper()
	s, ok := c.Services[service]
	if !ok {
		c.t.Fatalf("there is no service %s", service)
	}
	if len(args) == 0 {
		args = s.Command
	}
	at := slices.Index(args, "app:4443") // the name in its certificate
	args = slices.Clone(args)
	for i := range args {
		args[i] = c.localized(args[i])
	}
	if at >= 0 {
		args = append(args, "--servername", "app")
	}
	if service == "init" {
		args = append(args, "--local") // since the names are loopback addresses here
	}
	name := program
	if len(s.Entrypoint) > 0 {
		name = s.Entrypoint[0]
		args = append(slices.Clone(s.Entrypoint[1:]), args...)
		args[len(args)-1] = "chown() { :; }\n" + args[len(args)-1] // needs root, and the users of the image
	}
	cmd := exec.CommandContext(c.t.Context(), name, args...)
	cmd.Dir = c.root
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + c.root}
	for variable, value := range s.Environment {
		cmd.Env = append(cmd.Env, variable+"="+c.localized(value))
	}
	return cmd
}

// run runs a command to its end.
func (c *containers) run(status int, service string, args ...string) string {
	c.t.Helper()
	cmd := c.command(service, args...)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != status {
		c.t.Fatalf("%s %v: %v, want status %d\n%s", service, args, err, status, out)
	}
	return string(out)
}

// up starts a service and waits until its health check passes.
func (c *containers) up(service string) {
	c.t.Helper()
	cmd := c.command(service)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	c.t.Cleanup(func() { _ = cmd.Process.Kill(); <-ended })
	check := c.Services[service].Healthcheck.Test
	if len(check) < 3 || check[0] != "CMD" || check[1] != "/signet" {
		c.t.Fatalf("the health check of %s is %q", service, check)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		out, err := c.command(service, check[2:]...).CombinedOutput()
		if err == nil {
			return
		}
		select {
		case <-ended:
			c.t.Fatalf("%s ended: %s", service, said.String())
		default:
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("%s is not healthy: %v, %s", service, err, out)
		}
	}
}

// TestCompose runs what docker-compose.yml says, command by command, twice, and then what its first lines tell a
// person.
func TestCompose(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docker-compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	c := &containers{t: t, root: t.TempDir()}
	if err := yaml.Unmarshal(text, &c.composed); err != nil {
		t.Fatal(err)
	}
	for _, volume := range []string{"state", "app", "secrets", "password"} {
		if err := os.Mkdir(filepath.Join(c.root, volume), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for service, s := range c.Services {
		for variable, value := range s.Environment {
			if secret := strings.Contains(variable, "PASS"); secret && !strings.HasSuffix(variable, "FILE") || strings.Contains(value, ":signet@") {
				t.Errorf("service %s has a secret in its environment: %s", service, variable)
			}
		}
	}
	free := freeAddresses(t)
	app := freeAddress(t)
	database := testdb.Durable(t)
	c.places = strings.NewReplacer("postgres://signet@database/signet", database.EmptyURL(t),
		"0.0.0.0:8443", free.API, "signet:8443", free.API, "0.0.0.0:8080", free.Public, "signet:8080", free.Public, "0.0.0.0:9090", free.Ops,
		"0.0.0.0:4443", app, "app:4443", app)

	c.run(0, "secrets")
	c.run(0, "init")
	c.up("signet")
	c.run(0, "certificate")
	c.run(0, "trust")
	c.up("app")
	c.run(0, "client")

	before := c.secrets()
	for _, service := range []string{"secrets", "init", "certificate", "trust"} {
		c.run(0, service)
	}
	if after := c.secrets(); !maps.Equal(before, after) {
		t.Errorf("the second start made other secrets: %q, %q", before, after)
	}
	if !strings.Contains(before["secrets/pgpass"], ":"+strings.TrimSpace(before["password/postgres"])+"\n") || len(before["secrets/passphrase"]) < 32 {
		t.Errorf("secrets: %q", before)
	}

	told := regexp.MustCompile(`(?m)^#   docker compose run --rm (\S+) ?(.*)$`).FindAllStringSubmatch(string(text), -1)
	if len(told) != 4 {
		t.Fatalf("it tells to run %q", told)
	}
	for i, line := range told {
		status := 0
		if i == len(told)-1 {
			status = 1 // refused
		}
		if said := c.run(status, line[1], strings.Fields(line[2])...); status == 1 && !strings.Contains(said, "revoked") {
			t.Errorf("it is refused, and not for its revocation:\n%s", said)
		}
	}
}

// TestDockerfile holds the compiler of the image to that of go.mod: the image of Go brings no other by itself.
func TestDockerfile(t *testing.T) {
	t.Parallel()
	found := make(map[string]string)
	for path, pattern := range map[string]string{"../../Dockerfile": `(?m)^FROM golang:([0-9.]+) AS build$`, "../../go.mod": `(?m)^go ([0-9]+\.[0-9]+)`} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		match := regexp.MustCompile(pattern).FindSubmatch(text)
		if match == nil {
			t.Fatalf("%s names no version of Go", path)
		}
		found[filepath.Base(path)] = string(match[1])
	}
	if found["Dockerfile"] != found["go.mod"] {
		t.Errorf("versions of Go: %v", found)
	}
}

// secrets reads every file that the first start drew.
func (c *containers) secrets() map[string]string {
	c.t.Helper()
	all := make(map[string]string)
	for _, name := range []string{"secrets/passphrase", "secrets/pgpass", "password/postgres", "state/signet.yaml", "app/app.pem", "app/app.key"} {
		text, err := os.ReadFile(filepath.Join(c.root, name))
		if err != nil {
			c.t.Fatal(err)
		}
		info, err := os.Stat(filepath.Join(c.root, name))
		if err != nil {
			c.t.Fatal(err)
		}
		if mode := info.Mode().Perm(); mode != 0o600 && name != "app/app.pem" {
			c.t.Errorf("%s has mode %04o", name, mode)
		}
		all[name] = string(text)
	}
	return all
}
