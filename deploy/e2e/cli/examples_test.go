package cli

import (
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// readme are the commands that README.md prints below a heading.
func readme(t *testing.T, heading string) (out []string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root(t), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(b), "\n"); n > 120 {
		t.Errorf("README.md has %d lines, 120 are enough", n)
	}
	_, part, found := strings.Cut(string(b), "\n## "+heading+"\n")
	_, part, opened := strings.Cut(part, "\n```\n")
	part, _, closed := strings.Cut(part, "\n```\n")
	if !found || !opened || !closed {
		t.Fatalf("README.md prints no commands below %q", heading)
	}
	return strings.Split(part, "\n")
}

func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// otherPorts replaces the printed ports by free ones, everywhere the same.
func otherPorts(t *testing.T) *strings.Replacer {
	t.Helper()
	var pairs []string
	for _, port := range []string{"4222", "8080", "4840", "1883"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		_, free, _ := net.SplitHostPort(l.Addr().String())
		pairs = append(pairs, "127.0.0.1:"+port, "127.0.0.1:"+free)
	}
	return strings.NewReplacer(pairs...)
}

// checkout is a folder that looks like the root of the repository.
func checkout(t *testing.T) string {
	t.Helper()
	dir := folder(t)
	for name, at := range map[string]string{"bin": programs, "deploy": filepath.Join(root(t), "deploy")} {
		if err := os.Symlink(at, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// typed types a line of the README; what ends with & goes on.
func typed(t *testing.T, dir, line string) *process {
	t.Helper()
	up := map[string]string{"firmware-sim": `"event":"ready"`, "plantmesh": "hub is up", "plantmesh-edge": "agent is up"}
	if command, ok := strings.CutSuffix(line, " &"); ok {
		words := strings.Fields(strings.TrimPrefix(command, "bin/"))
		p := begin(t, dir, nil, words[0], words[1:]...)
		until(t, 20*time.Second, words[0]+" is up", func() bool { return p.err.with(up[words[0]])+p.out.with(up[words[0]]) != "" })
		return p
	}
	until(t, 20*time.Second, line+" goes well", func() bool {
		cmd := exec.Command("sh", "-c", line)
		cmd.Dir = dir
		said, err := cmd.CombinedOutput()
		t.Logf("%s\n%s", line, said)
		if err != nil && !strings.Contains(line, " status ") { // only the agent may need a moment
			t.Fatal(err)
		}
		return err == nil
	})
	return nil
}

// TestReadme_ByHand types what the README prints, with the very files of
// deploy/examples, until a row is there.
func TestReadme_ByHand(t *testing.T) {
	t.Parallel()
	dir, ports := checkout(t), otherPorts(t)
	body := ""
	for _, line := range readme(t, "Set it up by hand") {
		line = ports.Replace(line)
		if url, ok := strings.CutPrefix(line, "curl -s "); ok {
			url = strings.Trim(url, "'")
			for equipment, produced := range map[string]string{"press-1": "685", "packer-1": "586"} { // as machines.csv says
				until(t, time.Minute, "there is a row of "+equipment, func() bool {
					body = get(t, strings.Replace(url, "press-1", equipment, 1))
					return strings.Contains(body, equipment+",hall1,hour,2026-11-20T05:00:00.000Z") && strings.Contains(body, ","+produced+",")
				})
			}
			continue
		}
		typed(t, dir, line)
		if strings.HasPrefix(line, "cp ") {
			replaceIn(t, filepath.Join(dir, "my-plant"), ports)
		}
	}
	t.Log(body)
}

func get(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// replaceIn edits every file below dir.
func replaceIn(t *testing.T, dir string, r *strings.Replacer) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(path, []byte(r.Replace(string(b))), 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
}
