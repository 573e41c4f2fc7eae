package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"plantmesh/proto/answer"
)

// completionCmd prints a script that has a shell complete the commands. It holds all of
// them, so nothing is run while somebody types.
type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

func (c *completionCmd) Run(k *kong.Kong, p *answer.Printer) error {
	all := words("", k.Model.Node)
	text := map[string]func(string, []place) string{"bash": bash, "zsh": zsh, "fish": fish}[c.Shell](k.Model.Name, all)
	where := map[string]string{
		"bash": "plantmesh-edge completion bash | sudo tee /etc/bash_completion.d/plantmesh-edge",
		"zsh":  "plantmesh-edge completion zsh > _plantmesh-edge, in a folder of $fpath",
		"fish": "plantmesh-edge completion fish > ~/.config/fish/completions/plantmesh-edge.fish",
	}[c.Shell]
	text = "# Completion of " + k.Model.Name + ". To install: " + where + "\n" + text
	if c.Shell == "zsh" {
		text = "#compdef " + k.Model.Name + "\n" + text
	}
	return p.Print(answer.Result{Data: map[string]string{"shell": c.Shell, "script": text}, Text: text})
}

// place is what may stand behind some words.
type place struct {
	at       string // "/buffer/peek"; empty: behind the program's name
	commands []string
	flags    []string
	values   []string // those of flags behind which a value stands
}

// valued are the flags of all places behind which a value stands: most are files.
func valued(all []place) []string {
	var out []string
	for _, p := range all {
		out = append(out, p.values...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// words are the places below a command, itself first.
func words(at string, n *kong.Node) (out []place) {
	p := place{at: at}
	for _, group := range n.AllFlags(true) {
		for _, f := range group {
			p.flags = append(p.flags, "--"+f.Name)
			if !f.IsBool() {
				p.values = append(p.values, "--"+f.Name)
			}
		}
	}
	slices.Sort(p.flags)
	p.flags = slices.Compact(p.flags)
	var below []place
	for _, child := range n.Children {
		if child.Hidden || child.Type != kong.CommandNode {
			continue
		}
		p.commands = append(p.commands, child.Name)
		below = append(below, words(at+"/"+child.Name, child)...)
	}
	for _, a := range n.Positional { // what may stand there, where that is a closed list
		if a.Enum != "" {
			p.commands = append(p.commands, strings.Split(a.Enum, ",")...)
		}
	}
	return append([]place{p}, below...)
}

// cases walks the words on the line to where they lead, as bash and zsh take it.
func cases(all []place, quote func(place) string) (steps, answers string) {
	var paths []string
	var b strings.Builder
	for _, p := range all {
		if p.at != "" {
			paths = append(paths, p.at)
		}
		fmt.Fprintf(&b, "    %q) %s ;;\n", p.at, quote(p))
	}
	return strings.Join(paths, "|"), b.String()
}

func bash(program string, all []place) string {
	steps, answers := cases(all, func(p place) string {
		return fmt.Sprintf("next=%q", strings.Join(append(p.commands, p.flags...), " "))
	})
	return fmt.Sprintf(`_plantmesh_edge() {
  local at= next= i
  case "${COMP_WORDS[COMP_CWORD-1]}" in
    %s) COMPREPLY=(); return ;;
  esac
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "$at/${COMP_WORDS[i]}" in
      %s) at="$at/${COMP_WORDS[i]}" ;;
    esac
  done
  case "$at" in
%s  esac
  COMPREPLY=($(compgen -W "$next" -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _plantmesh_edge %s
`, strings.Join(valued(all), "|"), steps, answers, program)
}

func zsh(program string, all []place) string {
	steps, answers := cases(all, func(p place) string {
		return "compadd -- " + strings.Join(append(p.commands, p.flags...), " ")
	})
	return fmt.Sprintf(`_plantmesh_edge() {
  local at="" word
  case "${words[CURRENT-1]}" in
    %s) _files; return ;;
  esac
  for word in "${(@)words[2,CURRENT-1]}"; do
    case "$at/$word" in
      %s) at="$at/$word" ;;
    esac
  done
  case "$at" in
%s  esac
  _files
}
compdef _plantmesh_edge %s
if [ "$funcstack[1]" = "_%s" ]; then _plantmesh_edge "$@"; fi
`, strings.Join(valued(all), "|"), steps, answers, program, program)
}

func fish(program string, all []place) string {
	var b strings.Builder
	b.WriteString("function __plantmesh_edge_at\n  contains -- (commandline -opc)[-1] " + strings.Join(valued(all), " ") + "\n  and return 1\n  set -l at\n  for word in (commandline -opc)[2..]\n    switch \"$at/$word\"\n      case")
	for _, p := range all {
		if p.at != "" {
			b.WriteString(" " + p.at)
		}
	}
	b.WriteString("\n        set at \"$at/$word\"\n    end\n  end\n  test \"$at\" = \"$argv[1]\"\nend\n")
	for _, p := range all {
		if next := strings.Join(append(p.commands, p.flags...), " "); next != "" {
			fmt.Fprintf(&b, "complete -c %s -n '__plantmesh_edge_at %q' -a %q\n", program, p.at, next)
		}
	}
	return b.String()
}
