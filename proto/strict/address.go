package strict

import (
	"cmp"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// Scheme is a way to call something, and the port that is usual for it.
type Scheme struct{ Name, Port string }

// AddressFault is why an address can't be called, and one that could be meant.
type AddressFault struct {
	Why   string // in words; empty: there is no address at all
	Write string // what to write instead
	Whole bool   // Write is what was meant, as far as can be told; else its host is a placeholder
}

// String goes behind a sentence that says which address is none.
func (f *AddressFault) String() string {
	if f == nil || f.Why == "" {
		return ""
	}
	return ": " + f.Why + "; write " + f.Write
}

// Address says what is wrong with scheme://host:port; nil: nothing. The first of the schemes is
// proposed where none is near.
func Address(text string, schemes ...Scheme) *AddressFault {
	f := &AddressFault{Write: schemes[0].Name + "://host:" + schemes[0].Port}
	if text == "" {
		return f
	}
	scheme, rest, _ := strings.Cut(text, ":")
	slashes := len(rest) - len(strings.TrimLeft(rest, "/"))
	rest = rest[slashes:]
	used, sure := meant(scheme, schemes)
	switch {
	case slashes == 0:
		used, sure, rest = schemes[0], true, text
		f.Why = "it must begin with " + used.Name + "://"
	case !sure || used.Name != scheme:
		f.Why = "its scheme must be " + names(schemes)
	case slashes != 2:
		f.Why = "behind " + scheme + ": stand two slashes"
	}
	host, port, why := authority(rest, used.Port)
	if f.Why == "" {
		f.Why = why
	}
	if u, err := url.Parse(text); f.Why == "" && (err != nil || u.Hostname() == "") {
		f.Why, host = "it can't be read", ""
	}
	if f.Why == "" {
		return nil
	}
	f.Whole = host != "" && sure
	if host == "" {
		host = "host"
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	f.Write = used.Name + "://" + net.JoinHostPort(host, port) + rest[end:]
	return f
}

// meant is the scheme that is named, or nearest to what is.
func meant(word string, schemes []Scheme) (s Scheme, sure bool) {
	var all []string
	for _, s := range schemes {
		if all = append(all, s.Name); s.Name == word {
			return s, true
		}
	}
	near := Nearest(strings.ToLower(word), all)
	for _, s := range schemes {
		if s.Name == near {
			return s, true
		}
	}
	return schemes[0], false
}

func names(schemes []Scheme) string {
	var all []string
	for _, s := range schemes {
		all = append(all, s.Name+"://")
	}
	return strings.Join(all, " or ")
}

// authority takes host and port out of what stands behind scheme://, as they should be, and
// says what is wrong with them. Of a user that stands there nothing is said again.
func authority(rest, usual string) (host, port, why string) {
	if end := strings.IndexAny(rest, "/?#"); end >= 0 {
		rest = rest[:end]
	}
	rest = rest[strings.LastIndex(rest, "@")+1:]
	switch {
	case strings.HasPrefix(rest, "["):
		inside, behind, ok := strings.Cut(rest[1:], "]")
		if host = inside; !ok || !isIP(inside) || behind != "" && behind[0] != ':' {
			return "", usual, "an IPv6 address stands in brackets, as [fe80::1]"
		}
		port = cmp.Or(strings.TrimPrefix(behind, ":"), usual)
	case strings.Count(rest, ":") > 1:
		if host, port = bare(rest, usual); host == "" {
			return "", usual, "its host can't be read"
		}
		why = "an IPv6 address stands in brackets"
	default:
		host, port, _ = strings.Cut(rest, ":")
		if port = cmp.Or(port, usual); host == "" {
			why = "the host is missing"
		}
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		if port = usual; why == "" {
			why = "its port must be a number from 1 to 65535"
		}
	}
	return host, port, why
}

// bare reads an IPv6 address without brackets; a port may stand behind it.
func bare(text, usual string) (host, port string) {
	host, port = text, usual
	if at := strings.LastIndex(text, ":"); text[at+1:] == usual || !isIP(text) {
		host, port = text[:at], text[at+1:]
	}
	if !isIP(host) {
		return "", usual
	}
	return host, port
}

func isIP(s string) bool {
	s, _, _ = strings.Cut(strings.Replace(s, "%25", "%", 1), "%")
	_, err := netip.ParseAddr(s)
	return err == nil
}
