// Package release makes what is installed: a Debian package and a tar.gz of the
// agent and of the hub for each architecture, with bills of materials and
// checksums. What a package holds stands in nfpm.yaml of its folder; the tar.gz is
// the same tree. Two clones of one commit give the same bytes: the programs are
// built without paths, and every time in a package is the commit's.
package release

import (
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"plantmesh/proto/answer"
)

// Options say what to make.
type Options struct {
	Root string // of the module: a clone whose .git is a folder, so that go build knows the commit
	Out  string // folder for the files; it is emptied first
	NFPM string // the packager's program
	// Products and Arches are names of both lists below; empty: all.
	Products, Arches []string
	Log              io.Writer
}

// product is one thing to install.
type product struct {
	name    string // of package, program and service
	folder  string // here
	main    string // package of the program
	config  string // the file that an operator fills in
	staged  []string
	scripts []string
	// page: the program holds the console's page, which is made of modules of its own.
	page bool
}

// answers is what the programs' errors say where to look.
const answers = "proto/answer/" + answer.Document

func products() []product {
	scripts := []string{"deploy/release/scripts/postinst", "deploy/release/scripts/prerm", "deploy/release/scripts/postrm"}
	return []product{
		{
			name: "plantmesh-edge", folder: "edge", main: "./edge/cmd/plantmesh-edge", config: "/etc/plantmesh/edge.yaml", scripts: scripts,
			staged: []string{
				"deploy/release/edge/plantmesh-edge.service", "deploy/release/edge/edge.yaml", "deploy/examples/gateway/sources.d/press.yaml",
				"deploy/examples/gateway/sources.d/packer.yaml", "deploy/examples/gateway/rules.d/plant.yaml", answers,
				"edge/agent/schema/edge.json", "edge/agent/schema/source.json", "edge/agent/schema/rules.json", "edge/agent/schema/rules_test.json",
			},
		},
		{
			name: "plantmesh", folder: "hub", main: "./cloud/cmd/plantmesh", config: "/etc/plantmesh/hub.yaml", scripts: scripts, page: true,
			staged: []string{"deploy/release/hub/plantmesh.service", "deploy/release/hub/hub.yaml", "deploy/examples/hub/site.yaml", answers},
		},
	}
}

// arch is one kind of processor.
type arch struct {
	name string   // as files are named
	nfpm string   // as nfpm calls it
	env  []string // of go build, all of it that decides over bytes
}

func arches() []arch {
	return []arch{
		{"amd64", "amd64", []string{"GOARCH=amd64", "GOAMD64=v1"}},
		{"arm64", "arm64", []string{"GOARCH=arm64", "GOARM64=v8.0"}},
		{"armv7", "arm7", []string{"GOARCH=arm", "GOARM=7"}},
	}
}

// Run makes all of it.
func Run(ctx context.Context, o Options) error {
	if err := os.RemoveAll(o.Out); err != nil {
		return fmt.Errorf("empty the folder: %w", err)
	}
	stage, err := os.MkdirTemp("", "plantmesh-release-")
	if err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	defer os.RemoveAll(stage)                         //nolint:errcheck // a temporary folder
	if err := os.MkdirAll(o.Out, 0o755); err != nil { //nolint:gosec // for everybody to read
		return fmt.Errorf("make the folder: %w", err)
	}
	for _, p := range products() {
		for _, a := range arches() {
			if wanted(o.Products, p.name) && wanted(o.Arches, a.name) {
				if err := one(ctx, o, p, a, filepath.Join(stage, p.name, a.name)); err != nil {
					return fmt.Errorf("%s for %s: %w", p.name, a.name, err)
				}
			}
		}
	}
	return sums(o.Out)
}

func wanted(list []string, name string) bool { return len(list) == 0 || slices.Contains(list, name) }

// one makes the files of one product for one architecture.
func one(ctx context.Context, o Options, p product, a arch, stage string) error {
	if err := os.MkdirAll(filepath.Join(stage, "examples"), 0o755); err != nil { //nolint:gosec // its mode goes into the package
		return err
	}
	program := filepath.Join(stage, p.name)
	b, err := build(ctx, o.Root, p, a, program)
	if err != nil {
		return err
	}
	if p.page {
		if b.page, err = modules(filepath.Join(o.Root, "cloud", "console", "web", "package-lock.json")); err != nil {
			return err
		}
	}
	bill, err := b.bill(p.name)
	if err != nil {
		return err
	}
	name := p.name + "_" + b.version() + "_linux_" + a.name
	for _, at := range []string{filepath.Join(stage, "sbom.cdx.json"), filepath.Join(o.Out, name+".cdx.json")} {
		if err := os.WriteFile(at, bill, 0o644); err != nil { //nolint:gosec // for everybody to read
			return err
		}
	}
	if err := place(o.Root, p, stage, b.time); err != nil {
		return err
	}
	deb := filepath.Join(o.Out, name+".deb")
	recipe := filepath.Join(o.Root, "deploy", "release", p.folder, "nfpm.yaml")
	env := []string{"ARCH=" + a.nfpm, "VERSION=" + b.version(), "SOURCE_DATE_EPOCH=" + strconv.FormatInt(b.time.Unix(), 10)}
	if err := pack(ctx, o.NFPM, recipe, stage, deb, env); err != nil {
		return err
	}
	if err := archive(deb, filepath.Join(o.Out, name+".tar.gz"), name, install(o.Root, p), b.time); err != nil {
		return err
	}
	_, err = fmt.Fprintln(o.Log, name)
	return err
}

// built is a program as the compiler describes it.
type built struct {
	info *buildinfo.BuildInfo
	sum  string    // SHA-256 of its bytes
	time time.Time // of the commit
	page []module
}

// version is that of the program, as it says itself, less the v.
func (b built) version() string { return strings.TrimPrefix(b.info.Main.Version, "v") }

// errNoVersion is told to somebody who builds from a copy without its history.
var errNoVersion = errors.New("go build finds no commit here, so the release has no version: clone the repository with git (a work tree beside another clone is not enough)")

func build(ctx context.Context, root string, p product, a arch, to string) (b built, err error) {
	cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=true", "-ldflags", "-s -w -buildid=", "-o", to, p.main) //nolint:gosec // of the lists above
	cmd.Dir = root
	cmd.Env = append(os.Environ(), append(a.env, "GOOS=linux", "CGO_ENABLED=0", "GOFLAGS=-trimpath", "GOEXPERIMENT=")...)
	if said, err := cmd.CombinedOutput(); err != nil {
		return b, fmt.Errorf("go build: %w\n%s", err, said)
	}
	if b.info, err = buildinfo.ReadFile(to); err != nil {
		return b, fmt.Errorf("read what was built: %w", err)
	}
	bytes, err := os.ReadFile(to)
	if err != nil {
		return b, fmt.Errorf("read what was built: %w", err)
	}
	sum := sha256.Sum256(bytes)
	b.sum = hex.EncodeToString(sum[:])
	if b.version() == "" || b.version() == "(devel)" {
		return b, errNoVersion
	}
	b.time, err = when(b.info, os.Getenv("SOURCE_DATE_EPOCH"))
	return b, err
}

// when is the time that everything in a package has: epoch, in seconds since 1970
// (reproducible-builds.org, SOURCE_DATE_EPOCH), or else the commit's.
func when(info *buildinfo.BuildInfo, epoch string) (time.Time, error) {
	if epoch != "" {
		s, err := strconv.ParseInt(epoch, 10, 64)
		if err != nil {
			return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH=%s is no number of seconds", epoch)
		}
		return time.Unix(s, 0).UTC(), nil
	}
	t, err := time.Parse(time.RFC3339, setting(info, "vcs.time"))
	if err != nil {
		return t, errNoVersion
	}
	return t, nil
}

func setting(info *buildinfo.BuildInfo, key string) string {
	for _, s := range info.Settings {
		if s.Key == key {
			return s.Value
		}
	}
	return ""
}

// place puts beside the program what else goes into the package, all of one time.
func place(root string, p product, stage string, at time.Time) error {
	for _, from := range slices.Concat(p.staged, p.scripts) {
		b, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(from)))
		if err != nil {
			return err
		}
		to := filepath.Join(stage, filepath.Base(from))
		if strings.HasPrefix(from, "deploy/examples/") {
			to = filepath.Join(stage, "examples", filepath.Base(from))
		}
		if err := os.WriteFile(to, b, 0o644); err != nil { //nolint:gosec // nfpm.yaml says the mode in the package
			return err
		}
	}
	dir, err := os.OpenRoot(stage)
	if err != nil {
		return err
	}
	return errors.Join(fs.WalkDir(dir.FS(), ".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return dir.Chtimes(path, at, at)
	}), dir.Close())
}

// pack has nfpm make the Debian package deb of what is staged.
func pack(ctx context.Context, nfpm, recipe, stage, deb string, env []string) error {
	for _, path := range []*string{&nfpm, &recipe, &deb} {
		at, err := filepath.Abs(*path)
		if err != nil {
			return err
		}
		*path = at
	}
	cmd := exec.CommandContext(ctx, nfpm, "package", "--packager", "deb", "--config", recipe, "--target", deb) //nolint:gosec // the packager of deploy/tools/nfpm
	cmd.Dir, cmd.Env = stage, append(os.Environ(), env...)
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("nfpm: %w\n%s", err, said)
	}
	return nil
}

// install is how to put the tree of the tar.gz into place.
func install(root string, p product) func() ([]byte, error) {
	return func() ([]byte, error) {
		b, err := os.ReadFile(filepath.Join(root, "deploy", "release", "INSTALL"))
		return []byte(strings.NewReplacer("NAME", p.name, "CONFIG", p.config).Replace(string(b))), err
	}
}

// sums writes the checksums of all files of a folder, as sha256sum -c reads them.
func sums(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var out strings.Builder
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(&out, "%x  %s\n", sha256.Sum256(b), e.Name())
	}
	return os.WriteFile(filepath.Join(dir, "SHA256SUMS"), []byte(out.String()), 0o644) //nolint:gosec // for everybody to read
}
