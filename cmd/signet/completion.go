package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

func (completionCmd) Help() string {
	return `Examples:
  signet completion bash > /etc/bash_completion.d/signet
  signet completion zsh > "${fpath[1]}/_signet"
  signet completion fish > ~/.config/fish/completions/signet.fish`
}

// Run prints a script for the shell.
func (c *completionCmd) Run(a *app, parser *kong.Kong) error {
	paths := commandWords(parser.Model.Node)
	script := map[string]func(io.Writer, []pathWords) error{"bash": writeBash, "zsh": writeZsh, "fish": writeFish}[c.Shell]
	return script(a.out, paths)
}

// pathWords are the words that can follow a path of commands: "crl" -> fetch, show, verify, --help ...
type pathWords struct {
	path  string
	words []string
	leaf  bool // a command that ends the path: a file, a name or a flag follows
}

// commandWords walks the commands, parents first.
func commandWords(node *kong.Node) []pathWords {
	var all []pathWords
	var walk func(n *kong.Node, path string, inherited []string)
	walk = func(n *kong.Node, path string, inherited []string) {
		own := inherited
		for _, f := range n.Flags {
			if !f.Hidden {
				own = append(own[:len(own):len(own)], "--"+f.Name)
			}
		}
		words := slices.Clone(own)
		for _, child := range n.Children {
			if child.Type == kong.CommandNode && !child.Hidden {
				words = append(words, child.Name)
			}
		}
		slices.Sort(words)
		all = append(all, pathWords{path, words, n.Leaf()})
		for _, child := range n.Children {
			if child.Type == kong.CommandNode && !child.Hidden {
				walk(child, strings.TrimSpace(path+" "+child.Name), own)
			}
		}
	}
	walk(node, "", nil)
	return all
}

func writeBash(w io.Writer, paths []pathWords) error {
	_, err := fmt.Fprintf(w, `# bash completion for signet
_signet() {
  local cur=${COMP_WORDS[COMP_CWORD]} path= word words=
  for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "${path:+$path }$word" in
      %s) path="${path:+$path }$word" ;;
    esac
  done
  case "$path" in
%s  esac
  case "$cur" in
    -*) ;;
    *) case "$path" in %s) words= ;; esac ;; # a file belongs here
  esac
  if [ -n "$words" ]; then
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
  else
    local IFS=$'\n'
    COMPREPLY=($(compgen -f -- "$cur"))
  fi
}
complete -o filenames -F _signet signet
`, quotedPaths(paths, true), cases(paths), quotedPaths(paths, false))
	return err
}

// writeZsh writes the bash script with a header with which zsh can read it.
func writeZsh(w io.Writer, paths []pathWords) error {
	if _, err := io.WriteString(w, "#compdef signet\nautoload -U +X bashcompinit && bashcompinit\n"); err != nil {
		return err
	}
	return writeBash(w, paths)
}

func writeFish(w io.Writer, paths []pathWords) error {
	for _, p := range paths {
		condition := "__fish_use_subcommand"
		if p.path != "" {
			steps := strings.Fields(p.path)
			condition = "__fish_seen_subcommand_from " + strings.Join(steps, "; and __fish_seen_subcommand_from ")
		}
		for _, word := range p.words {
			option := "-f -a " + word // no file belongs here
			if long, ok := strings.CutPrefix(word, "--"); ok {
				option = "-l " + long
			}
			if _, err := fmt.Fprintf(w, "complete -c signet -n '%s' %s\n", condition, option); err != nil {
				return err
			}
		}
	}
	return nil
}

// quotedPaths returns all paths, or only those of commands without further ones.
func quotedPaths(paths []pathWords, all bool) string {
	var quoted []string
	for _, p := range paths[1:] { // the first is signet itself
		if all || p.leaf {
			quoted = append(quoted, `"`+p.path+`"`)
		}
	}
	return strings.Join(quoted, "|")
}

func cases(paths []pathWords) string {
	var b strings.Builder
	for _, p := range paths {
		fmt.Fprintf(&b, "    %q) words=%q ;;\n", p.path, strings.Join(p.words, " "))
	}
	return b.String()
}
