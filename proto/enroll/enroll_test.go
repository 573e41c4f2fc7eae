package enroll

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/quick"
)

const key = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"

func TestRequest_IsBounded(t *testing.T) {
	good := Request{Version: Version, PublicKey: key, Agent: "gw-1", Site: "graz", Host: Host{Name: "Gateway 7", System: "linux/arm64", Cores: 4}}
	for name, c := range map[string]struct {
		change func(*Request)
		want   string // "": it is taken
	}{
		"as it should be":    {func(*Request) {}, ""},
		"no site":            {func(r *Request) { r.Site = "" }, ""},
		"another version":    {func(r *Request) { r.Version = 2 }, "too old"},
		"no name":            {func(r *Request) { r.Agent = "" }, "lower case"},
		"a name of wildcard": {func(r *Request) { r.Agent = ">" }, "lower case"},
		"a site of two":      {func(r *Request) { r.Site = "a.b" }, "lower case"},
		"a long host":        {func(r *Request) { r.Host.Name = strings.Repeat("x", 129) }, "at most 128"},
		"a host of escapes":  {func(r *Request) { r.Host.Name = "\x1b[2J" }, "printable"},
		"a host of lines":    {func(r *Request) { r.Host.Name = "a\nb" }, "printable"},
		"cores below none":   {func(r *Request) { r.Host.Cores = -1 }, "cores"},
	} {
		r := good
		c.change(&r)
		b, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		got, err := (&Signed{Request: b}).Parse()
		switch {
		case c.want == "" && (err != nil || got != r):
			t.Errorf("%s: %+v, %v", name, got, err)
		case c.want != "" && (!errors.Is(err, ErrRequest) || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, junk := range []string{"", "[", "null", "{}", strings.Repeat(" ", MaxBytes+1)} {
		if _, err := (&Signed{Request: []byte(junk)}).Parse(); !errors.Is(err, ErrRequest) {
			t.Errorf("%.10q: %v", junk, err)
		}
	}
}

// What somebody reads aloud and types again is the same code.
func TestCode_SurvivesTyping(t *testing.T) {
	typed := func(key string) bool {
		code := Code(key)
		for _, s := range []string{code, strings.ToLower(code), strings.ReplaceAll(code, "-", ""), strings.ReplaceAll(code, "0", "O"), strings.ReplaceAll(code, "1", "l")} {
			if got, ok := ReadCode(s); !ok || got != code {
				return false
			}
		}
		return strings.HasPrefix(Fingerprint(key), "SHA256:") && len(code) == 9
	}
	if err := quick.Check(typed, nil); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"", "KXQ7", "KXQ7-2MPLX", "KXQ7-2MP!", "UUUU-UUUU"} {
		if code, ok := ReadCode(bad); ok {
			t.Errorf("%q is read as %s", bad, code)
		}
	}
}
