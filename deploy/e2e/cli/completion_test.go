package cli

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// completed is what must come of a line; alone: nothing else may.
type completed struct {
	line, word string
	alone      bool
}

func completions() []completed {
	return []completed{
		{"plantmesh-edge ", "quarantine", false},
		{"plantmesh-edge ", "--json", false},
		{"plantmesh-edge quar", "quarantine", true},
		{"plantmesh-edge quarantine rel", "release", true},
		{"plantmesh-edge quarantine ", "show", false},
		{"plantmesh-edge --json quarantine sh", "show", true},
		{"plantmesh-edge source add --tru", "--trust", true},
		{"plantmesh-edge source add --config edge.yaml opc.tcp://x --ass", "--asset", true},
		{"plantmesh-edge completion z", "zsh", true},
		{"plantmesh-edge status --config my-ed", "my-edge.yaml", true},
		{"plantmesh-edge status --config ", "my-edge.yaml", true},
	}
}

// The completion is run by each shell there is, as who types would: with TAB behind a part
// of a line.
func TestCompletion_InEachShell(t *testing.T) {
	t.Parallel()
	for shell, script := range map[string]string{"bash": bashTAB, "zsh": zshTAB, "fish": fishTAB} {
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			path, err := exec.LookPath(shell)
			if err != nil {
				t.Skipf("skipped: %s is not installed", shell)
			}
			dir := folder(t)
			write(t, dir, map[string]string{"script": must(t, "plantmesh-edge", "completion", shell), "cwd/my-edge.yaml": "", "tab": script})
			args := []string{filepath.Join(dir, "tab"), filepath.Join(dir, "script")}
			for _, c := range completions() {
				args = append(args, c.line)
			}
			said := shellSays(t, filepath.Join(dir, "cwd"), path, args...)
			for i, c := range completions() {
				got := strings.Fields(said[min(i+1, len(said)-1)])
				if len(said) != len(completions())+1 || !slices.Contains(got, c.word) || c.alone && len(got) != 1 {
					t.Errorf("%q TAB gives %q, want %s", c.line, got, c.word)
				}
			}
		})
	}
}

// shellSays has a shell run a script, and gives what it says for each line it was given.
func shellSays(t *testing.T, dir, path string, args ...string) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HOME="+dir, "ZDOTDIR="+dir, "TERM=dumb", "XDG_CONFIG_HOME="+dir+"/.c", "XDG_DATA_HOME="+dir+"/.c")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", path, err, out)
	}
	return strings.Split(string(out), "LINE\n")
}

// bashTAB calls the function that complete has registered as bash calls it; where that gives
// nothing, and only then, bash names files.
const bashTAB = `set -u
source "$1"
shift
f=$(complete -p plantmesh-edge); f=${f#*-F }; name=${f#* } f=${f%% *}
for line; do
  echo LINE
  COMP_LINE=$line COMP_POINT=${#line} COMPREPLY=()
  read -ra COMP_WORDS <<< "$line"
  [[ $line == *" " ]] && COMP_WORDS+=("")
  COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
  "$f" "$name" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
  if ((${#COMPREPLY[@]})); then printf '%s\n' "${COMPREPLY[@]}"; else compgen -f -- "${COMP_WORDS[COMP_CWORD]}"; fi
done
`

// fishTAB asks fish itself.
const fishTAB = `source $argv[1]
for line in $argv[2..]
  echo LINE
  complete -C $line | string split -f1 \t | string match -v '.*'
end
`

// zshTAB types into a shell of its own terminal, whose compadd says what it is given.
const zshTAB = `zmodload zsh/zpty
zpty z TERM=dumb PS1= ZLE_RPROMPT_INDENT=0 zsh -f -i
zpty -w z "stty -echo; autoload -Uz compinit && compinit -u -D; source ${(q)1}
compadd() { local -a got; builtin compadd -A got \"\$@\"; print -rl -- '<'\${^got}'>' }
told() { print '<<'; _main_complete; print '>>' }
zle -C told complete-word told; bindkey '^I' told; print go''es"
zpty -r z out '*goes*'
shift
for line; do
  print LINE
  zpty -w -n z "$line"$'\t'
  zpty -r z out '*>>*'
  print -rl -- ${(u)${(M)${(f)out//$'\r'/}:#'<'*'>'}//[<>]/}
  zpty -w -n z $'\C-u'
done
`
