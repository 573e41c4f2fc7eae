package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLocated(t *testing.T) {
	loaded := t.TempDir()
	for _, name := range []string{"alone", "both", "credentials_both", "credentials_folder"} {
		if err := os.WriteFile(filepath.Join(loaded, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ path, service, shell string }{
		{"", "", ""},
		{"/a/key", "/a/key", "/a/key"},
		{"key", "/etc/p/sources.d/key", "/etc/p/sources.d/key"},
		{"../key", "/etc/p/key", "/etc/p/key"},
		{"cred:alone", loaded + "/alone", "/etc/p/credentials/alone"},
		{"cred:both", loaded + "/both", "/etc/p/credentials/both"},
		{"cred:folder", loaded + "/credentials_folder", "/etc/p/credentials/folder"},
		{"cred:nowhere", loaded + "/credentials_nowhere", "/etc/p/credentials/nowhere"},
	} {
		t.Setenv("CREDENTIALS_DIRECTORY", loaded)
		if got := located(c.path, "/etc/p/sources.d", "/etc/p"); got != c.service {
			t.Errorf("%q in the service is %s, want %s", c.path, got, c.service)
		}
		t.Setenv("CREDENTIALS_DIRECTORY", "")
		if got := located(c.path, "/etc/p/sources.d", "/etc/p"); got != c.shell {
			t.Errorf("%q at a shell is %s, want %s", c.path, got, c.shell)
		}
	}
}

// The hub's token and the secrets of a source may be credentials.
func TestLoadConfig_WithCredentials(t *testing.T) {
	f := files()
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	for _, secret := range []struct{ file, key, was, name string }{
		{"edge.yaml", "key: ", "k", "k"}, {"edge.yaml", "token: ", "t", "t"}, {"sources.d/a.yaml", "password_file: ", "sources.d/secret", "secret"},
	} {
		f["credentials/"+secret.name] = f[secret.was]
		delete(f, secret.was)
		f[secret.file] = strings.Replace(f[secret.file], secret.key+secret.name, secret.key+"cred:"+secret.name, 1)
	}
	c, dir, err := load(t, f)
	if err != nil {
		t.Fatal(err)
	}
	for _, got := range []struct{ path, name string }{{c.Hub.Key, "k"}, {c.Hub.Token, "t"}, {c.Sources[0].MQTT.PasswordFile, "secret"}} {
		if want := filepath.Join(dir, "credentials", got.name); got.path != want {
			t.Errorf("%s is read at %s, want %s", got.name, got.path, want)
		}
	}
}
