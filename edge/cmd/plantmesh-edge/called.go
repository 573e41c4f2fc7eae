package main

import (
	"strings"

	"plantmesh/proto/answer"
)

// called is a word that other programs have for something, and what helps who types it here.
type called struct {
	words string // the command's beginning
	hint  string
	fix   string
}

// elsewhere are such words.
func elsewhere() []called {
	return []called{
		{"help", "what there is lists --help, what a command takes COMMAND --help, and a gateway's day cheat", "plantmesh-edge --help"},
		{"man", "what there is lists --help, and what a command takes COMMAND --help", "plantmesh-edge --help"},
		{"--version", "it is a command", "plantmesh-edge version"},
		{"run --dry-run", "source test reads a source once and sends nothing; check looks at everything else", "plantmesh-edge check --config edge.yaml"},
		{"schema", "of files it is config schema; answers have none", "plantmesh-edge config schema"},
		{"doctor", "that is check here", "plantmesh-edge check --config edge.yaml"},
		{"validate", "that is config validate", "plantmesh-edge config validate --config edge.yaml"},
		{"config apply", "what the hub wants comes into force by itself, on trial; files of this gateway count when the agent starts", "plantmesh-edge config diff --config edge.yaml"},
		{"config migrate", "no version so far has changed what a key means, so there is nothing to migrate", "plantmesh-edge config validate --config edge.yaml"},
		{"config edit", "a configuration is edited as any file; check then says what is wrong with it", "plantmesh-edge check --config edge.yaml --section configuration"},
		{"cert reject", "what is not trusted is refused already; cert distrust ends a trust", "plantmesh-edge cert list --config edge.yaml"},
		{"enroll reset", "a gateway that is to be another one is revoked at the hub (plantmesh agents revoke), and begins with an empty folder", "plantmesh-edge init --config edge.yaml"},
		{"buffer purge", "what the hub has not yet is never deleted by hand; what it has goes by itself, and buffer compact gives its space back", "plantmesh-edge buffer compact --config edge.yaml"},
		{"discover", "no network is searched, as machines fail by it: browse asks one host what it offers", "plantmesh-edge browse HOST"},
		{"scan", "no network is searched, as machines fail by it: browse asks one host what it offers", "plantmesh-edge browse HOST"},
		{"top", "that is status --watch; values show by tap", "plantmesh-edge status --config edge.yaml --watch"},
		{"logs", "the log is the journal's", "journalctl -u plantmesh-edge -f"},
		{"log level", "everything is said for a while by log debug, which falls back by itself", "plantmesh-edge log debug --config edge.yaml --for 10m"},
		{"start", "the system runs the service", "sudo systemctl start plantmesh-edge"},
		{"stop", "the system runs the service", "sudo systemctl stop plantmesh-edge"},
		{"restart", "the system runs the service", "sudo systemctl restart plantmesh-edge"},
		{"update", "a newer version comes as a package; what waits on the disk stays", "sudo apt-get install ./plantmesh-edge_VERSION.deb"},
		{"uninstall", "it is taken off as a package; look first that nothing waits for the hub", "plantmesh-edge buffer status --config edge.yaml"},
		{"decommission", "a gateway's end is said at the hub (plantmesh agents revoke); look first that nothing waits for it", "plantmesh-edge buffer status --config edge.yaml"},
		{"simulate", "machines to try with are another program's", "firmware-sim run --help"},
	}
}

// mistyped is the error of a command line; a word of other programs has what it is called here.
func mistyped(err error, args []string) *answer.Error {
	e := answer.Misused(err, "plantmesh-edge")
	if !strings.HasPrefix(e.Message, "unexpected argument") && !strings.HasPrefix(e.Message, "unknown flag") && !strings.HasPrefix(e.Message, "missing flags") {
		return e
	}
	typed := strings.Join(args, " ") + " "
	for _, c := range elsewhere() {
		if strings.HasPrefix(typed, c.words+" ") {
			e.Message, e.Hint, e.Fix = "there is no "+c.words, c.hint, c.fix
			return e
		}
	}
	return e
}
