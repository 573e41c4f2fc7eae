package opcua

import (
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopcua/opcua/ua"

	"plantmesh/edge/source/opcua/trust"
)

func TestSession_Choose(t *testing.T) {
	offer := func(policy string, mode ua.MessageSecurityMode, url string) *ua.EndpointDescription {
		return &ua.EndpointDescription{SecurityPolicyURI: policyPrefix + policy, SecurityMode: mode, EndpointURL: url}
	}
	const both, sign, none = ua.MessageSecurityModeSignAndEncrypt, ua.MessageSecurityModeSign, ua.MessageSecurityModeNone
	here, there := "opc.tcp://127.0.0.1:4840", "opc.tcp://plc-7:4840"
	for _, c := range []struct {
		name   string
		s      Security
		offers []*ua.EndpointDescription
		want   int    // of offers; -1: none
		says   string // then
	}{
		{"the strongest", Security{}, []*ua.EndpointDescription{offer("Basic256Sha256", both, here), nil, offer("Aes256_Sha256_RsaPss", both, there)}, 2, ""},
		{"the host that was called", Security{}, []*ua.EndpointDescription{offer("Basic256Sha256", both, there), offer("Basic256Sha256", both, here)}, 1, ""},
		{"what it speaks", Security{}, []*ua.EndpointDescription{offer("Aes256_Sha256_RsaPss", both, "https://127.0.0.1:443"), offer("Basic256Sha256", both, there)}, 1, ""},
		{"none where that is said", Security{Insecure: true}, []*ua.EndpointDescription{offer("Basic256Sha256", both, here), offer("None", none, there), offer("None", none, here)}, 2, ""},
		{
			"never a weaker mode",
			Security{},
			[]*ua.EndpointDescription{offer("Basic256Sha256", sign, here), offer("None", none, here)},
			-1,
			`with SignAndEncrypt; it offers "Basic256Sha256 Sign, None None". Enable what is asked for at the server, or take what there is: security.policy: Basic256Sha256 with security.mode: Sign`,
		},
		{
			"no protection at all",
			Security{},
			[]*ua.EndpointDescription{offer("None", none, here)},
			-1,
			`it offers "None None". Enable Basic256Sha256 with SignAndEncrypt at the server. If it can't, and everyone on that network may read and change what is sent: security.insecure: true`,
		},
		{"never a broken policy", Security{}, []*ua.EndpointDescription{offer("Basic256", both, here)}, -1, `it offers "Basic256 SignAndEncrypt". Enable Basic256Sha256 with SignAndEncrypt at the server`},
		{
			"never another policy",
			Security{Policy: "Basic256Sha256"},
			[]*ua.EndpointDescription{offer("Aes256_Sha256_RsaPss", both, here)},
			-1,
			"does not offer Basic256Sha256 with SignAndEncrypt; it offers \"Aes256_Sha256_RsaPss SignAndEncrypt\". Enable what is asked for at the server, or take what there is: security.policy: Aes256_Sha256_RsaPss with security.mode: SignAndEncrypt",
		},
		{"protection only", Security{Insecure: true}, []*ua.EndpointDescription{offer("Basic256Sha256", both, here)}, -1, "does not offer None with None; it offers \"Basic256Sha256 SignAndEncrypt\". Take security.insecure: true out"},
		{"nothing", Security{}, nil, -1, "it offers nothing at all. Enable Basic256Sha256"},
	} {
		s := secured(t, here, c.s)
		got, err := s.choose(c.offers)
		if c.want < 0 {
			if err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "does not offer") {
				t.Errorf("%s: %v, %v", c.name, got, err)
			}
			continue
		}
		if err != nil || got != c.offers[c.want] {
			t.Errorf("%s: %+v, %v", c.name, got, err)
		}
	}
}

// TestLook: what is offered, what of it is taken and why, and whether the certificate
// is trusted. Nobody logs in.
func TestLook(t *testing.T) {
	endpoint := guarded(t, identityOf(t, serverURI), func(*ua.ActivateSessionRequest) { t.Error("somebody logged in") })
	look := func(s Security, app Application) Survey {
		t.Helper()
		if err := s.validate(); err != nil {
			t.Fatal(err)
		}
		got, err := Look(t.Context(), Config{Endpoint: endpoint, Security: s, Application: app}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	whys := func(v Survey) (out []string) {
		for _, o := range v.Offers {
			out = append(out, o.Policy+" "+o.Mode+": "+o.Why)
			if o.Taken != strings.Contains(o.Why, "asked for") && o.Taken != strings.Contains(o.Why, "unprotected, as") {
				t.Errorf("%+v", o)
			}
			if !slices.Equal(o.Logins, []string{"anonymous", "user name", "certificate"}) || o.URL != endpoint {
				t.Errorf("%+v", o)
			}
			if c := o.Certificate; c == nil || !strings.HasPrefix(c.Fingerprint, "SHA256:") || c.NotAfter.Before(time.Now()) || c.Subject == "" {
				t.Errorf("%+v", c)
			}
		}
		slices.Sort(out)
		return out
	}
	got := look(Security{}, Application{})
	want := []string{
		"Aes128_Sha256_RsaOaep Sign: not encrypted: only security.mode: Sign takes that", "Aes128_Sha256_RsaOaep SignAndEncrypt: weaker than the one that is taken",
		"Aes256_Sha256_RsaPss Sign: not encrypted: only security.mode: Sign takes that", "Aes256_Sha256_RsaPss SignAndEncrypt: the strongest of what is asked for",
		"Basic256Sha256 Sign: not encrypted: only security.mode: Sign takes that", "Basic256Sha256 SignAndEncrypt: weaker than the one that is taken",
		"None None: neither signed nor encrypted: only security.insecure: true takes that",
	}
	if has := whys(got); !slices.Equal(has, want) || got.Trusted != nil || len(got.Obstacles) > 0 || got.Call != endpoint {
		t.Errorf("%q\n%+v", has, got)
	}
	if has := whys(look(Security{Insecure: true}, Application{})); has[6] != "None None: unprotected, as security.insecure: true asks for" || has[0] != "Aes128_Sha256_RsaOaep Sign: security.insecure: true asks for no protection" {
		t.Errorf("%q", has)
	}
	if has := whys(look(Security{Policy: "Basic256Sha256", Mode: "Sign"}, Application{})); has[4] != "Basic256Sha256 Sign: the strongest of what is asked for" || has[5] != "Basic256Sha256 SignAndEncrypt: security.mode asks for another" || has[1] != "Aes128_Sha256_RsaOaep SignAndEncrypt: security.policy asks for another" {
		t.Errorf("%q", has)
	}
	// The certificate is judged as a connection would, and can be trusted then.
	app := Application{Store: filepath.Join(t.TempDir(), "pki"), URI: "urn:test:agent", Hosts: []string{"gw-1"}}
	got = look(Security{}, app)
	if got.Trusted == nil || *got.Trusted || len(got.Obstacles) != 1 || !strings.Contains(got.Obstacles[0], "Nobody has trusted it on this gateway yet") {
		t.Errorf("%+v", got)
	}
	store, err := trust.Open(app.Store)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Trust(got.Offers[0].Certificate.Fingerprint, got.Call); err != nil {
		t.Fatal(err)
	}
	if got = look(Security{}, app); got.Trusted == nil || !*got.Trusted || len(got.Obstacles) > 0 {
		t.Errorf("%+v", got)
	}
}

func TestLook_CallsByTheAddressThatWasGiven(t *testing.T) {
	for _, c := range [][3]string{
		{"opc.tcp://10.0.0.7", "opc.tcp://PLC-7:4840/UA/plant", "opc.tcp://10.0.0.7/UA/plant"},
		{"opc.tcp://10.0.0.7:48400", "opc.tcp://PLC-7:4840", "opc.tcp://10.0.0.7:48400"},
		{"opc.tcp://10.0.0.7/other", "opc.tcp://PLC-7:4840/UA/plant", "opc.tcp://10.0.0.7/other"},
		{"opc.tcp://10.0.0.7", "://", "opc.tcp://10.0.0.7"},
	} {
		if got := callAt(c[0], c[1]); got != c[2] {
			t.Errorf("%s called, %s offered: %s, want %s", c[0], c[1], got, c[2])
		}
	}
	known := []*ua.ApplicationDescription{
		nil,
		{ApplicationURI: "urn:own", DiscoveryURLs: []string{"opc.tcp://a"}},
		{ApplicationURI: "urn:web", DiscoveryURLs: []string{"https://a"}},
		{ApplicationURI: "urn:other", ApplicationName: ua.NewLocalizedText("Press"), DiscoveryURLs: []string{"https://a", "opc.tcp://a:4841", "opc.tcp://a:4841"}},
	}
	if got := others(known, "urn:own"); len(got) != 1 || got[0].Name != "Press" || !slices.Equal(got[0].URLs, []string{"opc.tcp://a:4841"}) {
		t.Errorf("%+v", got)
	}
}

// All that is in the way is told at once.
func TestSession_SettleNamesEachObstacle(t *testing.T) {
	s := secured(t, "opc.tcp://127.0.0.1", Security{})
	own := identityOf(t, serverURI)
	var got Survey
	s.settle(&got, &ua.EndpointDescription{EndpointURL: "opc.tcp://plc-7/UA", ServerCertificate: own.DER, UserIdentityTokens: []*ua.UserTokenPolicy{{TokenType: ua.UserTokenTypeUserName}}})
	if len(got.Obstacles) != 2 || !strings.Contains(got.Obstacles[0], "no login without a name") || !strings.Contains(got.Obstacles[1], "Nobody has trusted it") || got.Call != "opc.tcp://127.0.0.1/UA" {
		t.Errorf("%+v", got)
	}
}
