package answer

// Code is the slug of what went wrong: a public contract, never respelled.
type Code string

// The slugs there are. Each has its exit code in Codes.
const (
	Internal     Code = "internal"
	Usage        Code = "usage"
	Config       Code = "config.invalid"
	UnknownKey   Code = "config.unknown_key"
	Network      Code = "net.unreachable"
	Listen       Code = "net.listen"
	InUse        Code = "net.in_use"
	Rejected     Code = "enroll.rejected"
	Expired      Code = "enroll.expired"
	Pending      Code = "enroll.pending"
	NotRunning   Code = "daemon.not_running"
	Locked       Code = "buffer.locked"
	Data         Code = "data.unusable"
	DemoMismatch Code = "demo.mismatch"
	Damaged      Code = "file.damaged"
	FileExists   Code = "file.exists"
	AuditBroken  Code = "audit.broken"

	AccessRefused Code = "access.refused"
	NoUsers       Code = "access.no_users"

	CertUnknown    Code = "opcua.cert_unknown"
	CertNotRenewed Code = "opcua.cert_not_renewed"
	CertUntrusted  Code = "opcua.cert_untrusted"
	OwnCertRefused Code = "opcua.own_cert_refused"
	UserDenied     Code = "opcua.user_denied"
	NoMachine      Code = "opcua.no_machine"
	SourceFindings Code = "source.findings"
	CheckFailed    Code = "check.failed"
)

// Entry is one line of the table.
type Entry struct {
	Code Code
	Exit int
	Says string
}

// Codes are all slugs and their exit codes. The class of a code is for
// scripts: 1 internal, 2 usage, 3 configuration, 4 network, 5 identity, 6
// state, 7 findings, 8 timed out waiting.
func Codes() []Entry {
	return []Entry{
		{Internal, 1, "something nobody foresaw"},
		{Usage, 2, "the command line makes no sense"},
		{Config, 3, "a file is missing, unreadable or wrong"},
		{UnknownKey, 3, "a file or the environment has a key that nobody reads"},
		{Network, 4, "an address can't be called or served"},
		{Listen, 4, "an address can't be served; the message says why"},
		{InUse, 4, "another program listens there"},
		{Rejected, 5, "the hub does not sign this agent as asked"},
		{Expired, 5, "the agent's token is out of date"},
		{Pending, 8, "nobody has let the gateway in yet"},
		{CertUnknown, 5, "no certificate has this fingerprint, or several have"},
		{CertUntrusted, 5, "a server's certificate is not one that is trusted here; the message says how to trust it"},
		{OwnCertRefused, 5, "a server does not take this gateway's certificate; the message says which it is"},
		{UserDenied, 5, "a server does not take the login; the message says what it takes"},
		{CertNotRenewed, 6, "there is no next certificate to take into use"},
		{AccessRefused, 5, "who may do what is not changed as asked"},
		{NoUsers, 6, "a hub that listens beyond loopback has no user yet"},
		{NotRunning, 6, "no agent answers"},
		{Locked, 6, "another agent uses the same data folder"},
		{Data, 6, "a data folder can't be used: another process has it, or it is not ours to write"},
		{FileExists, 6, "what would be written is there already; nothing is ever written over"},
		{NoMachine, 7, "a server has nothing that is recognised as a machine"},
		{SourceFindings, 7, "not every signal of a source can be read as it is declared"},
		{CheckFailed, 7, "something is not in order on this gateway; what helps is said"},
		{DemoMismatch, 7, "the products are not what the plant's truth says"},
		{AuditBroken, 7, "the audit trail is not what was recorded; the message says where"},
		{Damaged, 7, "a file of records, or a backup, holds bytes that are not what was written"},
	}
}

// Exit is the exit code of a slug.
func (c Code) Exit() int {
	for _, e := range Codes() {
		if e.Code == c {
			return e.Exit
		}
	}
	return 1
}
