package serve

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"plantmesh/proto/strict"
)

// Bounds of a listener.
const (
	defaultClients               = 100
	mostClients                  = 10_000
	defaultMaxPacket strict.Size = 1 << 20
	largestMaxPacket strict.Size = 64 << 20
	// mostPerUser bounds the client ids of one user: each has a session that is kept.
	mostPerUser = 16
	// mostTwice bounds the messages of QoS 2 that a device has not released: the library
	// looks at all of them with each packet.
	mostTwice = 1_000
	// mostStrangers bounds the connections of one address that have not said yet who they
	// are; a refusal takes strangerPause, so that nobody tries all passwords.
	mostStrangers = 16
	strangerPause = time.Second
	// maxClientID bounds a client id. MQTT 5, 3.1.3.1 asks for 23 bytes at least.
	maxClientID = 128
	// maxPassword bounds a password and its file.
	maxPassword = 4 << 10
)

// Config says where devices call that know no broker, and who may.
type Config struct {
	Listen   string `yaml:"listen"`    // host:port, such as 127.0.0.1:1883 or 10.0.0.5:8883
	CertFile string `yaml:"cert_file"` // PEM certificate that devices are shown, with key_file
	KeyFile  string `yaml:"key_file"`  // PEM key of cert_file
	CAFile   string `yaml:"ca_file"`   // PEM certificates that sign those of devices; without it devices show none
	Insecure bool   `yaml:"insecure"`  // without cert_file beyond this machine: everyone on that network can read passwords and values, and change them

	Devices    []Device    `yaml:"devices"`     // who may call
	MaxClients int         `yaml:"max_clients"` // connections at a time; default 100
	MaxPacket  strict.Size `yaml:"max_packet"`  // a connection that sends a larger packet is ended; 1KiB to 64MiB, default 1MiB

	// Passing is a listener that keeps nothing and is gone soon: it does not say no to
	// anybody, but ends the connection, or leaves a message unanswered, as if it were not
	// there. So it does with a device that asks for a session which lasts: that would
	// learn that its session is gone, and drop what it holds for whoever has it (MQTT 5,
	// 3.2.2.1.1).
	Passing bool `yaml:"-"`
}

// Device is one user of the listener.
type Device struct {
	User         string   `yaml:"user"`          // as the device says it, or as its certificate is named where it shows one
	PasswordFile string   `yaml:"password_file"` // file with the password alone in it; without it the certificate must do
	Publish      []string `yaml:"publish"`       // topics it may publish, with + and #
}

// Validate fills in the defaults and checks the rest.
func (c *Config) Validate() error {
	if c.MaxClients == 0 {
		c.MaxClients = defaultClients
	}
	if c.MaxPacket == 0 {
		c.MaxPacket = defaultMaxPacket
	}
	host, _, err := net.SplitHostPort(c.Listen)
	switch {
	case err != nil:
		return strict.At("listen", "listen %q is no host:port", c.Listen)
	case (c.CertFile == "") != (c.KeyFile == ""):
		return strict.At("cert_file", "cert_file and key_file belong together: one of them is missing")
	case c.CertFile == "" && c.CAFile != "":
		return strict.At("ca_file", "devices show certificates over TLS only: cert_file and key_file are missing")
	case c.CertFile == "" && !c.Insecure && !loopback(host):
		return strict.At("listen", "%s can be reached from outside: give cert_file and key_file, or say insecure: true if everyone on that network may read passwords and values, and change them", c.Listen)
	case len(c.Devices) == 0:
		return strict.At("devices", "devices is empty: nobody may call")
	case c.MaxClients < 1 || c.MaxClients > mostClients:
		return strict.At("max_clients", "max_clients must lie between 1 and %d", mostClients)
	case c.MaxPacket < 1<<10 || c.MaxPacket > largestMaxPacket:
		return strict.At("max_packet", "max_packet must lie between 1KiB and 64MiB")
	}
	for i := range c.Devices {
		if err := c.device(i); err != nil {
			return strict.Under(fmt.Sprintf("devices[%d]", i), err)
		}
	}
	return nil
}

func (c *Config) device(i int) error {
	d := &c.Devices[i]
	switch {
	case d.User == "" || len(d.User) > maxClientID:
		return strict.At("user", "a device has no user, or one of more than %d bytes", maxClientID)
	case slices.ContainsFunc(c.Devices[:i], func(o Device) bool { return o.User == d.User }):
		return strict.At("user", "user %q stands twice", d.User)
	case d.PasswordFile == "" && c.CAFile == "":
		return strict.At("password_file", "device %q has neither a password_file nor, by ca_file, a certificate to show", d.User)
	case len(d.Publish) == 0:
		return strict.At("publish", "device %q may publish nothing: give its topics, such as plant/%s/#", d.User, d.User)
	}
	for k, f := range d.Publish {
		if !filter(f) {
			return strict.At(fmt.Sprintf("publish[%d]", k), "%q of device %q is no topic filter: + and # stand alone between slashes, # only at the end", f, d.User)
		}
	}
	return nil
}

// Files are the settings that name files, for who knows where they lie.
func (c *Config) Files() map[string]*string {
	out := map[string]*string{"cert_file": &c.CertFile, "key_file": &c.KeyFile, "ca_file": &c.CAFile}
	for i := range c.Devices {
		out[fmt.Sprintf("devices[%d].password_file", i)] = &c.Devices[i].PasswordFile
	}
	return out
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// filter reports whether a text is a topic filter (MQTT 5, 4.7.1).
func filter(text string) bool {
	levels := strings.Split(text, "/")
	for i, level := range levels {
		if strings.ContainsAny(level, "+#") && (len(level) > 1 || level == "#" && i < len(levels)-1) {
			return false
		}
	}
	return text != "" && !strings.ContainsRune(text, 0)
}

// matches reports whether a topic falls under a filter (MQTT 5, 4.7).
func matches(filter, topic string) bool {
	if strings.HasPrefix(topic, "$") && !strings.HasPrefix(filter, "$") {
		return false
	}
	for {
		f, rest, more := strings.Cut(filter, "/")
		if f == "#" {
			return true
		}
		t, left, deeper := strings.Cut(topic, "/")
		if f != "+" && f != t {
			return false
		}
		switch {
		case !more && !deeper:
			return true
		case more && !deeper:
			return rest == "#" // a/# is a too
		case !more:
			return false
		}
		filter, topic = rest, left
	}
}
