package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"plantmesh/edge/check"
	"plantmesh/edge/host"
	"plantmesh/proto/answer"
)

// Bounds of what is in order on a gateway.
const (
	memoryWarn  = 128 << 20 // an agent with a few sources has some 100 MiB
	memoryFail  = 32 << 20
	leastFiles  = 1024
	durable     = 50                     // writes that are measured
	syncWarn    = 50 * time.Millisecond  // of the slowest but a few: of those each may be another program's doing
	syncFail    = 250 * time.Millisecond // then one commit a second takes a quarter of the disk's time
	filesFree   = 1000                   // a segment each
	leastOffset = time.Second            // of the clock, against its time service
)

func (c *Checkup) ofSystem(looks map[string]*finding) []check.Check {
	return []check.Check{
		{ID: "sys-version", Run: plain(sysVersion)},
		{ID: "sys-hostname", Run: plain(sysHostname)},
		{ID: "sys-service", Run: plain(c.sysService)},
		{ID: "sys-user-perms", Run: plain(c.sysUserPerms)},
		{ID: "sys-memory", Run: plain(sysMemory)},
		{ID: "sys-fdlimit", Run: plain(sysFiles)},
		{ID: "sys-disk-space", Needs: []string{"sys-user-perms"}, Run: plain(c.sysDiskSpace)},
		{ID: "sys-disk-fsync", Needs: []string{"sys-user-perms", "sys-disk-space"}, Run: c.sysDiskSync},
		{ID: "sys-time-sync", Run: plain(sysTimeSync)},
		{ID: "sys-time-3way", Run: func(context.Context) check.Result { return c.sysTime(looks) }},
	}
}

func sysVersion() check.Result {
	v := answer.Build()
	r := check.Good("%s, %s/%s", v.Version, runtime.GOOS, runtime.GOARCH)
	r.Details = map[string]any{"version": v.Version, "go": v.Go}
	return r
}

func sysHostname() check.Result {
	name, err := os.Hostname()
	switch {
	case err != nil || name == "" || name == "localhost":
		return check.Warn("", "this machine has no name of its own")
	case len(name) > 63 || !regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$`).MatchString(name):
		return check.Warn("", "%.100q is no name that others could use: more than 63 characters, or other ones than letters, digits, '-' and '.'", name)
	}
	return check.Good("%s", name)
}

// unknownHere is what this system doesn't tell.
func unknownHere(err error) check.Result {
	if errors.Is(err, errors.ErrUnsupported) {
		return check.None("not known on %s", runtime.GOOS)
	}
	return check.Warn("", "%v", err)
}

func (c *Checkup) sysService() check.Result {
	if c.fault != nil || c.cfg.Data == "" {
		return check.None("where its socket is says edge.yaml, which can't be read")
	}
	s, err := c.running()
	if errors.Is(err, fs.ErrPermission) {
		return check.Warn(answer.Command("sudo", "plantmesh-edge", "check", "--config", c.path), "this user may not ask the agent at %s whether it runs", c.cfg.Status)
	}
	if err != nil {
		return check.Warn("", "no agent answers at %s", c.cfg.Status)
	}
	return check.Good("agent %s runs since %s, with %d sources", s.Agent, s.Since, len(s.Sources))
}

func (c *Checkup) sysUserPerms() check.Result {
	if c.fault != nil || c.cfg.Data == "" {
		return check.None("where the data folder is says edge.yaml, which can't be read")
	}
	info, err := os.Stat(c.cfg.Data)
	above := host.Existing(c.cfg.Data)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := writable(above); err != nil {
			return check.Fail("", "%s is not there, and %s can't be written: %v", c.cfg.Data, above, bare(err))
		}
		return check.Good("%s is made by the agent at its start", c.cfg.Data)
	case err != nil:
		return check.Fail("", "%s can't be looked at: %v", c.cfg.Data, bare(err))
	case !info.IsDir():
		return check.Fail("name another folder as data in edge.yaml", "%s is no folder", c.cfg.Data)
	}
	if err := writable(c.cfg.Data); err != nil && !errors.Is(err, syscall.ENOSPC) {
		if who := c.owner(); who != "" { // who may write it, and is the agent's user most likely
			return check.Warn(c.asOwner(who), "%s belongs to %s, and this command runs as another user, who may not write it", c.cfg.Data, who)
		}
		return check.Fail("", "%s can't be written by this user: %v", c.cfg.Data, bare(err))
	}
	if who := c.another(); who != "" {
		return check.Warn(c.asOwner(who), "%s belongs to %s, and this command runs as root: files that it makes there would be root's, so protected sources are not tried", c.cfg.Data, who)
	}
	if info.Mode().Perm()&0o007 != 0 {
		r := check.Warn(answer.Command("chmod", "700", c.cfg.Data), "%s may be read by everybody on this machine", c.cfg.Data)
		r.Repairs = c.shut(c.cfg.Data)
		return r
	}
	return check.Good("%s is this user's, mode %o", c.cfg.Data, info.Mode().Perm())
}

// another is the user that the data folder belongs to, where this command runs as root and
// that is somebody else: what it would make there that user could not read.
func (c *Checkup) another() string {
	if os.Geteuid() != 0 {
		return ""
	}
	return c.owner()
}

// owner is the user that the data folder belongs to; empty: root, or the one of this command.
func (c *Checkup) owner() string {
	if c.fault != nil || c.cfg.Data == "" {
		return ""
	}
	uid, err := host.Owner(c.cfg.Data)
	if err != nil || uid == 0 || int(uid) == os.Geteuid() {
		return ""
	}
	number := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(number); err == nil {
		return u.Username
	}
	return "#" + number // as sudo takes it
}

// asOwner is this command, as that user.
func (c *Checkup) asOwner(who string) string {
	return answer.Command("sudo", "-u", who, "plantmesh-edge", "check", "--config", c.path)
}

// writable tries a folder with an empty file.
func writable(dir string) error {
	f, err := os.CreateTemp(dir, ".check-*")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// bare is an error without the path that is told anyway.
func bare(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	return err
}

func sysMemory() check.Result {
	m, err := host.ReadMemory()
	if err != nil {
		return unknownHere(err)
	}
	text := fmt.Sprintf("%s free of %s", size(m.Left()), size(m.Total))
	if m.Bound > 0 {
		text += fmt.Sprintf("; the control group allows %s and uses %s", size(m.Bound), size(m.Used))
	}
	switch {
	case m.Left() < memoryFail:
		return check.Fail("", "%s", text)
	case m.Left() < memoryWarn:
		return check.Warn("", "%s: %s are wanted", text, size(memoryWarn))
	}
	return check.Good("%s", text)
}

func sysFiles() check.Result {
	n, err := host.Files()
	if err != nil {
		return unknownHere(err)
	}
	if n < leastFiles {
		return check.Warn("", "a process may have %d files open: %d are wanted", n, leastFiles)
	}
	return check.Good("a process may have %d files open", n)
}

// size is a number of bytes for people.
func size(n int64) string {
	const unit = 1 << 10
	switch {
	case n < unit:
		return fmt.Sprintf("%d bytes", n)
	case n < unit*unit:
		return fmt.Sprintf("%.1f KiB", float64(n)/unit)
	case n < unit*unit*unit:
		return fmt.Sprintf("%.1f MiB", float64(n)/(unit*unit))
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/(unit*unit*unit))
}

func (c *Checkup) sysDiskSpace() check.Result {
	if c.fault != nil || c.cfg.Need(Data, Keeping) != nil {
		return check.None("how large the buffer may be says edge.yaml, which can't be read")
	}
	at := host.Existing(c.cfg.Buffer.Dir)
	d, err := host.ReadDisk(at)
	if err != nil {
		return unknownHere(err)
	}
	has := usage(c.cfg.Buffer.Dir)
	most := int64(c.cfg.Buffer.MaxBytes)
	details := map[string]any{"free_bytes": d.Free, "size_bytes": d.Size, "buffer_bytes": has, "max_bytes": most, "path": at}
	r := check.Good("%s free on the file system of %s; the buffer has %s and may have %s", size(d.Free), at, size(has), size(most))
	switch {
	case d.ReadOnly:
		r = check.Fail("look at the disk (dmesg): file systems with errors are often made read-only", "the file system of %s is read-only", at)
	case d.Free+has < most:
		r = check.Fail("", "the buffer may have %s; it has %s, and %s are free on the file system of %s", size(most), size(has), size(d.Free), at)
	case d.Files > 0 && d.FilesFree < filesFree:
		r = check.Fail("take away files on that file system", "only %d more files fit on the file system of %s", d.FilesFree, at)
	}
	r.Details = details
	return r
}

// usage is how much a folder holds. What goes away meanwhile counts for nothing.
func usage(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // see above
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			n += info.Size()
		}
		return nil
	})
	return n
}

func (c *Checkup) sysDiskSync(ctx context.Context) check.Result {
	if c.fault != nil || c.cfg.Data == "" {
		return check.None("where the data folder is says edge.yaml, which can't be read")
	}
	at := host.Existing(c.cfg.Data)
	took, err := host.Syncs(ctx, at, durable, c.sync)
	if err != nil {
		return check.Fail("look at the disk (dmesg)", "%v", err)
	}
	all := time.Duration(0)
	for _, d := range took {
		all += d
	}
	slow, slowest, middle := took[len(took)*95/100], took[len(took)-1], took[len(took)/2]
	text := fmt.Sprintf("a durable write takes %s, one in twenty %s, the slowest of %d %s: some %.0f each second", rounded(middle), rounded(slow), len(took), rounded(slowest), float64(len(took))/max(all.Seconds(), 1e-6))
	r := check.Good("%s", text)
	switch {
	case slow >= syncFail:
		r = check.Fail("", "%s; at most %s are wanted", text, rounded(syncFail))
	case slow >= syncWarn || slowest >= syncFail:
		r = check.Warn("", "%s; %s are wanted", text, rounded(syncWarn))
	}
	r.Details = map[string]any{"median_seconds": middle.Seconds(), "p95_seconds": slow.Seconds(), "slowest_seconds": slowest.Seconds(), "writes": len(took), "path": at}
	return r
}

func sysTimeSync() check.Result {
	k, err := host.ReadClock()
	switch {
	case err != nil:
		return unknownHere(err)
	case !k.Kept:
		return check.Warn("", "no time service keeps this gateway's clock")
	case k.Offset.Abs() >= leastOffset:
		return check.Warn("", "a time service is still setting this gateway's clock: it is off by %s", rounded(k.Offset))
	}
	return check.Good("a time service keeps this gateway's clock, at most %s off", rounded(k.Most))
}
