package trust

import (
	"bytes"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestTrust_TakesWhatPeopleCopy(t *testing.T) {
	p := server(t, nil)
	full := sha(p.cert.Raw)
	for name, c := range map[string]struct {
		fingerprint string
		err         string
	}{
		"whole":         {full, ""},
		"as shown":      {Fingerprint(p.cert), ""},
		"8 digits":      {full[:8], ""},
		"upper, spaces": {" " + strings.ToUpper(full[:4]) + " " + full[4:16], ""},
		"7 digits":      {full[:7], "give 8 digits or more"},
		"none":          {"", "give 8 digits or more"},
		"too long":      {full + "0", "at most 64 digits"},
		"no digits":     {"../trusted/x", "is no SHA-256 fingerprint"},
		"another":       {"00000000" + full[8:], "no such certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, t.TempDir())
			if r := refused(t, s.Judge(p.cert.Raw, at(plc), noon)); r == nil || r.Reason != Unknown {
				t.Fatal(r)
			}
			got, err := s.Trust(c.fingerprint, plc)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("got %v, want %s", err, c.err)
				}
				return
			}
			if err != nil || !got.Equal(p.cert) {
				t.Fatalf("%v, %v", got, err)
			}
			if err := s.Judge(p.cert.Raw, at(plc), noon); err != nil {
				t.Error(err)
			}
			if s.count(t, rejectedDir) != 0 || s.count(t, trustedDir) != 1 {
				t.Error("it did not move")
			}
		})
	}
}

// TestTrust_Ambiguous finds two certificates whose fingerprints begin alike, as a
// hostile server could.
func TestTrust_Ambiguous(t *testing.T) {
	p := server(t, nil)
	seen := map[string]uint32{}
	variant := func(n uint32) []byte { // nobody looks at a signature on the way into rejected/
		der := bytes.Clone(p.cert.Raw)
		binary.BigEndian.PutUint32(der[len(der)-4:], n)
		return der
	}
	s := open(t, t.TempDir())
	for n := uint32(1); ; n++ {
		prefix := sha(variant(n))[:minPrefix]
		if m, ok := seen[prefix]; ok {
			s.plant(t, rejectedDir, "a.der", variant(n))
			s.plant(t, rejectedDir, "b.der", variant(m))
			_, err := s.Trust(prefix, plc)
			if !errors.Is(err, ErrAmbiguous) || s.count(t, trustedDir) != 0 {
				t.Errorf("%v", err)
			}
			if _, err := s.Trust(sha(variant(n))[:20], plc); err != nil {
				t.Error(err)
			}
			return
		}
		seen[prefix] = n
	}
}

func TestTrustFile(t *testing.T) {
	p := server(t, nil)
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.cert.Raw})
	for name, c := range map[string]struct {
		content []byte
		err     string
	}{
		"DER":          {p.cert.Raw, ""},
		"PEM":          {block, ""},
		"PEM, chatty":  {append([]byte("subject=PLC 7\n"), block...), ""},
		"two":          {append(bytes.Clone(block), block...), "more than one block"},
		"DER chain":    {chain(p, p), "trailing data"},
		"a key":        {pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")}), `holds a "PRIVATE KEY", not a "CERTIFICATE"`},
		"nothing":      {nil, "holds no certificate, neither as DER nor as PEM"},
		"broken":       {p.cert.Raw[:100], "x.crt"},
		"far too long": {make([]byte, maxCert+1), "longer than 65536 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			s, path := open(t, t.TempDir()), filepath.Join(t.TempDir(), "x.crt")
			if err := os.WriteFile(path, c.content, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := s.TrustFile(path, plc)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("got %v, want %s", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Judge(p.cert.Raw, at(plc), noon); err != nil {
				t.Error(err)
			}
		})
	}
	s := open(t, t.TempDir())
	if _, err := s.TrustFile(t.TempDir(), plc); err == nil || !strings.Contains(err.Error(), "is no file") {
		t.Errorf("a folder: %v", err)
	}
}

// TestTrust_Endpoints: where a certificate is trusted after each act.
func TestTrust_Endpoints(t *testing.T) {
	const plc8 = "opc.tcp://plc-8:4840"
	p := server(t, nil)
	s := open(t, t.TempDir())
	cert := sha(p.cert.Raw)
	where := func() string {
		var at []string
		for _, e := range []string{plc, plc8, "opc.tcp://plc-9"} {
			if s.Judge(p.cert.Raw, Want{Endpoint: e, Host: "plc-7", ApplicationURI: plcURI}, noon) == nil {
				at = append(at, e[len("opc.tcp://"):][:5])
			}
		}
		return strings.Join(at, " ")
	}
	trust := func(e string) error { _, err := s.Trust(cert, e); return err }
	distrust := func(e string) error { _, err := s.Distrust(cert, e); return err }
	if where() != "" {
		t.Fatal("trusted at first sight")
	}
	for _, step := range []struct {
		act      func(string) error
		endpoint string
		where    string
		err      string
	}{
		{trust, plc, "plc-7", ""},
		{trust, plc, "plc-7", ""},
		{trust, plc8, "plc-7 plc-8", ""},
		{distrust, "opc.tcp://plc-9", "plc-7 plc-8", "not trusted at"},
		{distrust, plc, "plc-8", ""},
		{trust, "", "plc-7 plc-8 plc-9", ""},
		{distrust, plc, "plc-7 plc-8 plc-9", "trusted at every endpoint"},
		{trust, plc, "plc-7", ""},
		{distrust, plc, "", ""},
		{distrust, plc, "", "no such certificate"},
		{trust, "", "plc-7 plc-8 plc-9", ""},
		{distrust, "", "", ""},
		{trust, plc8, "plc-8", ""},
	} {
		if err := step.act(step.endpoint); (err == nil) != (step.err == "") || err != nil && !strings.Contains(err.Error(), step.err) {
			t.Fatalf("%q: %v, want %s", step.endpoint, err, step.err)
		}
		if got := where(); got != step.where {
			t.Fatalf("%q: trusted at %q, want %q", step.endpoint, got, step.where)
		}
	}
}

// TestTrust_AfterACrash: what was cut off never widens trust.
func TestTrust_AfterACrash(t *testing.T) {
	p := server(t, nil)
	s := open(t, t.TempDir())
	stray := pin{endpointHash("opc.tcp://plc-8"), sha(p.cert.Raw)} // its mark was made, or stayed, and it is not trusted
	s.plant(t, pinsDir, stray.file(), []byte("opc.tcp://plc-8\n"))
	if r := refused(t, s.Judge(p.cert.Raw, at("opc.tcp://plc-8"), noon)); r == nil || r.Reason != Unknown {
		t.Fatalf("%v", r)
	}
	if _, err := s.Trust(sha(p.cert.Raw), plc); err != nil {
		t.Fatal(err)
	}
	if r := refused(t, s.Judge(p.cert.Raw, at("opc.tcp://plc-8"), noon)); r == nil || r.Reason != Unknown {
		t.Errorf("trust came back where it had been taken away: %v", r)
	}
	s.plant(t, trustedDir, makingPrefix+"1", []byte("half a certif"))
	if _, err := s.List(noon); err != nil {
		t.Errorf("what a crash left is not worth a word: %v", err)
	}
}

// TestTrust_BesideJudge: whatever another process is just changing, a certificate
// is never trusted where nobody said so.
func TestTrust_BesideJudge(t *testing.T) {
	dir, p := t.TempDir(), server(t, nil)
	s, worker := open(t, dir), open(t, dir)
	done := make(chan struct{})
	trusted := make(chan int, 1)
	go func() {
		n := 0
		defer func() { trusted <- n }()
		for {
			select {
			case <-done:
				return
			default:
			}
			if err := worker.Judge(p.cert.Raw, at("opc.tcp://plc-8"), noon); err == nil {
				t.Error("trusted at an endpoint it was not meant for")
				return
			}
			if err := worker.Judge(p.cert.Raw, at(plc), noon); err == nil {
				n++
			} else if _, ok := errors.AsType[*Refusal](err); !ok {
				t.Error(err)
				return
			}
		}
	}()
	for range 25 {
		s.trustNow(t, p, plc)
		if _, err := s.Distrust(sha(p.cert.Raw), plc); err != nil {
			t.Error(err)
			break
		}
	}
	close(done)
	t.Logf("trusted %d times", <-trusted)
}

func TestList(t *testing.T) {
	s := open(t, t.TempDir())
	if _, err := s.Own(agent, []string{"gw-1"}, noon); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Renew(agent, []string{"gw-1"}, noon); err != nil {
		t.Fatal(err)
	}
	ca := authority(t, "Plant CA", keys().ca, nil)
	sub := authority(t, "Line CA", keys().sub, &ca)
	free := authority(t, "Free CA", keys().other, nil)
	p, stranger := server(t, nil), server(t, &sub)
	s.trustNow(t, p, plc)
	s.trustNow(t, p, "opc.tcp://plc-7b")
	s.trustNow(t, ca, "")
	s.trustNow(t, free, "")
	s.plant(t, issuersDir, "sub.der", sub.cert.Raw)
	s.plant(t, listsDir, "ca.crl", pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: revocations(t, ca, nil)}))
	s.plant(t, listsDir, "sub.crl", revocations(t, sub, nil))
	if err := s.keep(chainOf(stranger), noon); err != nil {
		t.Fatal(err)
	}
	later := noon.Add(18*time.Hour - time.Minute)
	list, err := s.List(later)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range list {
		if e.SHA256 != sha(e.Certificate.Raw) || len(e.SHA1) != 40 || e.Certificate == nil {
			t.Errorf("%+v", e)
		}
		if _, err := os.Stat(e.File); err != nil {
			t.Error(err)
		}
		got = append(got, string(e.Role)+" "+e.Certificate.Subject.CommonName+" "+e.ApplicationURI+" "+strings.Join(e.Endpoints, ",")+" "+e.Note)
		if e.Role == Trusted && e.Certificate.Equal(p.cert) && e.DaysLeft != 364 {
			t.Errorf("%d days left", e.DaysLeft)
		}
	}
	want := []string{
		"own plantmesh-edge@gw-1 " + agent + "  ",
		"next plantmesh-edge@gw-1 " + agent + "  ",
		"trusted Free CA   no revocation list: what it issued is accepted unchecked",
		"trusted PLC 7 " + plcURI + " opc.tcp://plc-7:4840,opc.tcp://plc-7b ",
		"trusted Plant CA   its revocation list was to be replaced by 2026-11-30 00:00:00 UTC: what it issued is refused",
		"issuer Line CA   its revocation list was to be replaced by 2026-11-30 00:00:00 UTC: what it issued is refused",
		"rejected PLC 7 " + plcURI + "  ",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestList_NamesWhatIsBroken(t *testing.T) {
	s := open(t, t.TempDir())
	p := server(t, nil)
	s.trustNow(t, p, plc)
	name := pin{endpointHash("opc.tcp://plc-8"), sha(p.cert.Raw)}.file()
	s.plant(t, pinsDir, name, []byte("opc.tcp://plc-9\n"))
	s.plant(t, trustedDir, "note.txt", []byte("call Anna"))
	s.plant(t, issuersDir, "long.der", make([]byte, maxCert+1))
	s.plant(t, listsDir, "cert.crl", p.cert.Raw)
	s.plant(t, rejectedDir, "half.der", p.cert.Raw[:200])
	if err := os.Mkdir(s.path(trustedDir, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(s.path(ownDir), 0o700); err != nil {
		t.Fatal(err)
	}
	s.plant(t, ownDir, certFile, []byte("x"))
	list, err := s.List(noon.AddDate(2, 0, 0))
	if len(list) != 1 || list[0].DaysLeft != -366 || list[0].SHA256 != sha(p.cert.Raw) {
		t.Errorf("%+v", list)
	}
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{name, "trusted/note.txt", "issuers/long.der", "crl/cert.crl", "rejected/half.der", "trusted/folder is no file", "own/cert.der"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s is not named in:\n%v", want, err)
		}
	}
	for i := range maxFiles {
		s.plant(t, listsDir, "f"+sha([]byte{byte(i), byte(i >> 8)}), nil)
	}
	if _, err := s.List(noon); err == nil || !strings.Contains(err.Error(), "only the first 512 are read") {
		t.Error("that not all files are read is not told")
	}
}

// One of several is picked as a person copies its fingerprint, and never by half of one.
func TestPick(t *testing.T) {
	a, b := server(t, nil), server(t, nil)
	all := []Entry{entry(Trusted, "a", a.cert, noon), entry(Trusted, "b", b.cert, noon), entry(Rejected, "c", b.cert, noon)}
	for name, c := range map[string]struct {
		fingerprint, file string
		err               error
	}{
		"whole":       {Fingerprint(a.cert), "a", nil},
		"digits":      {all[1].SHA256[:12], "b", nil},
		"unknown":     {"0000000000000000", "", ErrNotFound},
		"too little":  {all[0].SHA256[:7], "", ErrFingerprint},
		"not a print": {"front panel", "", ErrFingerprint},
	} {
		got, err := Pick(all, c.fingerprint)
		if got.File != c.file || !errors.Is(err, c.err) {
			t.Errorf("%s: %s, %v", name, got.File, err)
		}
	}
	all[0].SHA256 = all[1].SHA256[:60] + "0000" // as a hostile server could
	if got, err := Pick(all, all[1].SHA256[:16]); !errors.Is(err, ErrAmbiguous) {
		t.Errorf("of two alike: %s, %v", got.File, err)
	}
}
