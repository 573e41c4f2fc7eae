package release

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"plantmesh/proto/answer"
)

// What follows builds everything and installs it: `make release-test` runs it.
func full(t *testing.T) {
	t.Helper()
	if os.Getenv("PLANTMESH_RELEASE") != "full" {
		t.Skip("builds and installs all packages: make release-test runs it")
	}
}

// do runs a command and gives what it said.
func do(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	said, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, said)
	}
	return string(said)
}

// clone copies this repository, as it is committed, into a folder.
func clone(t *testing.T, name string) string {
	t.Helper()
	top, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), name)
	do(t, ".", "git", "clone", "--quiet", top, to)
	return to
}

// packages makes those of a clone, for some architectures or for all.
func packages(t *testing.T, clone string, arches ...string) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "packages")
	nfpm := filepath.Join(root, ".cache", "nfpm")
	if _, err := os.Stat(nfpm); err != nil {
		t.Fatalf("%v: make release-test builds it first", err)
	}
	if err := Run(t.Context(), Options{Root: clone, Out: dir, NFPM: nfpm, Arches: arches, Log: t.Output()}); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Two clones of a commit, in two folders, give the same bytes; and each package holds
// the program of its processor, with no more rights than needed.
func TestRelease_Packages(t *testing.T) {
	full(t)
	first, second := packages(t, clone(t, "one")), packages(t, clone(t, "a folder with a longer name"))
	names := func(dir string) (out []string) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			out = append(out, e.Name())
		}
		return out
	}
	all := names(first)
	if want := len(products())*len(arches())*3 + 1; len(all) != want || !slices.Equal(all, names(second)) {
		t.Fatalf("%q and %q, want %d files each", all, names(second), want)
	}
	for _, name := range all {
		a, b := read(t, filepath.Join(first, name)), read(t, filepath.Join(second, name))
		t.Logf("%x  %9d  %s", sha256.Sum256(a), len(a), name)
		if !bytes.Equal(a, b) {
			t.Errorf("%s differs between two clones", name)
		}
	}
	do(t, first, "sha256sum", "--check", "--quiet", "SHA256SUMS")
	for _, p := range products() {
		for _, a := range arches() {
			holds(t, first, p, a)
		}
	}
}

// holds looks into one package.
func holds(t *testing.T, dir string, p product, a arch) {
	t.Helper()
	machine := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64, "armv7": elf.EM_ARM}[a.name]
	debian := map[string]string{"amd64": "amd64", "arm64": "arm64", "armv7": "armhf"}[a.name]
	path := file(t, dir, p.name, a.name, ".deb")
	var tree []string
	err := files(read(t, path), "data.tar.gz", func(h *tar.Header, r io.Reader) error {
		name := strings.TrimPrefix(h.Name, ".")
		tree = append(tree, fmt.Sprintf("%s %04o %s:%s", name, h.Mode&0o7777, h.Uname, h.Gname))
		if name != "/usr/bin/"+p.name {
			return nil
		}
		whole, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		program, err := elf.NewFile(bytes.NewReader(whole))
		if err != nil {
			return err
		}
		if program.Machine != machine {
			t.Errorf("%s is for %s", path, program.Machine)
		}
		if libs, err := program.ImportedLibraries(); err != nil || len(libs) > 0 {
			t.Errorf("%s needs %q, %v", path, libs, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"/usr/bin/" + p.name + " 0755 root:root", "/usr/lib/systemd/system/" + p.name + ".service 0644 root:root",
		p.config + " 0644 root:root", "/usr/share/doc/" + p.name + "/sbom.cdx.json 0644 root:root",
		"/usr/share/doc/" + p.name + "/" + answer.Document + " 0644 root:root",
	}
	if p.folder == "edge" {
		want = append(want, "/usr/share/plantmesh-edge/schema/source.json 0644 root:root", "/etc/plantmesh/credentials/ 0700 root:root", "/etc/plantmesh/sources.d/ 0755 root:root")
	}
	for _, w := range want {
		if !slices.Contains(tree, w) {
			t.Errorf("%s has no %s:\n%s", path, w, strings.Join(tree, "\n"))
		}
	}
	if got := strings.TrimSpace(do(t, ".", "dpkg-deb", "--field", path, "Architecture")); got != debian {
		t.Errorf("%s is of the architecture %s", path, got)
	}
	if said := do(t, ".", "tar", "-tzf", file(t, dir, p.name, a.name, ".tar.gz")); strings.Count(said, "\n") != len(tree)+1 {
		t.Errorf("the tar.gz of %s holds another tree:\n%s", path, said)
	}
}

// file is the one file of a kind.
func file(t *testing.T, dir, product, arch, kind string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, product+"_*_linux_"+arch+kind))
	if err != nil || len(found) != 1 {
		t.Fatalf("%d files of %s for %s: %v", len(found), product, arch, err)
	}
	return found[0]
}

// until waits for a condition.
func until(t *testing.T, within time.Duration, what string, done func() bool) {
	t.Helper()
	look, end := time.NewTicker(200*time.Millisecond), time.NewTimer(within)
	defer look.Stop()
	defer end.Stop()
	for !done() {
		select {
		case <-look.C:
		case <-end.C:
			t.Fatalf("not within %s: %s", within, what)
		}
	}
}

// notInEmulator are the buffer's tests that need a mount or a second process, or take
// very long there.
const notInEmulator = "KillNine|ReadOnlyFileSystem|FullDisk|PagesInACircle|Concurrent|Random"

// The buffer keeps what it was given on the processors of small gateways, too: its
// own tests run there, in an emulator.
func TestRelease_BufferOnArm(t *testing.T) {
	full(t)
	for _, c := range []struct{ arch, emulator, not string }{
		{"arm64", "qemu-aarch64-static", notInEmulator},
		// With 32 bits a damaged length is beyond what bbolt takes for a page at all: more
		// of the segment is named as lost than with 64.
		{"armv7", "qemu-arm-static", notInEmulator + "|LengthsOfADamagedPage"},
	} {
		t.Run(c.arch, func(t *testing.T) {
			emulator := look(t, c.emulator, "Debian's package qemu-user-static")
			program := filepath.Join(t.TempDir(), "buffer.test")
			cmd := exec.Command("go", "test", "-c", "-o", program, "./edge/buffer")
			cmd.Dir = root
			a := arches()[slices.IndexFunc(arches(), func(a arch) bool { return a.name == c.arch })]
			cmd.Env = append(os.Environ(), append(a.env, "GOOS=linux", "CGO_ENABLED=0", "GOFLAGS=-trimpath")...)
			if said, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("build: %v\n%s", err, said)
			}
			run := exec.Command(emulator, program, "-test.short", "-test.timeout=15m", "-test.skip="+c.not, "-test.v")
			run.Dir = filepath.Join(root, "edge", "buffer")
			said, err := run.CombinedOutput()
			passed := strings.Count(string(said), "\n--- PASS")
			if err != nil || passed == 0 {
				t.Errorf("%v\n%s", err, said)
			}
			t.Logf("%d tests passed", passed)
		})
	}
}
