package main

import (
	"context"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"plantmesh/edge/agent"
	"plantmesh/edge/source/opcua"
	"plantmesh/edge/source/opcua/browse"
	"plantmesh/proto/mesh"
)

// measureEvery is how often a variable is looked at while its changes are counted.
const measureEvery = 200 * time.Millisecond

// propertyType is the type definition of properties.
const propertyType = "i=68"

// preview counts how often the proposed signals change, and reckons what that costs.
func (c *browseCmd) preview(ctx context.Context, s opcua.Caller, edge *agent.Config, t *tree, file *browse.Proposal) (*browse.Preview, error) {
	places := map[string]int{}
	for i := range t.nodes {
		places[t.nodes[i].ID] = i
	}
	var (
		list  []*browse.Node
		table []mesh.Signal
	)
	for _, m := range file.Machines {
		for _, sig := range m.Signals {
			kind, _ := mesh.ParseType(sig.Type)
			table = append(table, mesh.Signal{ID: uint32(len(table)), Name: sig.Name, Type: kind, Unit: sig.Unit})
			list = append(list, &t.nodes[places[sig.Node]])
		}
	}
	poll, err := browse.NewPoller(ctx, s, list)
	if err != nil {
		return nil, err
	}
	rate, err := poll.Measure(ctx, c.Measure, measureEvery)
	if err != nil {
		return nil, err
	}
	cost, err := agent.Cost(ctx, edge, table, samples(rate.Changes[min(len(list), len(rate.Changes)):], list, table), rate.Measured)
	if err != nil {
		return nil, err
	}
	p := &browse.Preview{
		Sessions: 1, Items: len(list), ValuesPerSecond: rate.PerSecond, MeasuredSeconds: rate.Measured.Seconds(), Every: rate.Every.Seconds(), Fast: rate.Fast,
		BytesPerValue: cost.KeptPerValue, BytesPerDay: cost.KeptPerDay, WrittenPerDay: cost.WrittenPerDay, BufferBytes: cost.BufferBytes, Basis: cost.Basis,
	}
	if cost.BufferHours > 0 {
		p.BufferHours = &cost.BufferHours
	}
	p.Filled, p.Empty = browse.Feeds(file.Machines)
	return p, nil
}

// samples are changes as the agent would keep them.
func samples(changes []browse.Change, list []*browse.Node, table []mesh.Signal) (out []mesh.Sample) {
	places := map[*browse.Node]int{}
	for i, n := range list {
		places[n] = i
	}
	for _, c := range changes {
		sig := table[places[c.Node]]
		x := mesh.Sample{Signal: sig.ID, Value: mesh.Text(c.Value.Text)}
		if c.Value.Source != nil {
			x.Time, x.Source = mesh.NanosOf(*c.Value.Source), mesh.NanosOf(*c.Value.Source)
		}
		if c.Value.Server != nil {
			x.Server = mesh.NanosOf(*c.Value.Server)
		}
		switch f, err := strconv.ParseFloat(c.Value.Text, 64); {
		case sig.Type == mesh.TypeBool:
			x.Value = mesh.Bool(c.Value.Text == "true")
		case err == nil && sig.Type == mesh.TypeDouble:
			x.Value = mesh.Double(f)
		case err == nil && sig.Type == mesh.TypeInt:
			x.Value = mesh.Int(int64(f))
		case err == nil && sig.Type == mesh.TypeUint:
			x.Value = mesh.Uint(uint64(f))
		}
		out = append(out, x)
	}
	return out
}

func (c *browseCmd) sourceID(endpoint string) string {
	if c.ID != "" {
		return c.ID
	}
	host := "server"
	if u, err := url.Parse(endpoint); err == nil {
		host = u.Host
	}
	return "opcua-" + strings.Trim(regexp.MustCompile(`[^A-Za-z0-9._-]+`).ReplaceAllString(host, "-"), "-")
}

// securityLines are a section security that calls the server in the same way.
func securityLines(s opcua.Security) (out []string) {
	if s.Insecure {
		return []string{"insecure: true # neither signed nor encrypted: everyone on that network can read and change what is sent"}
	}
	for _, f := range [][2]string{
		{"policy", s.Policy},
		{"mode", strings.TrimPrefix(s.Mode, "SignAndEncrypt")},
		{"user", s.User},
		{"password_file", s.PasswordFile},
		{"user_certificate", s.UserCertificate},
		{"user_key", s.UserKey},
	} {
		if f[1] != "" {
			out = append(out, f[0]+": "+strconv.Quote(f[1]))
		}
	}
	for _, f := range []struct {
		name string
		set  bool
	}{{"accept_expired", s.AcceptExpired}, {"accept_host_mismatch", s.AcceptHostMismatch}, {"accept_uri_mismatch", s.AcceptURIMismatch}} {
		if f.set {
			out = append(out, f.name+": true")
		}
	}
	return out
}
