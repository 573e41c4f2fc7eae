package evil

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gopcua/opcua/ua"
)

func insecure(name, url string) string {
	return fmt.Sprintf(`opcua:
  id: %s
  endpoint: %s
  security: {insecure: true}
  publishing_interval: 50ms
  signals:
    - {name: line1.%s.v, type: double, node: "nsu=urn:evil;s=v"}
    - {name: line1.%s.w, type: string, path: "/Objects/nsu=urn:evil;w"}
`, name, url, name, name)
}

// TestEvil_Server: whatever the server does, its source's status says what in
// words, its worker stays small, and it is read again when the server is good
// again. The other source doesn't notice.
func TestEvil_Server(t *testing.T) {
	whole(t)
	s := newServer(t)
	r := newRig(t, map[string]string{"evil": insecure("evil", s.url())})
	failed := 0
	for _, d := range deeds() {
		if d.slow && os.Getenv("PLANTMESH_EVIL") != "full" {
			continue
		}
		if failed += map[bool]int{false: 1}[r.done(s, d)]; failed > 2 {
			t.Fatal("that is enough")
		}
	}
	r.unharmed()
	t.Logf("the heaviest worker had %d MiB, of %d", r.heaviest()>>10, len(r.most))
}

// done has one deed done, and everything well again.
func (r *rig) done(s *server, d deed) bool {
	return r.Run(d.name, func(t *testing.T) {
		r := &rig{T: t, dir: r.dir, cmd: r.cmd, gone: r.gone, most: r.most}
		was, called := r.status("evil").Samples, s.called()
		s.become(d.attack)
		within := 10 * time.Second
		if d.slow {
			within = 30 * time.Second
		}
		r.await("it calls again", within, func() bool { return s.called() > called })
		r.await("its status says "+d.says, within, func() bool {
			st := r.status("evil")
			return d.says == "" || strings.Contains(st.Says+st.LastError, d.says)
		})
		said := r.status("evil")
		before := r.heaviest()
		s.become(attack{})
		r.await("it is read again", 30*time.Second, func() bool { return r.status("evil").Samples > was+3 && r.status("evil").Says == "connected" })
		t.Logf("%q, %d MiB, %d restarts", clip(said.Says+said.LastError), before>>10, said.Restarts)
		if good := r.status("good"); good.Restarts != 0 || good.Says != "connected" {
			t.Errorf("the good source noticed: %+v", good)
		}
		if most := r.heaviest(); most > mostMemory {
			t.Errorf("a worker had %d KiB", most)
		}
	})
}

func clip(s string) string { return s[:min(len(s), 160)] }

// TestEvil_Values: what is odd and can be read comes through as a sample, or is told
// in a void; nothing of it stops the source.
func TestEvil_Values(t *testing.T) {
	whole(t)
	s := newServer(t)
	r := newRig(t, map[string]string{"evil": insecure("evil", s.url())})
	for name, v := range odd() {
		t.Run(name, func(t *testing.T) {
			r := &rig{T: t, dir: r.dir, cmd: r.cmd, gone: r.gone, most: r.most}
			was := r.status("evil").Samples
			s.become(notes(func(c *conn) []byte {
				b := append(u32(nil, c.handle(0)), v...)
				return c.notifications(u32(nil, 2), append(u32(b, c.handle(1)), v...))
			}))
			r.await("samples come", 20*time.Second, func() bool { st := r.status("evil"); return st.Samples > was+6 && st.Says == "connected" })
			if st := r.status("evil"); st.Restarts != 0 {
				t.Errorf("%+v", st)
			}
		})
	}
	s.become(attack{})
	r.unharmed()
	r.await("the source is proven", 30*time.Second, func() bool { return r.status("evil").ProvenTo != "" })
	t.Logf("voids %+v, the heaviest worker %d MiB", r.status("evil").Voids, r.heaviest()>>10)
}

// TestEvil_SetAside: a worker that dies again and again, and nothing comes through.
func TestEvil_SetAside(t *testing.T) {
	whole(t)
	s := newServer(t)
	s.become(attack{hello: func(*conn) {}})
	r := newRig(t, map[string]string{"evil": insecure("evil", s.url())})
	killed := 0
	r.await("the source is set aside", time.Minute, func() bool {
		if pid := r.caller(s); pid != 0 && syscall.Kill(pid, syscall.SIGKILL) == nil {
			killed++
		}
		return r.status("evil").State == "set aside"
	})
	st := r.status("evil")
	if killed != 5 || !strings.Contains(st.LastError, "died 5 times in a row of the same cause, and nothing came through: the worker is gone: signal: killed") {
		t.Errorf("%d kills, %+v", killed, st)
	}
	was := s.called()
	r.unharmed()
	if s.called() != was || strings.Count(r.said.String(), "the source is set aside") != 1 {
		t.Errorf("it is still called: %d times, %d before", s.called(), was)
	}
}

// caller is the process that has a connection to s; 0: none.
func (r *rig) caller(s *server) int {
	b, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		r.Fatal(err)
	}
	addr, ok := s.l.Addr().(*net.TCPAddr)
	if !ok {
		r.Fatal("no TCP address")
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line) // sl local remote state queues timer retransmits uid timeout inode
		if len(f) < 10 || !strings.HasSuffix(f[2], fmt.Sprintf(":%04X", addr.Port)) || f[9] == "0" {
			continue
		}
		fds, err := filepath.Glob("/proc/[0-9]*/fd/*")
		if err != nil {
			r.Fatal(err)
		}
		for _, fd := range fds {
			if to, err := os.Readlink(fd); err != nil || to != "socket:["+f[9]+"]" {
				continue
			}
			if pid, err := strconv.Atoi(strings.Split(fd, "/")[2]); err == nil && pid != os.Getpid() {
				return pid
			}
		}
	}
	return 0
}

// TestEvil_Endpoints: what an unprotected server says of the protected endpoints it
// has, before anybody is trusted.
func TestEvil_Endpoints(t *testing.T) {
	whole(t)
	s := newServer(t)
	r := newRig(t, map[string]string{"evil": strings.Replace(insecure("evil", s.url()), "  security: {insecure: true}\n", "", 1)})
	offer := func(cert []byte) []*ua.EndpointDescription {
		return []*ua.EndpointDescription{{
			EndpointURL: s.url(), SecurityPolicyURI: ua.SecurityPolicyURIBasic256Sha256, SecurityMode: ua.MessageSecurityModeSignAndEncrypt, ServerCertificate: cert,
			Server: &ua.ApplicationDescription{ApplicationName: ua.NewLocalizedText("evil")}, UserIdentityTokens: []*ua.UserTokenPolicy{},
		}}
	}
	with := func(all []*ua.EndpointDescription) attack {
		return to(func(c *conn, req uint32, _ *ua.GetEndpointsRequest) {
			c.answer(req, &ua.GetEndpointsResponse{ResponseHeader: header(0), Endpoints: all})
		})
	}
	many := offer(nil)
	for len(many) < 1<<16 {
		many = append(many, many...)
	}
	for name, c := range map[string]struct {
		says   string
		attack attack
	}{
		"no endpoints": {"the server does not offer", with(nil)},
		"a million of nothing": {"an answer that can't be read", to(func(c *conn, req uint32, _ *ua.GetEndpointsRequest) {
			c.message(req, append(u32(begin(431), 1<<20), make([]byte, 15<<20)...))
		})},
		"65,536 of them":        {"", with(many)},
		"no protection":         {"the server does not offer", with([]*ua.EndpointDescription{{SecurityPolicyURI: ua.SecurityPolicyURINone, SecurityMode: ua.MessageSecurityModeNone, Server: &ua.ApplicationDescription{ApplicationName: ua.NewLocalizedText("")}}})},
		"no certificate":        {"it is empty", with(offer(nil))},
		"a certificate of 5 MB": {"certificate", with(offer(append([]byte{0x30, 0x83, 0x4c, 0x4b, 0x40}, make([]byte, 5_000_000)...)))},
		"certificates of zeros": {"certificate", with(offer(make([]byte, 1<<20)))},
		"a length of 4 GiB":     {"certificate", with(offer([]byte{0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 1, 2, 3}))},
		"a fault":               {"StatusBadInternalError", refusing[*ua.GetEndpointsRequest]()},
		"an answer to something": {"answered *ua.GetEndpointsRequest", to(func(c *conn, req uint32, _ *ua.GetEndpointsRequest) {
			c.answer(req, &ua.ReadResponse{ResponseHeader: header(0)})
		})},
	} {
		t.Run(name, func(t *testing.T) {
			r := &rig{T: t, dir: r.dir, cmd: r.cmd, gone: r.gone, most: r.most}
			called := s.called()
			s.become(c.attack)
			r.await("its status says "+c.says, 20*time.Second, func() bool {
				st := r.status("evil")
				return s.called() > called && strings.Contains(st.Says, "not connected") && strings.Contains(st.Says, c.says)
			})
			t.Logf("%q", clip(r.status("evil").Says))
			if most := r.heaviest(); most > mostMemory {
				t.Errorf("a worker had %d KiB", most)
			}
		})
	}
	r.unharmed()
	t.Logf("the heaviest worker had %d MiB", r.heaviest()>>10)
}
