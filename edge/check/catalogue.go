package check

import "time"

// Entry is what everybody should know of a check.
type Entry struct {
	ID      string
	Section string
	Looks   string        // at what
	Why     string        // what it means if that is not in order
	Fix     string        // what helps in most cases; a result may know better
	Within  time.Duration // how long it may take; 0: defaultWithin
}

// Doc leads to its part of the page of checks.
func (e Entry) Doc() string { return "edge/check/CHECKS.md#" + e.ID }

func (e Entry) within() time.Duration {
	if e.Within == 0 {
		return defaultWithin
	}
	return e.Within
}

func entry(id string) Entry {
	for _, e := range Catalogue() {
		if e.ID == id {
			return e
		}
	}
	return Entry{ID: id}
}

// Names of the sections.
const (
	system        = "system"
	configuration = "configuration"
	identity      = "identity"
	cloud         = "cloud"
	sources       = "sources"
	buffer        = "buffer"
)

// Sections are those there are, in the order in which they are told.
func Sections() []string {
	return []string{system, configuration, identity, cloud, sources, buffer}
}

func titles() map[string]string {
	return map[string]string{system: "System", configuration: "Configuration", identity: "Identity", cloud: "Cloud", sources: "Sources", buffer: "Buffer"}
}

// Catalogue are all checks there are; ids are a public contract, never respelled.
func Catalogue() []Entry {
	var out []Entry
	for _, of := range [][]Entry{ofSystem(), ofConfiguration(), ofIdentity(), ofCloud(), ofSources(), ofBuffer()} {
		out = append(out, of...)
	}
	return out
}

func ofSystem() []Entry {
	return []Entry{
		{ID: "sys-version", Section: system, Looks: "which build this is", Why: "who helps asks for it"},
		{ID: "sys-hostname", Section: system, Looks: "the name of this machine", Why: "people tell gateways apart by it", Fix: "hostnamectl set-hostname NAME, with letters, digits and '-', at most 63"},
		{ID: "sys-service", Section: system, Looks: "whether the agent runs and answers on its socket", Why: "nothing is collected while it doesn't run", Fix: "sudo systemctl enable --now plantmesh-edge; why it ended says: journalctl -u plantmesh-edge"},
		{ID: "sys-user-perms", Section: system, Looks: "whether the data folder is there, and may be written by this user alone", Why: "the buffer holds what was measured, and the agent writes it", Fix: "run this command as the user of the service (sudo -u plantmesh-edge ...), or give that user the folder: chown and chmod 700"},
		{ID: "sys-memory", Section: system, Looks: "how much memory is free, and what the control group allows", Why: "an agent that the kernel ends for want of memory starts again, and devices must keep what they said meanwhile", Fix: "end other programs on this gateway, or raise MemoryMax of the unit"},
		{ID: "sys-fdlimit", Section: system, Looks: "how many files a process may have open", Why: "connections and segments of the buffer are files", Fix: "set LimitNOFILE=4096 in the unit"},
		{ID: "sys-disk-space", Section: system, Looks: "whether the disk has room for the buffer as it is configured", Why: "a buffer that the disk ends before its own bound keeps data for a shorter time than promised", Fix: "free space on that file system, put data onto a larger one, or set a smaller buffer.max_bytes"},
		{ID: "sys-disk-fsync", Section: system, Looks: "how long 50 durable writes into the data folder take", Why: "each commit waits for the disk: a slow one holds devices up, and SD cards wear out by many small ones", Fix: "put data onto a disk made for it (SSD, industrial eMMC); until then set window.profile: flash, which commits seldom (at most 4 s are lost by a power cut)", Within: 30 * time.Second},
		{ID: "sys-time-sync", Section: system, Looks: "whether a time service keeps this gateway's clock", Why: "a clock that nobody sets drifts by seconds a day", Fix: "timedatectl set-ntp true; or name your plant's time server in /etc/systemd/timesyncd.conf or chrony.conf"},
		{ID: "sys-time-3way", Section: system, Looks: "this gateway's clock, the hub's and each OPC UA server's, side by side", Why: "certificates, tokens and the times of values count on clocks that agree", Fix: "set the clock that is wrong; on this gateway: timedatectl set-ntp true", Within: 20 * time.Second},
	}
}

func ofConfiguration() []Entry {
	return []Entry{
		{ID: "cfg-parse", Section: configuration, Looks: "edge.yaml: that it can be read, with no key that nobody knows", Why: "the agent does not start with it", Fix: "change that line"},
		{ID: "cfg-sources", Section: configuration, Looks: "the files of sources.d, likewise", Why: "the agent does not start with it", Fix: "change that line; plantmesh-edge source test FILE tries the file"},
		{ID: "cfg-rules", Section: configuration, Looks: "the files of rules.d, likewise", Why: "the agent does not start with it", Fix: "change that line"},
		{ID: "cfg-rules-tests", Section: configuration, Looks: "whether the rules find what the tests beside them say (rules.d/NAME_test.yaml)", Why: "a rule that finds something else than was meant marks good values, or lets bad ones pass", Fix: "plantmesh-edge rules test --config edge.yaml says which; change the rule, or the test"},
		{ID: "cfg-duplicates", Section: configuration, Looks: "whether two sources have a signal of the same name", Why: "whoever reads that name at the hub gets values of two devices", Fix: "rename one of them, or take it out"},
		{ID: "cfg-proof", Section: configuration, Looks: "whether sources declare how their silence is told from their death", Why: "values are stored, but nothing counts as known: products stay empty", Fix: "declare heartbeat.topic, or max_silence of a signal that is always sent"},
		{ID: "cfg-secrets", Section: configuration, Looks: "whether others on this machine can read the files with passwords and keys", Why: "whoever has them is this gateway, or that user", Fix: "chmod 600 FILE"},
		{ID: "cfg-readonly", Section: configuration, Looks: "what the agent writes to devices", Why: "an agent reads; what it may say to a device you should know"},
		{ID: "cfg-revision", Section: configuration, Looks: "whether the configuration that the hub wants is in force, and which files of this gateway go before it", Why: "what was changed at the hub, or by hand here, is otherwise not what runs", Fix: "plantmesh-edge config diff --config edge.yaml"},
	}
}

func ofIdentity() []Entry {
	return []Entry{
		{ID: "id-enrolled", Section: identity, Looks: "whether a hub has let this gateway in: address, key and token are there and belong together", Why: "nothing can be sent before", Fix: "plantmesh-edge enroll --config edge.yaml https://hub.example.com"},
		{ID: "id-key-perms", Section: identity, Looks: "whether others on this machine can read this gateway's key", Why: "whoever has it and the token is this gateway", Fix: "chmod 600 FILE"},
		{ID: "id-cert-expiry", Section: identity, Looks: "for how long the hub's token is valid", Why: "the hub takes nothing with one that has ended; everything is kept and sent later", Fix: "enrol again: plantmesh-edge enroll --config edge.yaml https://hub.example.com"},
	}
}

func ofCloud() []Entry {
	return []Entry{
		{ID: "net-dns", Section: cloud, Looks: "whether the hub's name has an address, where no proxy looks it up", Why: "without it the hub can't be called; data waits in the buffer", Fix: "check hub.url in edge.yaml, and the name server: resolvectl status"},
		{ID: "net-proxy", Section: cloud, Looks: "whether a proxy lets this gateway through to hub.url and hub.enroll", Why: "data and confirmations go through it, and a token that has ended is asked for there; meanwhile data waits in the buffer", Fix: "name the proxy in hub.proxy of edge.yaml and its password's file in hub.proxy_password_file (they go before HTTPS_PROXY), and ask IT what it lets through: plantmesh-edge check --firewall prints it"},
		{ID: "net-tcp", Section: cloud, Looks: "whether the hub's port can be reached", Why: "data waits in the buffer", Fix: "ask IT to open that port outbound: plantmesh-edge check --firewall prints what to ask for"},
		{ID: "net-tls", Section: cloud, Looks: "whether who answers is the hub that let this gateway in", Why: "the agent sends nothing to anybody else; data waits in the buffer", Fix: "ask IT to exempt the hub from TLS inspection"},
		{ID: "net-nats", Section: cloud, Looks: "whether the hub takes this gateway's login, and says what it has received", Why: "data waits in the buffer", Fix: "ask whoever runs the hub: plantmesh agents list"},
		{ID: "net-rtt", Section: cloud, Looks: "how long the hub takes to answer", Why: "a slow link drains a backlog slowly", Fix: "look at the link: what is sent at once is forward.max_message"},
		{ID: "net-page", Section: cloud, Looks: "whether the hub answers at hub.enroll", Why: "a token that has ended is asked for there", Fix: "check hub.enroll in edge.yaml, and that the hub is up"},
	}
}

func ofSources() []Entry {
	return []Entry{
		{ID: "src-tcp", Section: sources, Looks: "whether the device's port can be reached", Why: "nothing is read from it", Fix: "check the address, whether the machine is on, the cable, and firewalls in between"},
		{ID: "src-endpoints", Section: sources, Looks: "whether an OPC UA server answers, and how it calls itself", Why: "nothing is read from it", Fix: "check the port (4840 is usual), and whether its OPC UA server is switched on"},
		{ID: "src-security", Section: sources, Looks: "whether the server offers the protection that is asked for", Why: "the agent takes nothing weaker than the file says", Fix: "set security.policy and security.mode to what the server has, or switch that on there"},
		{ID: "src-trust", Section: sources, Looks: "whether gateway and server trust each other's certificates", Why: "nobody is trusted for having come first", Fix: "plantmesh-edge cert list shows both certificates", Within: 20 * time.Second},
		{ID: "src-auth", Section: sources, Looks: "whether the server takes the login", Why: "nothing is read from it", Fix: "check the user and that user's rights at the server", Within: 20 * time.Second},
		{ID: "src-nodes", Section: sources, Looks: "whether each node is there, of the type that the file says", Why: "a signal without a node stays empty", Fix: "correct the node in the source's file; plantmesh-edge browse shows what the server has", Within: 30 * time.Second},
		{ID: "src-limits", Section: sources, Looks: "whether the server looks at its nodes as often as is asked for", Why: "changes in between nobody sees", Fix: "ask for no more than the server does: sampling_interval of the signal", Within: 30 * time.Second},
		{ID: "src-mqtt", Section: sources, Looks: "whether the broker takes the login and the subscription, and whether another client uses this one's client id", Why: "nothing is read from it, or what another client acknowledges is lost", Fix: "give each client an id of its own: client_id in the source's file"},
		{ID: "src-sparkplug", Section: sources, Looks: "what the running agent says of the nodes and their births", Why: "without its birth nobody knows what a node's metrics are", Fix: "restart the node, or have it publish its birth again; mode: active asks for it by itself"},
		{ID: "src-freshness", Section: sources, Looks: "what the running agent says of the source: whether values come", Why: "nothing is known of a device that is silent", Fix: "look at the device; plantmesh-edge status says since when"},
	}
}

func ofBuffer() []Entry {
	return []Entry{
		{ID: "buf-open", Section: buffer, Looks: "whether the running agent can read all that it keeps", Why: "what can't be read is told as a gap", Fix: "plantmesh-edge buffer verify says what; look at the disk: dmesg, smartctl"},
		{ID: "buf-fill", Section: buffer, Looks: "how full the buffer is", Why: "a full one takes nothing more, or drops what is oldest, as buffer.policy says", Fix: "see to the way to the hub, section cloud; or raise buffer.max_bytes"},
		{ID: "buf-autonomy", Section: buffer, Looks: "for how long everything is kept without the hub: 72 h are wanted", Why: "a weekend's outage should cost nothing", Fix: "raise buffer.max_bytes"},
		{ID: "buf-oldest", Section: buffer, Looks: "how old what the hub lacks is", Why: "the hub's products wait for it", Fix: "see to the way to the hub, section cloud; what waits is sent by itself"},
	}
}
