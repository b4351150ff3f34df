package main

import (
	"encoding/hex"
	"errors"
	"os"

	"signet.example/signet/ca/profile"
	"signet.example/signet/internal/server"
	"signet.example/signet/pki"
)

type profileCmd struct {
	Check  profileCheckCmd  `cmd:"" help:"Check profile files without a server."`
	List   profileListCmd   `cmd:"" help:"List the profiles of this configuration."`
	Show   profileShowCmd   `cmd:"" help:"Print a profile as YAML, to read or to start one of your own."`
	Reload profileReloadCmd `cmd:"" help:"Have a running server read its profiles again."`
}

type profileCheckCmd struct {
	Files []string `arg:"" name:"file" help:"Profile files."`
}

// Help is shown by `signet profile check --help`.
func (profileCheckCmd) Help() string {
	return `Every mistake of every file is printed with its line and field.

Examples:
  signet profile check profiles/*.yaml`
}

// Run checks every file, to the end.
func (c *profileCheckCmd) Run(a *app) error {
	result := profileCheck{Profiles: []checkedProfile{}}
	for _, file := range c.Files {
		text, err := os.ReadFile(file)
		if err != nil {
			return fileError("check profile", err)
		}
		p, err := profile.Parse(file, text)
		checked := checkedProfile{File: file}
		if err != nil {
			result.Bad++
			checked.Problem = err.Error()
			if e, ok := errors.AsType[*pki.Error](err); ok { // its cause alone begins with file and line, as editors want it
				checked.Problem = e.Err.Error()
			}
		} else {
			checked.Name = p.Name
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
		return pki.Errorf(pki.KindInvalid, "check profiles", "%d of %d files cannot be used", result.Bad, len(c.Files)).WithHint("`signet profile show server` prints a good one")
	}
	return nil
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

// Help is shown by `signet profile list --help`.
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
	Digest   string          `json:"digest"` // of the files here; a server that has read them gives the same
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

// Help is shown by `signet profile show --help`.
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
		a.note("signet: %v\n  this is the built-in profile", err)
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

// Help is shown by `signet profile reload --help`.
func (profileReloadCmd) Help() string {
	return `The whole new set takes effect at once or, if one file is bad, none of it, and the answer names the mistakes. It is the instance that
is asked, and no other, that reads its own files: ask each with --server, and compare the digests.

Examples:
  signet profile check profiles/*.yaml
  signet profile reload
  signet profile reload --server ca2.example:8443`
}

// Run asks one instance.
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
	return a.show(reloaded, func(p *printer) {
		if reloaded.Digest == reloaded.DigestBefore {
			p.line("%s read its %d profiles again; nothing has changed", c.Server, reloaded.Count)
		} else {
			p.line("%s has %d profiles now", c.Server, reloaded.Count)
		}
		p.fields("digest", reloaded.Digest)
		p.next("the same on every other instance: signet profile reload --server HOST:PORT")
	})
}

// profiles reads those of the configuration, or without one the built-in ones.
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

func openProfiles(config *server.Config) (*profile.Set, error) {
	return profile.Open(config.ProfilesDir())
}
