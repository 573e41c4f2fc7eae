package answer

import (
	"fmt"
	"strings"
)

// Code is the slug of what went wrong: a public contract, never respelled.
type Code string

// The slugs there are. Each has its exit code in Codes.
const (
	Internal     Code = "internal"
	Usage        Code = "usage"
	Config       Code = "config.invalid"
	UnknownKey   Code = "config.unknown_key"
	Configure    Code = "config.refused"
	Network      Code = "net.unreachable"
	Listen       Code = "net.listen"
	InUse        Code = "net.in_use"
	Rejected     Code = "enroll.rejected"
	Expired      Code = "enroll.expired"
	Pending      Code = "enroll.pending"
	Waited       Code = "wait.timeout"
	NotRunning   Code = "daemon.not_running"
	NotAllowed   Code = "daemon.not_allowed"
	Interrupted  Code = "interrupted"
	Locked       Code = "buffer.locked"
	Data         Code = "data.unusable"
	DemoMismatch Code = "demo.mismatch"
	Damaged      Code = "file.damaged"
	FileExists   Code = "file.exists"
	AuditBroken  Code = "audit.broken"

	AccessRefused Code = "access.refused"
	NoUsers       Code = "access.no_users"

	Register Code = "register.refused"

	CertUnknown    Code = "opcua.cert_unknown"
	CertNotRenewed Code = "opcua.cert_not_renewed"
	CertUntrusted  Code = "opcua.cert_untrusted"
	OwnCertRefused Code = "opcua.own_cert_refused"
	UserDenied     Code = "opcua.user_denied"
	NoMachine      Code = "opcua.no_machine"
	SourceFindings Code = "source.findings"
	CheckFailed    Code = "check.failed"
	DataLost       Code = "data.lost"
	Degraded       Code = "status.degraded"
	Confirm        Code = "confirmation_required"
	NotReleased    Code = "quarantine.not_released"
	PageOff        Code = "page.off"
	RulesFailed    Code = "rules.test_failed"
)

// Entry is one line of the table.
type Entry struct {
	Code  Code
	Exit  int
	Says  string
	Helps string // in general; an error that knows more says more
}

// Codes are all slugs and their exit codes. The class of a code is for
// scripts: 1 internal, 2 usage, 3 configuration, 4 network, 5 identity, 6
// state, 7 findings, 8 ended before it was done.
func Codes() []Entry {
	return []Entry{
		{Internal, 1, "something nobody foresaw", "it is a fault of the program: report it with this message and the log"},
		{Usage, 2, "the command line makes no sense", "--help behind a command says how it is called"},
		{Confirm, 2, "what can't be undone needs a word more; the message says which", "look at what would go, then say the same with that word"},
		{Config, 3, "a file is missing, unreadable or wrong", "correct the file at the place that is named; what may stand there is in the example beside it"},
		{UnknownKey, 3, "a file or the environment has a key that nobody reads", "take the key away, or write the one that was meant; a key too deep or not deep enough is unknown, too"},
		{Network, 4, "an address can't be called or served", "see that the address is right, the other side runs, and nothing between them (firewall, proxy, cable) is closed; check --firewall of the gateway lists what must be open"},
		{Listen, 4, "an address can't be served; the message says why", "name an address of this machine and a port that this user may have: below 1024 only root may"},
		{InUse, 4, "another program listens there", "end the other program, or name another port; ss -ltnp says whose it is"},
		{Rejected, 5, "the hub does not sign this agent as asked", "ask who looks after the hub: the gateway was refused or revoked, or its site or name is another one there"},
		{Expired, 5, "the agent's token is out of date", "enrol the gateway again; what it keeps stays and is sent then"},
		{Pending, 6, "nobody has let the gateway in yet", "have somebody approve the code: plantmesh agents approve CODE, or the page that was shown; then say the same again"},
		{Waited, 8, "what was waited for did not come within the time that --wait or --timeout gives it", "say the same command again, with more time; where a gateway asks to be let in, have somebody approve its code: plantmesh agents approve CODE, or the page that was shown"},
		{CertUnknown, 5, "no certificate has this fingerprint, or several have", "cert list shows the fingerprints there are; the first eight digits are enough where they are one's alone"},
		{CertUntrusted, 5, "a server's certificate is not one that is trusted here; the message says how to trust it", "compare the fingerprint with the one that the server shows, then trust it with cert trust"},
		{OwnCertRefused, 5, "a server does not take this gateway's certificate; the message says which it is", "trust this gateway's certificate at the server, where it lies among the rejected ones; cert export writes it to a file"},
		{UserDenied, 5, "a server does not take the login; the message says what it takes", "give the source the login that the server knows, as user and a file with the password"},
		{CertNotRenewed, 6, "there is no next certificate to take into use", "make one first with cert renew, have servers trust it, then take it with cert adopt"},
		{AccessRefused, 5, "who may do what is not changed as asked", "the message says what stands against it; users list and readers list show who is there"},
		{NoUsers, 6, "a hub that listens beyond loopback has no user yet", "make the first one: users add --role admin NAME, and open the link that it prints; or listen on loopback alone"},
		{Register, 7, "the register of machines is not changed as asked; the message says why", "correct what is named and say the same again; nothing of it was done. --dry-run tries without doing"},
		{NotRunning, 6, "no agent, or no hub, answers", "start the agent or the hub, or name the --config that it was started with"},
		{NotAllowed, 6, "an agent runs, and this user may not ask it", "ask as the user that the agent runs as, or as root"},
		{Interrupted, 8, "somebody ended it before it was done", "say the same command again; what was done is kept"},
		{Configure, 6, "a configuration is not given, held or taken back as asked", "the message says whose word stands against it: a hold, another revision, or a trial that is under way"},
		{Locked, 6, "another agent uses the same data folder", "one agent only may use a data folder: end the other one, or give this one another folder"},
		{Data, 6, "a data folder can't be used: another process has it, or it is not ours to write", "end the process that has it, or give the folder to the user that the program runs as"},
		{FileExists, 6, "what would be written is there already; nothing is ever written over", "name another file, or move the old one away"},
		{NotReleased, 6, "a record that was set aside can't be put into the log again; the message says why", "quarantine show says what is known of it; what can't be put back stays named as a gap"},
		{PageOff, 6, "the gateway has no local page; the message says how it gets one", "write page: {listen: 127.0.0.1:8088} into edge.yaml and start the agent anew"},
		{NoMachine, 7, "a server has nothing that is recognised as a machine", "browse --values shows what the server has, and browse --csv makes a table of it; write the source's file from that, as config schema source explains it"},
		{SourceFindings, 7, "not every signal of a source can be read as it is declared", "source test shows each signal with what is wrong; correct its node, topic or type in the source's file"},
		{CheckFailed, 7, "something is not in order on this gateway; what helps is said", "do what stands below each red line, then check again"},
		{DataLost, 7, "values were lost within the last 24 hours; what, how many and why is said", "status and buffer status say what and why: most often the buffer was too small for how long the hub was away, or a disk failed"},
		{Degraded, 7, "a gateway does not do all it should, and that needs somebody; what helps is said", "do what stands beside each finding, then ask status again"},
		{RulesFailed, 7, "a quality rule finds something else than its test says", "correct the rule, or its test where that was wrong; rules explain TAG says which rules a signal has"},
		{DemoMismatch, 7, "the products are not what the plant's truth says", "run it again with the same --seed and --dir to keep all files; it is a fault of the program, so report them"},
		{AuditBroken, 7, "the audit trail is not what was recorded; the message says where", "keep the files as they are, compare them with a backup, then have the trail go on with audit set-aside"},
		{Damaged, 7, "a file of records, or a backup, holds bytes that are not what was written", "take another copy; what can be read of it is read, and what is missing is named"},
	}
}

// Exit is the exit code of a slug.
func (c Code) Exit() int { return c.entry().Exit }

// entry is the slug's line of the table; of one that isn't there, that of Internal.
func (c Code) entry() Entry {
	all := Codes()
	for _, e := range all {
		if e.Code == c {
			return e
		}
	}
	return all[0]
}

// Document is the name of the document of all slugs. It stands beside this file, and where
// packages put what belongs to a program.
const Document = "answers.md"

// doc is where a slug stands in the document.
func (c Code) doc() string { return Document + "#" + string(c.entry().Code) }

// Written is the document.
func Written() string {
	var b strings.Builder
	b.WriteString(preface)
	for _, e := range Codes() {
		fmt.Fprintf(&b, "\n<a id=\"%s\"></a>\n\n## %s\n\nExit code %d: %s.\n\nWhat helps: %s.\n", e.Code, e.Code, e.Exit, e.Says, e.Helps)
	}
	return b.String()
}

const preface = `# What the programs answer

Each error of plantmesh, plantmesh-edge and firmware-sim has a slug, in brackets behind its message, and as error.code with --json. Slugs
are never respelled. The exit code says of which class it is, for scripts: 1 internal, 2 usage, 3 configuration, 4 network,
5 identity, 6 state, 7 findings, 8 ended before it was done.
`
