package main

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"signet.example/signet/api/client"
	"signet.example/signet/ca/profile"
	"signet.example/signet/internal/settings"
	"signet.example/signet/pki"
)

type profileCmd struct {
	Check     profileCheckCmd     `cmd:"" help:"Check profile files without a server."`
	List      profileListCmd      `cmd:"" help:"List the profiles of this configuration."`
	Show      profileShowCmd      `cmd:"" help:"Print a profile as YAML, to read or to start one of your own."`
	Reload    profileReloadCmd    `cmd:"" help:"Make every running instance read its profiles again."`
	Instances profileInstancesCmd `cmd:"" help:"List the running instances with the profiles that each has."`
}

type profileCheckCmd struct {
	Files []string `arg:"" name:"file" help:"Profile files, or directories of them."`
}

func (profileCheckCmd) Help() string {
	return `Every mistake of every file is printed with its line and field; what contradicts itself, once the fields are right. Two files that define the
same profile are a mistake too: a server takes its profiles whole, or not at all.

Examples:
  signet profile check profiles
  signet profile check server.yaml`
}

// Run checks all files, even after an error.
func (c *profileCheckCmd) Run(a *app) error {
	result := profileCheck{Profiles: []checkedProfile{}}
	files, err := profileFiles(c.Files)
	if err != nil {
		return err
	}
	definedIn := make(map[string]string)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return fileError("check profile", err)
		}
		p, err := profile.Parse(file, text)
		checked := checkedProfile{File: file}
		if err != nil {
			result.Bad++
			checked.Problem = err.Error()
			// Its cause alone begins with file and line, as editors expect.
			if e, ok := errors.AsType[*pki.Error](err); ok {
				checked.Problem = e.Err.Error()
			}
		} else if other := definedIn[p.Name]; other != "" {
			result.Bad++
			checked.Problem = fmt.Sprintf("%s: name: %s is defined in %s too", file, p.Name, other)
		} else {
			checked.Name, definedIn[p.Name] = p.Name, file
		}
		result.Profiles = append(result.Profiles, checked)
	}
	if err := a.show(result, func(p *printer) {
		for _, checked := range result.Profiles {
			if checked.Problem != "" {
				p.line("%s", checked.Problem)
			} else {
				p.line("%s: good: profile %s", checked.File, checked.Name)
			}
		}
	}); err != nil {
		return err
	}
	if result.Bad > 0 {
		return pki.Errorf(pki.KindInvalid, "check profiles", "%d of %d files cannot be used", result.Bad, len(files)).
			WithHint("`signet profile show server` prints a good one")
	}
	return nil
}

// profileFiles returns the named files and, for named directories, the files that a server would read in them.
func profileFiles(named []string) (files []string, err error) {
	for _, name := range named {
		info, err := os.Stat(name)
		if err != nil {
			return nil, fileError("check profile", err)
		}
		if !info.IsDir() {
			files = append(files, name)
			continue
		}
		entries, err := os.ReadDir(name)
		if err != nil {
			return nil, fileError("check profile", err)
		}
		for _, entry := range entries {
			if filepath.Ext(entry.Name()) == ".yaml" {
				files = append(files, filepath.Join(name, entry.Name()))
			}
		}
	}
	if len(files) == 0 {
		return nil, pki.Errorf(pki.KindNotFound, "check profile", "there is no .yaml file in %s", sentence(named))
	}
	return files, nil
}

// profileCheck is what `signet profile check --output json` prints.
type profileCheck struct {
	Profiles []checkedProfile `json:"profiles"`
	Bad      int              `json:"bad"`
}

type checkedProfile struct {
	File    string `json:"file"`
	Name    string `json:"name,omitempty"`
	Problem string `json:"problem,omitempty"`
}

type profileListCmd struct{}

func (profileListCmd) Help() string {
	return `Examples:
  signet profile list`
}

// Run prints every profile.
func (profileListCmd) Run(a *app) error {
	set, err := a.profiles()
	if err != nil {
		return err
	}
	list := profileList{Profiles: []listedProfile{}}
	for _, p := range set.All() {
		if !p.Internal {
			list.Profiles = append(list.Profiles, listedProfile{p.Name, p.Description, p.File, int64(p.Lifetime.Seconds())})
		}
	}
	digest := set.Digest()
	list.Digest = hex.EncodeToString(digest[:])
	return a.show(list, func(p *printer) {
		var rows [][]string
		for _, l := range list.Profiles {
			rows = append(rows, []string{l.Name, l.Description, l.File})
		}
		p.table([]string{"NAME", "FOR", "FROM"}, rows)
		p.fields("digest", list.Digest)
	})
}

// profileList is what `signet profile list --output json` prints.
type profileList struct {
	Profiles []listedProfile `json:"profiles"`
	Digest   string          `json:"digest"` // of the files here; a server that has read them reports the same
}

type listedProfile struct {
	Name        string `json:"name"`
	Description string `json:"description"`
	File        string `json:"file"`
	Lifetime    int64  `json:"lifetime_seconds"`
}

type profileShowCmd struct {
	Name string `arg:"" help:"Name of the profile."`
}

func (profileShowCmd) Help() string {
	return `Examples:
  signet profile show server
  signet profile show server > profiles/server.yaml      # to change it: a file replaces the built-in profile of its name
  signet profile show server | sed 's/^name: .*/name: web/' > profiles/web.yaml`
}

// Run prints the source of one profile.
func (c *profileShowCmd) Run(a *app) error {
	set, err := a.profiles()
	if err != nil {
		// The shell empties profiles/server.yaml before `signet profile show server > profiles/server.yaml` begins.
		builtin, openErr := profile.Open("")
		if openErr != nil {
			return openErr
		}
		if _, openErr := builtin.Get(c.Name); openErr != nil {
			return err
		}
		a.note("careful: %v; so this is the built-in profile, as it should be if that file is being written now", err)
		set = builtin
	}
	found, err := set.Get(c.Name)
	if err != nil {
		return err
	}
	result := shownProfile{found.Name, found.File, string(found.Source())}
	return a.show(result, func(p *printer) { p.line("%s", result.YAML) })
}

// shownProfile is what `signet profile show --output json` prints.
type shownProfile struct {
	Name string `json:"name"`
	File string `json:"file"`
	YAML string `json:"yaml"`
}

type profileReloadCmd struct{ serverFlags }

func (profileReloadCmd) Help() string {
	return `Every instance that runs on the same database reads its own files. On each the whole new set takes effect at once or, if one file
is bad, none of it, and the answer names instance and mistakes. If it is the one that is asked whose files are bad, no other is
asked. The exit status is 1 unless every instance has the same profiles now. SIGHUP (systemctl reload signet) is for one instance.

Examples:
  signet profile check profiles/*.yaml
  signet profile reload
  signet profile reload --server ca2.example:8443`
}

// Run asks one instance to reload, which asks the others.
func (c *profileReloadCmd) Run(a *app) error {
	api, err := a.connect(c.serverFlags)
	if err != nil {
		return err
	}
	defer api.Close()
	reloaded, err := api.ReloadProfiles(a.ctx)
	if err != nil {
		return err
	}
	server := cmp.Or(c.Server, "the server")
	if err := a.show(reloaded, func(p *printer) {
		if reloaded.Digest == reloaded.DigestBefore {
			p.line("%s read its %d profiles again; nothing has changed", server, reloaded.Count)
			p.line("  The directory itself (profiles in signet.yaml) is read only when a server starts.")
		} else {
			p.line("%s has %d profiles now", server, reloaded.Count)
		}
		p.instances(reloaded.Instances)
	}); err != nil {
		return err
	}
	return inStep(reloaded.Instances)
}

type profileInstancesCmd struct{ serverFlags }

func (profileInstancesCmd) Help() string {
	return `Each instance reads its own files, when it starts and when one of them is asked to reload. The same digest means the same profiles.
The exit status is 1 unless every instance has the same.

Examples:
  signet profile instances`
}

// Run asks one instance about all.
func (c *profileInstancesCmd) Run(a *app) error {
	api, err := a.connect(c.serverFlags)
	if err != nil {
		return err
	}
	defer api.Close()
	instances, err := api.ProfileInstances(a.ctx)
	if err != nil {
		return err
	}
	if len(instances) == 0 { // the one that answers is running
		return pki.Errorf(pki.KindDenied, "list instances", "only administrators and auditors may see them").
			WithHint("use their credential: --token-file, or --cert and --key")
	}
	if err := a.show(profileInstances{instances}, func(p *printer) { p.instances(instances) }); err != nil {
		return err
	}
	return inStep(instances)
}

// profileInstances is what `signet profile instances --output json` prints.
type profileInstances struct {
	Instances []client.ProfileInstance `json:"instances"`
}

// instances prints a line for each instance, followed by the reason if it refused its files.
func (p *printer) instances(all []client.ProfileInstance) {
	var rows [][]string
	for _, i := range all {
		state := "in effect"
		switch {
		case i.Behind:
			state = "asked, not read yet"
		case i.Failure != "":
			state = "refused: an older set is in effect"
		}
		rows = append(rows, []string{i.Name, strconv.Itoa(i.Count), i.Digest[:min(16, len(i.Digest))], i.ReadAt.UTC().Format(time.RFC3339), state})
	}
	p.table([]string{"INSTANCE", "PROFILES", "DIGEST", "READ", "FILES"}, rows)
	for _, i := range all {
		if i.Failure != "" {
			p.line("%s: %s", i.Name, i.Failure)
		}
	}
}

// inStep returns an error unless every instance has the same profiles.
func inStep(all []client.ProfileInstance) error {
	const op = "compare instances"
	// The others may differ because of it.
	if i := slices.IndexFunc(all, func(i client.ProfileInstance) bool { return i.Failure != "" }); i >= 0 {
		return pki.Errorf(pki.KindFailedPrecondition, op, "%s refused its files, and keeps the profiles it had", all[i].Name).InField("profiles").
			WithHint("fix them there, and reload again")
	}
	for _, i := range all {
		switch {
		case i.Behind:
			return pki.Errorf(pki.KindUnavailable, op, "%s has not read its files yet", i.Name).InField("profiles").
				WithHint("signet profile instances")
		case i.Digest != all[0].Digest:
			return pki.Errorf(pki.KindFailedPrecondition, op, "%s and %s have different profiles", all[0].Name, i.Name).InField("profiles").
				WithHint("put the same files on both, and reload again")
		}
	}
	return nil
}

// profiles reads the profiles of the configuration, or returns the built-in ones if there is none.
func (a *app) profiles() (*profile.Set, error) {
	config, err := a.loadConfig()
	if pki.KindOf(err) == pki.KindNotFound {
		return profile.Open("")
	}
	if err != nil {
		return nil, err
	}
	return openProfiles(config)
}

func openProfiles(config *settings.Config) (*profile.Set, error) {
	return profile.Open(config.ProfilesDir())
}
