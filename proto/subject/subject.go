// Package subject is the only place that builds or reads NATS names: subjects,
// streams and the tokens in them.
package subject

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Road is the way a record takes; it is not part of its position.
type Road string

// The two roads. After an outage the live one goes first, the backlog drains
// beside it.
const (
	Live    Road = "live"
	Backlog Road = "backlog"
)

// Names of the streams of the hub.
const (
	IngestStream  = "INGEST"
	ProductStream = "PRODUCTS"
	// IngestAll is what the ingest stream listens to.
	IngestAll = "ingest.v1.>"
	// ProductAll is what the product stream listens to.
	ProductAll = "dp.v1.>"
)

// Ingest is where an agent publishes its records.
func Ingest(site, agent string, road Road) string {
	return fmt.Sprintf("ingest.v1.%s.%s.%s", site, agent, road)
}

// ParseIngest takes apart what Ingest made.
func ParseIngest(s string) (site, agent string, road Road, err error) {
	t := strings.Split(s, ".")
	if len(t) != 5 || t[0] != "ingest" || t[1] != "v1" || (t[4] != string(Live) && t[4] != string(Backlog)) {
		return "", "", "", fmt.Errorf("subject %q is not ingest.v1.<site>.<agent>.<live|backlog>", s)
	}
	return t[2], t[3], Road(t[4]), nil
}

// Canary is where a hub sends itself messages through the ingest stream, to see
// that it works. No site is named so, and no agent may publish there.
const Canary = "ingest.v1._canary"

// ParseCanary reports whether a subject is Canary.
func ParseCanary(s string) bool { return s == Canary }

// Receipt is where the hub answers an agent.
func Receipt(site, agent string) string { return fmt.Sprintf("ctl.v1.%s.%s.receipt", site, agent) }

// Resume is where an agent asks for its receipt when it connects.
func Resume(site, agent string) string { return fmt.Sprintf("ctl.v1.%s.%s.resume", site, agent) }

// ResumeAll is what the hub listens to for Resume.
const ResumeAll = "ctl.v1.*.*.resume"

// ParseResume takes apart what Resume made.
func ParseResume(s string) (site, agent string, err error) { return parseControl(s, "resume") }

func parseControl(s, what string) (site, agent string, err error) {
	t := strings.Split(s, ".")
	if len(t) != 5 || t[0] != "ctl" || t[1] != "v1" || t[4] != what {
		return "", "", fmt.Errorf("subject %q is not ctl.v1.<site>.<agent>.%s", s, what)
	}
	return t[2], t[3], nil
}

// Renew is where an agent asks for a new token before its own ends.
func Renew(site, agent string) string { return fmt.Sprintf("ctl.v1.%s.%s.renew", site, agent) }

// RenewAll is what the hub listens to for Renew.
const RenewAll = "ctl.v1.*.*.renew"

// ParseRenew takes apart what Renew made.
func ParseRenew(s string) (site, agent string, err error) { return parseControl(s, "renew") }

// Refresh is where the hub asks an agent to have its token renewed before that is due.
func Refresh(site, agent string) string { return fmt.Sprintf("ctl.v1.%s.%s.refresh", site, agent) }

// Report is where an agent says now and then how it is.
func Report(site, agent string) string { return fmt.Sprintf("ctl.v1.%s.%s.report", site, agent) }

// ReportAll is what the hub listens to for Report.
const ReportAll = "ctl.v1.*.*.report"

// ParseReport takes apart what Report made.
func ParseReport(s string) (site, agent string, err error) { return parseControl(s, "report") }

// Configuration is where an agent asks which configuration its hub wants.
func Configuration(site, agent string) string {
	return fmt.Sprintf("ctl.v1.%s.%s.configuration", site, agent)
}

// ConfigurationAll is what the hub listens to for Configuration.
const ConfigurationAll = "ctl.v1.*.*.configuration"

// ParseConfiguration takes apart what Configuration made.
func ParseConfiguration(s string) (site, agent string, err error) {
	return parseControl(s, "configuration")
}

// Nudge is where the hub has an agent ask at once. It says nothing.
func Nudge(site, agent string) string { return fmt.Sprintf("ctl.v1.%s.%s.nudge", site, agent) }

// Inbox is the prefix of an agent's replies; with a shared one agents could
// read each other's.
func Inbox(agent string) string { return "_INBOX." + agent }

// MayAnswer says whether an agent that asks may have its answer there: whoever asks names
// any subject, and the hub may publish on all.
func MayAnswer(agent, reply string) bool { return strings.HasPrefix(reply, Inbox(agent)+".") }

// Product is where rows of one entity of a product are published.
func Product(domain, product, major, site, line, equipment string) string {
	return strings.Join([]string{"dp", "v1", Token(domain), Token(product), Token(major), Token(site), Token(line), Token(equipment)}, ".")
}

// Products is the pattern of what a domain publishes: of one product, or of all where that
// is empty.
func Products(domain, product string) string {
	p := strings.Join([]string{"dp", "v1", Token(domain)}, ".")
	if product != "" {
		p += "." + Token(product)
	}
	return p + ".>"
}

// ReaderAsks are the patterns on which a reader of products asks for the next rows, and
// says which it has: those of its own consumer, which has its name. From an account
// without streams they are asked for as those of a JetStream domain, which every client
// can name: an empty domain is the account of the stream itself.
func ReaderAsks(domain, name string) []string {
	api := "$JS.API."
	if domain != "" {
		api = "$JS." + Token(domain) + ".API."
	}
	return []string{
		api + "CONSUMER.INFO." + ProductStream + "." + name,
		api + "CONSUMER.MSG.NEXT." + ProductStream + "." + name,
		"$JS.ACK." + ProductStream + "." + name + ".>",
	}
}

// AgentLog is the log of an agent.
func AgentLog(site, agent string) string { return "agent/" + site + "/" + agent }

// ParseAgentLog takes apart what AgentLog made; ok is false for any other log.
func ParseAgentLog(log string) (site, agent string, ok bool) {
	t := strings.Split(log, "/")
	if len(t) != 3 || t[0] != "agent" {
		return "", "", false
	}
	return t[1], t[2], true
}

// Token makes a NATS-safe token of any name: lower case letters, digits, '_'
// and '-'; everything else becomes '-'. An empty name becomes "-".
func Token(name string) string {
	out := strings.Map(func(r rune) rune {
		r = unicode.ToLower(r)
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '_' || r == '-' {
			return r
		}
		return '-'
	}, name)
	if out == "" {
		return "-"
	}
	return out
}

// Escape makes a token of any text, of which Unescape makes that text again: letters
// and digits of any script, '_' and '-' stay; every other byte becomes %XX. So a level
// of a topic is one token of a signal's name, whatever stands in it. An empty text
// becomes "%".
func Escape(text string) string {
	if text == "" {
		return "%"
	}
	var b strings.Builder
	for i, r := range text {
		n := utf8.RuneLen(r)
		if r == utf8.RuneError { // also what is no UTF-8: byte for byte
			_, n = utf8.DecodeRuneInString(text[i:])
		} else if unicode.IsLetter(r) || unicode.IsDigit(r) || r == '_' || r == '-' {
			b.WriteRune(r)
			continue
		}
		for _, c := range []byte(text[i : i+n]) {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// Unescape takes back what Escape made; ok is false for what it never makes.
func Unescape(token string) (text string, ok bool) {
	if token == "%" {
		return "", true
	}
	var b []byte
	for i := 0; i < len(token); i++ {
		if token[i] != '%' {
			b = append(b, token[i])
			continue
		}
		if i+3 > len(token) {
			return "", false
		}
		c, err := strconv.ParseUint(token[i+1:i+3], 16, 8)
		if err != nil {
			return "", false
		}
		b = append(b, byte(c))
		i += 2
	}
	text = string(b)
	return text, Escape(text) == token
}

// Rank orders the subjects along the walk: whoever consumes a rank may publish
// only at a higher one. 0 is not on the walk (receipts carry positions only).
func Rank(subject string) int {
	switch {
	case subject == Canary: // says nothing
		return 0
	case strings.HasPrefix(subject, "ingest.v1."):
		return 1
	case strings.HasPrefix(subject, "dp.v1."), strings.HasPrefix(subject, "gap.v1."):
		return 2
	}
	return 0
}
