package main

import (
	"runtime"
	"runtime/debug"
)

// release is set by the linker in released binaries: -ldflags "-X main.release=1.2.3".
var release = ""

type versionCmd struct{}

func (versionCmd) Help() string {
	return `Examples:
  signet version
  signet version --output json`
}

// Run prints the version.
func (versionCmd) Run(a *app) error {
	v := readVersion()
	return a.show(v, func(p *printer) {
		p.line("signet %s", v.Version)
		p.fields("commit", v.Commit, "built with", v.Go+" "+v.Platform)
	})
}

type versionInfo struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Modified bool   `json:"modified"` // built from a tree with uncommitted changes
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func readVersion() versionInfo {
	v := versionInfo{Version: release, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if build, ok := debug.ReadBuildInfo(); ok {
		for _, s := range build.Settings {
			switch s.Key {
			case "vcs.revision":
				v.Commit = s.Value
			case "vcs.modified":
				v.Modified = s.Value == "true"
			}
		}
		if v.Version == "" {
			v.Version = build.Main.Version
		}
	}
	if v.Version == "" {
		v.Version = "(devel)"
	}
	return v
}
