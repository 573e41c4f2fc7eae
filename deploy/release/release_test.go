package release

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"
)

const root = "../.."

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// look finds a program of this machine, or skips and says for want of what.
func look(t *testing.T, program, of string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err == nil {
		return path
	}
	if strings.Contains(os.Getenv("PLANTMESH_REQUIRE"), "release") {
		t.Fatalf("no %s here, and PLANTMESH_REQUIRE asks for it: install %s", program, of)
	}
	t.Skipf("no %s here: it comes with %s", program, of)
	return ""
}

func TestScripts_AreShell(t *testing.T) {
	sh := look(t, "sh", "every system")
	for _, s := range products()[0].scripts {
		if said, err := exec.Command(sh, "-n", filepath.Join(root, s)).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", s, err, said)
		}
	}
}

// unit is a product's unit in a folder of its own; exec replaces its program.
func unit(t *testing.T, p product, exec string) string {
	t.Helper()
	text := string(read(t, filepath.Join(p.folder, p.name+".service")))
	if exec != "" {
		text = strings.Replace(text, "ExecStart=/usr/bin/"+p.name+" ", "ExecStart="+exec+" ", 1)
	}
	at := filepath.Join(t.TempDir(), p.name+".service")
	if err := os.WriteFile(at, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return at
}

// What systemd would only warn of is a fault here.
func TestUnits_AreWhatSystemdTakes(t *testing.T) {
	analyze := look(t, "systemd-analyze", "Debian's package systemd")
	self, err := os.Executable() // something that is there and can be run
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range products() {
		said, err := exec.Command(analyze, "verify", "--man=no", unit(t, p, self)).CombinedOutput()
		if err != nil || len(said) > 0 {
			t.Errorf("%s: %v\n%s", p.name, err, said)
		}
	}
	wrong := unit(t, products()[0], "/nowhere")
	if said, err := exec.Command(analyze, "verify", "--man=no", wrong).CombinedOutput(); err == nil && len(said) == 0 {
		t.Error("a unit that names no program passes: this looks at nothing")
	}
}

// A Go program that panics, or that the watchdog aborts, ends with 2: it must start again.
func TestUnits_StartAgainAfterAPanic(t *testing.T) {
	for _, p := range products() {
		text := string(read(t, filepath.Join(p.folder, p.name+".service")))
		if !strings.Contains(text, "\nRestart=always\n") || !strings.Contains(text, "\nRestartPreventExitStatus=3\n") {
			t.Errorf("%s stays down after an end it must not stay down after", p.name)
		}
	}
}

// exposed is the most that a unit may be exposed, in tenths of systemd's points.
const exposed = "20"

func TestUnits_AreHardened(t *testing.T) {
	analyze := look(t, "systemd-analyze", "Debian's package systemd")
	for _, p := range products() {
		said, err := exec.Command(analyze, "security", "--offline=true", "--no-pager", "--threshold="+exposed, unit(t, p, "")).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", p.name, err, said)
		}
		lines := strings.Split(strings.TrimSpace(string(said)), "\n")
		t.Log(lines[len(lines)-1])
	}
}

// What a package takes is staged, and what is staged is taken.
func TestRecipes_TakeWhatIsStaged(t *testing.T) {
	for _, p := range products() {
		recipe := string(read(t, filepath.Join(p.folder, "nfpm.yaml")))
		var taken []string
		for _, m := range regexp.MustCompile(`\{src: ([^,]+),`).FindAllStringSubmatch(recipe, -1) {
			taken = append(taken, m[1])
		}
		want := []string{p.name, "sbom.cdx.json"}
		for _, from := range p.staged {
			read(t, filepath.Join(root, from))
			name := filepath.Base(from)
			if strings.HasPrefix(from, "deploy/examples/") {
				name = "examples/" + name
			}
			want = append(want, name)
		}
		slices.Sort(taken)
		slices.Sort(want)
		if !slices.Equal(taken, want) {
			t.Errorf("%s takes %q, staged are %q", p.name, taken, want)
		}
		for _, s := range p.scripts {
			if !strings.Contains(recipe, ": "+filepath.Base(s)) {
				t.Errorf("%s does not take %s", p.name, s)
			}
		}
		if !strings.Contains(recipe, "dst: "+p.config+", type: config") {
			t.Errorf("%s is no conffile of %s: an upgrade would write over it", p.config, p.name)
		}
	}
}

func TestBill_NamesWhatIsInTheProgram(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	info, err := buildinfo.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	info.Main.Version = "v1.2.3"
	info.Deps = append(info.Deps, &debug.Module{Path: "example.com/a/v2", Version: "v2.0.0+incompatible", Sum: "h1:x="},
		&debug.Module{Path: "example.com/b", Version: "v1.0.0", Replace: &debug.Module{Path: "example.com/c", Version: "v1.1.0"}})
	at := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	b := built{info: info, sum: strings.Repeat("ab", 32), time: at, page: []module{{"@scope/page", "1.0.0", "sha512-y"}}}
	out, err := b.bill("plantmesh")
	if err != nil {
		t.Fatal(err)
	}
	var d document
	if err := json.Unmarshal(out, &d); err != nil {
		t.Fatal(err)
	}
	if c := d.Metadata.Component; c.Version != "1.2.3" || d.Metadata.Timestamp != "2026-11-29T12:00:00Z" || c.Hashes[0].Content != b.sum {
		t.Errorf("it is of %+v", d.Metadata)
	}
	refs := []string{d.Metadata.Component.Ref}
	for _, c := range d.Components {
		refs = append(refs, c.Ref)
	}
	for _, want := range []string{
		"pkg:golang/std@" + strings.TrimPrefix(info.GoVersion, "go"), "pkg:golang/example.com/a/v2@v2.0.0%2Bincompatible",
		"pkg:golang/example.com/c@v1.1.0", "pkg:npm/%40scope/page@1.0.0",
	} {
		if !slices.Contains(refs, want) {
			t.Errorf("%s is not named in %q", want, refs)
		}
	}
	if len(d.Components) != len(info.Deps)+2 {
		t.Errorf("%d components of %d modules", len(d.Components), len(info.Deps))
	}
	if d.Dependencies[0].Ref != "plantmesh" || !slices.Equal(d.Dependencies[0].DependsOn, refs[1:]) || len(d.Dependencies) != len(refs) {
		t.Errorf("it needs %+v", d.Dependencies[0])
	}
	slices.Sort(refs)
	if n := len(refs); len(slices.Compact(refs)) != n {
		t.Errorf("a reference stands twice: %q", refs)
	}
}

func TestModules_OfThePage(t *testing.T) {
	got, err := modules(filepath.Join(root, "cloud", "console", "web", "package-lock.json"))
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range pageModules() {
		if got[i].Name != name || got[i].Version == "" || !strings.HasPrefix(got[i].Sum, "sha512-") {
			t.Errorf("%+v, want %s", got[i], name)
		}
	}
}

func TestWhen(t *testing.T) {
	info := &buildinfo.BuildInfo{Settings: []debug.BuildSetting{{Key: "vcs.time", Value: "2026-11-29T21:16:04Z"}}}
	for _, c := range []struct {
		info  *buildinfo.BuildInfo
		epoch string
		want  int64 // 0: an error
	}{{info, "", 1795986964}, {info, "1700000000", 1700000000}, {info, "yesterday", 0}, {&buildinfo.BuildInfo{}, "", 0}} {
		got, err := when(c.info, c.epoch)
		if err == nil != (c.want != 0) || err == nil && got.Unix() != c.want {
			t.Errorf("with %q it is %v, %v, want %d", c.epoch, got, err, c.want)
		}
	}
}

// deb is a package as nfpm writes it, of one folder and one file.
func deb(t *testing.T, odd string) []byte {
	t.Helper()
	var data bytes.Buffer
	z := gzip.NewWriter(&data)
	w := tar.NewWriter(z)
	for _, h := range []tar.Header{
		{Name: "./usr/", Typeflag: tar.TypeDir, Mode: 0o755, ModTime: time.Now()},
		{Name: "./usr/a", Typeflag: tar.TypeReg, Mode: 0o750, Size: 2, ModTime: time.Now(), Uname: "root"},
	} {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte("hi")[:h.Size]); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	out := bytes.NewBufferString(arMagic)
	for _, part := range []struct{ name, data string }{{"debian-binary", odd}, {"data.tar.gz", data.String()}} {
		fmt.Fprintf(out, "%-16s%-12d%-6d%-6d%-8s%-10d`\n%s", part.name, 0, 0, 0, "100644", len(part.data), part.data)
		if len(part.data)%2 == 1 {
			out.WriteByte('\n')
		}
	}
	return out.Bytes()
}

// The tree of the tar.gz is that of the package, below one folder, whenever it was made.
func TestArchive(t *testing.T) {
	at := time.Unix(1700000000, 0)
	var first []byte
	for _, odd := range []string{"2.0\n", "2.0"} {
		from, to := filepath.Join(t.TempDir(), "a.deb"), filepath.Join(t.TempDir(), "a.tar.gz")
		if err := os.WriteFile(from, deb(t, odd), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := archive(from, to, "a_1", func() ([]byte, error) { return []byte("read me"), nil }, at); err != nil {
			t.Fatal(err)
		}
		b := read(t, to)
		if first == nil {
			first = b
		}
		if !bytes.Equal(b, first) {
			t.Error("two of the same tree differ")
		}
		var got []string
		for _, h := range listed(t, b) {
			got = append(got, fmt.Sprintf("%s %o %d %d", h.Name, h.Mode, h.Size, h.ModTime.Unix()))
		}
		want := []string{"a_1/INSTALL 644 7 1700000000", "a_1/usr/ 755 0 1700000000", "a_1/usr/a 750 2 1700000000"}
		if !slices.Equal(got, want) {
			t.Errorf("it holds %q, want %q", got, want)
		}
	}
}

func listed(t *testing.T, archive []byte) (out []*tar.Header) {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, h)
	}
}

func TestMember_RefusesWhatIsNoPackage(t *testing.T) {
	good := deb(t, "2.0\n")
	if b, err := member(good, "debian-binary"); err != nil || string(b) != "2.0\n" {
		t.Errorf("%q, %v", b, err)
	}
	for name, b := range map[string][]byte{
		"nothing": nil, "another file": []byte("PK\x03\x04"), "cut short": good[:len(good)-2], "cut in a header": good[:len(arMagic)+20],
		"no size": bytes.Replace(good, []byte("100644  4         "), []byte("100644  four      "), 1),
		"below 0": bytes.Replace(good, []byte("100644  4         "), []byte("100644  -4        "), 1),
	} {
		if _, err := member(b, "data.tar.gz"); !errors.Is(err, errNoPackage) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := member(good, "control.tar.gz"); !errors.Is(err, errNoPackage) {
		t.Errorf("a part that is not there: %v", err)
	}
}

func TestInstall_NamesTheProduct(t *testing.T) {
	for _, p := range products() {
		b, err := install(root, p)()
		if err != nil {
			t.Fatal(err)
		}
		if s := string(b); strings.Contains(s, "NAME") || strings.Contains(s, "CONFIG") || !strings.Contains(s, "systemctl enable "+p.name+"\n") {
			t.Errorf("%s", s)
		}
	}
}
