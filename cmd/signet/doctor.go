package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"signet.example/signet/api/client"
	"signet.example/signet/ca/keys/softkey"
	"signet.example/signet/handshake/fetch"
	"signet.example/signet/internal/installation"
	"signet.example/signet/internal/server"
	"signet.example/signet/internal/settings"
	"signet.example/signet/pki"
)

type doctorCmd struct {
	Health bool     `help:"Only ask the running server whether it is ready, as a container's health check does."`
	Wait   duration `placeholder:"DURATION" help:"With --health: how long to wait until it is ready, such as 30s."`
	PID    int      `name:"pid" placeholder:"PID" help:"With --wait: wait no longer than this process, the server, runs."`
	serverFlags
}

func (doctorCmd) Help() string {
	return `Looks at the configuration, the files, the database and the running server, and says what to fix. It changes nothing.
The exit status is 10 if something is wrong.

Examples:
  signet doctor
  signet doctor --token-file mine.token  # on a machine that has no admin.token
  signet doctor --health
  signet doctor --health --wait 30s            # after starting the server in the background
  signet doctor --health --wait 30s --pid 4711 # and no longer than it runs; in a shell, --pid $!`
}

// Run makes every check, whatever the results of the others.
func (c *doctorCmd) Run(a *app) error {
	config, err := a.loadConfig()
	if err != nil {
		return err
	}
	if c.Wait > 0 && !c.Health {
		pid := ""
		if c.PID > 0 {
			pid = fmt.Sprintf(" --pid %d", c.PID)
		}
		return pki.Errorf(pki.KindInvalid, "examine", "--wait belongs to --health").
			WithHint("signet doctor --health --wait %s%s", time.Duration(c.Wait), pid)
	}
	if c.PID < 0 || c.PID > 0 && c.Wait == 0 {
		return pki.Errorf(pki.KindInvalid, "examine", "--pid is a process that --wait waits for").
			WithHint("signet doctor --health --wait 30s --pid $!")
	}
	var api finding
	checks := []check{
		{"variables", checkVariables},
		{"files", checkFiles},
		{"keys", checkKeys},
		{"roots", checkRoots},
		{"profiles", checkProfiles},
		{"server", checkReady},
		{"database", checkDatabase},
		{"API", func(a *app, _ *settings.Config) finding { api = checkAPI(a, c.serverFlags); return api }},
		{"public URL", func(a *app, config *settings.Config) finding {
			if api.State != "good" {
				return careful("", "not asked: see API")
			}
			return checkPublicURL(a, config, c.serverFlags)
		}},
		{"instances", func(a *app, _ *settings.Config) finding {
			if api.State != "good" { // it would wait as long for the same answer
				return careful("", "not compared: see API")
			}
			return checkInstances(a, c.serverFlags)
		}},
	}
	if c.Health {
		checks = []check{{"server", c.awaitReady}}
	}
	report := examination{Healthy: true, Findings: []finding{}}
	for _, check := range checks {
		f := check.run(a, config)
		f.Check = check.name
		report.Findings = append(report.Findings, f)
		report.Healthy = report.Healthy && f.State != "wrong"
	}
	if err := a.show(report, func(p *printer) {
		for _, f := range report.Findings {
			p.line("%-8s %-10s  %s", f.State, f.Check, f.Detail)
			if f.Hint != "" {
				p.line("%20s next: %s", "", f.Hint)
			}
		}
	}); err != nil {
		return err
	}
	if !report.Healthy {
		return answerNo("something is wrong")
	}
	return nil
}

type check struct {
	name string
	run  func(*app, *settings.Config) finding
}

// examination is what `signet doctor --output json` prints.
type examination struct {
	Healthy  bool      `json:"healthy"`
	Findings []finding `json:"findings"`
}

type finding struct {
	Check  string `json:"check"`
	State  string `json:"state"` // good, careful, wrong
	Detail string `json:"detail"`
	Hint   string `json:"hint,omitempty"`
}

func good(format string, args ...any) finding {
	return finding{State: "good", Detail: fmt.Sprintf(format, args...)}
}

func careful(hint, format string, args ...any) finding {
	return finding{State: "careful", Detail: fmt.Sprintf(format, args...), Hint: hint}
}

func wrong(hint, format string, args ...any) finding {
	return finding{State: "wrong", Detail: fmt.Sprintf(format, args...), Hint: hint}
}

// checkVariables finds environment variables that begin with SIGNET_ but name no field of the configuration.
func checkVariables(*app, *settings.Config) finding {
	if unknown := settings.UnknownVariables(os.Environ()); len(unknown) > 0 {
		return careful("api.listen is SIGNET_API_LISTEN; docs/OPERATIONS.md lists every field", "the environment sets %s, which is no field of the configuration", strings.Join(unknown, ", "))
	}
	return good("every variable that begins with SIGNET_ is known")
}

// checkFiles finds secrets that other users can read.
func checkFiles(_ *app, config *settings.Config) finding {
	state := config.State()
	secret := []string{state.Keys(), config.Path(config.Client.TokenFile)}
	files, _ := filepath.Glob(filepath.Join(state.Keys(), "*.key")) // the pattern is valid
	for _, path := range append(secret, files...) {
		info, err := os.Stat(path)
		if err != nil {
			continue // another check reports missing files
		}
		if info.Mode().Perm()&0o077 != 0 {
			return wrong("chmod go= "+path+", and consider whether somebody has read it", "others can read %s", path)
		}
	}
	return good("%s in %s, readable by their owner only", counted(len(files), "key file"), state.Dir)
}

// checkKeys finds out whether the server could start unattended.
func checkKeys(a *app, config *settings.Config) finding {
	files, _ := filepath.Glob(filepath.Join(config.State().Keys(), "*.key")) // the pattern is valid
	if len(files) == 0 {
		return careful("run `signet init`, or restore the keys from a backup", "there is no key here: this instance can publish, and cannot sign")
	}
	passphrase, ok, err := settings.PassphraseSource{File: config.PassphraseFilePath(), Getenv: a.getenv}.Read()
	switch {
	case err != nil:
		return wrong(hintOf(err), "%v", err)
	case !ok:
		return careful("set passphrase_file or SIGNET_PASSPHRASE_FILE, or give a systemd credential", "no passphrase is configured: `signet serve` asks at a terminal")
	}
	if err := opens(a.ctx, files[0], passphrase); err != nil {
		return wrong(hintOf(err), "%v", err)
	}
	// Not wrong: the secrets of a container are often readable by all its users.
	file := config.PassphraseFilePath()
	if info, err := os.Stat(file); file != "" && err == nil && info.Mode().Perm()&0o077 != 0 {
		return careful("chmod go= "+file, "others on this machine can read the passphrase in %s", file)
	}
	return good("a passphrase is configured, and it opens the keys, so `signet serve` starts unattended")
}

// opens returns why a passphrase does not open a key file.
func opens(ctx context.Context, file string, passphrase []byte) error {
	store, err := softkey.New(softkey.Config{Dir: filepath.Dir(file), Passphrase: passphrase})
	if err != nil {
		return err
	}
	_, err = store.Open(ctx, store.URI(strings.TrimSuffix(filepath.Base(file), ".key")))
	return err
}

// checkRoots reads the roots that clients trust.
func checkRoots(a *app, config *settings.Config) finding {
	path := config.Path(config.Client.Root)
	chain, err := a.readCertificates(path)
	if err != nil {
		return wrong("`signet init` writes it; `signet issuer show --pem` prints it again", "%v", err)
	}
	for _, root := range chain {
		switch left := time.Until(root.NotAfter); {
		case left <= 0:
			return wrong("make a new root and distribute it", "%s ended %s", root.Subject, on(root.NotAfter))
		case left < 365*24*time.Hour:
			return careful("plan the next root now: distributing it takes long", "%s ends %s", root.Subject, on(root.NotAfter))
		}
	}
	return good("%s, until %s", chain[0].Subject, on(chain[0].NotAfter))
}

func checkProfiles(_ *app, config *settings.Config) finding {
	set, err := openProfiles(config)
	if err != nil {
		return wrong("`signet profile check FILE` names every mistake", "%v", err)
	}
	return good("%d profiles", len(set.All()))
}

// checkPublicURL fetches the list of every active issuer from the URL in its certificates, like a relying party.
func checkPublicURL(a *app, config *settings.Config, flags serverFlags) finding {
	return overAPI(a, flags, (*client.Client).Issuers, func(issuers []client.Issuer) finding {
		return judgeURLs(config, issuers, func(url string) error {
			_, err := a.fetch("fetch", fetch.Request{URL: url})
			return err
		})
	})
}

// judgeURLs returns the worst finding: a URL that does not answer comes before one that only this machine reaches. That
// an issuer has a URL of its own may be intended; the server reports it.
func judgeURLs(config *settings.Config, issuers []client.Issuer, ask func(url string) error) finding {
	var answered []string
	var local []client.Issuer
	for _, issuer := range issuers {
		if issuer.State != client.IssuerActive {
			continue
		}
		url := issuer.BaseURL + "/crl/" + issuer.ID.String() + ".crl"
		err := ask(url)
		// Its list may not be here yet; checkReady reports that.
		if !issuer.Online && err != nil && pki.KindOf(err) == pki.KindNotFound {
			continue
		}
		if err != nil {
			return unreachable(config, url, err)
		}
		if settings.Loopback(issuer.BaseURL) {
			local = append(local, issuer)
		}
		answered = append(answered, issuer.BaseURL)
	}
	switch {
	case len(local) > 0:
		return onlyHere(config, local)
	case len(answered) == 0:
		return careful("", "no issuer has a list here")
	}
	slices.Sort(answered)
	return good("%s answers", strings.Join(slices.Compact(answered), ", "))
}

func unreachable(config *settings.Config, url string, err error) finding {
	hint := "clients that check status will fail or wait; look at DNS, firewall and proxy"
	if settings.Loopback("http://" + config.Public.Listen) {
		hint += ", and at public.listen: " + config.Public.Listen + " is for this machine alone"
	}
	return careful(hint, "%s does not answer here: %v", url, err)
}

func onlyHere(config *settings.Config, issuers []client.Issuer) finding {
	hint := "before other machines use these certificates, "
	url := config.PublicURL
	if settings.Loopback(url) {
		hint += "set public_url and "
		url = "URL"
	}
	var labels, urls, commands []string
	for _, issuer := range issuers {
		labels, urls = append(labels, issuer.Label), append(urls, issuer.BaseURL)
		commands = append(commands, "signet issuer update "+issuer.Label+" --base-url "+url)
	}
	slices.Sort(urls)
	return careful(hint+"run: "+strings.Join(commands, "; "), "certificates of %s point to %s, which only this machine can reach", sentence(labels), sentence(slices.Compact(urls)))
}

// awaitReady repeats checkReady until the server is ready, the wait is over, or the process of the server has ended.
func (c *doctorCmd) awaitReady(a *app, config *settings.Config) finding {
	server, err := os.FindProcess(c.PID)
	if err != nil {
		return wrong("", "%v", err)
	}
	wait, cancel := context.WithTimeout(a.ctx, time.Duration(c.Wait))
	defer cancel()
	ended := func() bool { return c.PID > 0 && hasEnded(server) }
	for {
		before := ended()
		f := checkReady(a, config)
		switch {
		case before && f.State != "wrong" && config.Ops.Listen != "off":
			return wrong("its log says why", "process %d has ended, and another one answers as this server", c.PID)
		case before:
			return wrong("its log says why", "process %d has ended; %s", c.PID, f.Detail)
		case f.State != "wrong" && ended():
			continue // who answers now?
		case f.State != "wrong":
			return f
		}
		select {
		case <-wait.Done():
			return f
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// hasEnded reports whether a process has ended. On Linux that includes one whose parent has not collected it, which
// can still be signalled: proc(5), the state follows the name in parentheses.
func hasEnded(process *os.Process) bool {
	if errors.Is(process.Signal(syscall.Signal(0)), os.ErrProcessDone) {
		return true
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", process.Pid))
	return err == nil && bytes.HasPrefix(stat[bytes.LastIndexByte(stat, ')')+1:], []byte(" Z "))
}

// checkReady asks the ops listener.
func checkReady(a *app, config *settings.Config) finding {
	if config.Ops.Listen == "off" {
		return careful("", "ops.listen is off, so the server cannot be asked whether it is ready")
	}
	ctx, cancel := context.WithTimeout(a.ctx, 3*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+reachable(config.Ops.Listen)+"/readyz", nil)
	if err != nil {
		return wrong("", "%v", err)
	}
	answer, err := http.DefaultClient.Do(request)
	if failed, ok := errors.AsType[*url.Error](err); ok {
		return wrong("start it with `signet serve`", "nothing answers: %v", failed.Err)
	}
	if err != nil {
		return wrong("", "%v", err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxInput))
	if err != nil {
		return wrong("", "%v", err)
	}
	var said server.Readiness
	if err := json.Unmarshal(body, &said); err != nil {
		return wrong("does something else listen there?", "%s answers what no signet would: %s", request.URL, answer.Status)
	}
	f := describeReadiness(said)
	switch said.Config {
	case config.Identity():
		return f
	case "": // earlier versions answer so; they do not identify their configuration
		if f.State == "wrong" {
			return f
		}
		return careful("restart it", "it is of an older version; %s", f.Detail)
	}
	return wrong("stop that one, or give this one an ops.listen of its own", "%s is answered by the server of another signet.yaml", request.URL)
}

// describeReadiness summarises /readyz in a line.
func describeReadiness(said server.Readiness) finding {
	var failed, warned, told []string
	for _, check := range said.Checks {
		text := check.Name + ": " + check.Detail
		switch {
		case check.State == "failed":
			failed = append(failed, text)
		case check.State == "warning":
			warned = append(warned, text)
		case (check.Name == server.OldURLs || check.Name == server.PublicURL) && check.Detail != "":
			told = append(told, check.Detail)
		}
	}
	switch {
	case !said.Ready:
		return wrong("look at its log", "it runs and is not ready: %s", strings.Join(append(failed, warned...), "; "))
	case len(warned) > 0:
		return careful("docs/OPERATIONS.md describes every check and metric", "it runs and is ready, and warns: %s", strings.Join(append(warned, told...), "; "))
	}
	return good("%s", strings.Join(append([]string{"it runs and is ready"}, told...), "; "))
}

// checkDatabase reads the version of the schema. A SQLite file in use belongs to the server.
func checkDatabase(a *app, config *settings.Config) finding {
	status, err := installation.DatabaseStatus(a.ctx, config)
	switch {
	case installation.IsLocked(err):
		return good("%s, in use by a running process", config.DatabaseName())
	case err != nil:
		return wrong(hintOf(err), "%v", err)
	case status.Dirty:
		return wrong("restore the backup made before the upgrade", "a migration broke off at version %d", status.Version)
	case status.Version > status.Latest:
		return wrong("start the newer signet", "schema %d is newer than this binary's %d", status.Version, status.Latest)
	case status.Version < status.Latest:
		return careful("`signet migrate`, or just start the server", "schema %d is older than this binary's %d", status.Version, status.Latest)
	}
	return good("%s, schema %d", config.DatabaseName(), status.Version)
}

// checkAPI makes a call with the credential from the flags or from this configuration.
func checkAPI(a *app, flags serverFlags) finding {
	type caller struct {
		*client.Identity
		ends time.Time
	}
	return overAPI(a, flags, func(api *client.Client, ctx context.Context) (caller, error) {
		me, err := api.WhoAmI(ctx)
		if err != nil {
			return caller{}, err
		}
		_, name, _ := strings.Cut(me.Principal, ":")
		credential, err := api.Credential(ctx, name)
		if err != nil { // not every caller has one, or may know it
			return caller{me, time.Time{}}, nil
		}
		return caller{me, credential.ExpiresAt}, nil
	}, func(me caller) finding {
		switch {
		case me.Role == client.RoleNone:
			return wrong("make a credential with `signet credential create`", "%s may do nothing", me.Principal)
		case !me.ends.IsZero() && time.Until(me.ends) < 30*24*time.Hour:
			return careful("create the next one while this one is valid: `signet credential create`", "it answers, and you are %s (%s), until %s", me.Principal, me.Role, on(me.ends))
		}
		return good("it answers, and you are %s (%s)", me.Principal, me.Role)
	})
}

// overAPI judges the answer to a call.
func overAPI[T any](a *app, flags serverFlags, call func(*client.Client, context.Context) (T, error), judge func(T) finding) finding {
	api, err := a.connect(flags)
	if err != nil {
		return careful(hintOf(err), "%v", err)
	}
	defer api.Close()
	ctx, cancel := context.WithTimeout(a.ctx, 5*time.Second)
	defer cancel()
	answer, err := call(api, ctx)
	if err != nil {
		return wrong(hintOf(err), "%v", err)
	}
	return judge(answer)
}

// checkInstances compares the profiles of all running instances.
func checkInstances(a *app, flags serverFlags) finding {
	return overAPI(a, flags, (*client.Client).ProfileInstances, judgeInstances)
}

func judgeInstances(instances []client.ProfileInstance) finding {
	if len(instances) == 0 {
		return good("not compared: administrators and auditors are told what profiles each has")
	}
	var refused []string
	for _, i := range instances {
		if i.Failure != "" {
			refused = append(refused, i.Name+" refused its files, and keeps the profiles it had: "+i.Failure)
		}
	}
	if err := inStep(instances); err != nil {
		return careful(hintOf(err), "%s", cmp.Or(strings.Join(refused, "; "), err.Error()))
	}
	return good("%d, with the same %d profiles", len(instances), instances[0].Count)
}
