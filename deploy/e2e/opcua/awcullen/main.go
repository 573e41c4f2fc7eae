// Command awcullen is github.com/awcullen/opcua as a server under test. It has a
// module of its own: nothing else needs what it pulls in. Its orders and answers
// are those of testdata/server.js.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/awcullen/opcua/server"
	"github.com/awcullen/opcua/ua"
)

type plan struct {
	Port   int    `json:"port"`
	Dir    string `json:"dir"`
	URI    string `json:"uri"`
	Cert   string `json:"cert"`
	Key    string `json:"key"`
	Base   int64  `json:"base"`
	Period int64  `json:"period"`
	Items  int    `json:"items"`
	Plant  string `json:"plant"`
	Wary   bool   `json:"wary"`
	Users  []byte `json:"users"` // the one certificate that may log in, DER
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	if !lines.Scan() {
		return lines.Err()
	}
	var p plan
	if err := json.Unmarshal(lines.Bytes(), &p); err != nil {
		return err
	}
	url := fmt.Sprintf("opc.tcp://127.0.0.1:%d", p.Port)
	options := []server.Option{
		server.WithAnonymousIdentity(true), server.WithSecurityPolicyNone(true),
		server.WithAuthenticateUserNameIdentityFunc(func(u ua.UserNameIdentity, _, _ string) error {
			if u.UserName == "anna" && u.Password == "open sesame" {
				return nil
			}
			return ua.BadUserAccessDenied
		}),
		server.WithAuthenticateX509IdentityFunc(func(u ua.X509Identity, _, _ string) error {
			if string(u.Certificate) == string(p.Users) {
				return nil
			}
			return ua.BadUserAccessDenied
		}),
	}
	if p.Wary {
		trusted := filepath.Join(p.Dir, "trusted")
		if err := os.MkdirAll(trusted, 0o700); err != nil {
			return err
		}
		options = append(options, server.WithTrustedCertificatesPaths(trusted, trusted))
	} else {
		options = append(options, server.WithInsecureSkipVerify())
	}
	srv, err := server.New(ua.ApplicationDescription{
		ApplicationURI: p.URI, ProductURI: "urn:plantmesh:test", ApplicationName: ua.LocalizedText{Text: "awcullen"},
		ApplicationType: ua.ApplicationTypeServer, DiscoveryURLs: []string{url},
	}, p.Cert, p.Key, url, options...)
	if err != nil {
		return err
	}
	counters, err := p.counters(srv)
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- srv.ListenAndServe() }()
	go p.count(counters)
	select {
	case err := <-ended:
		return err
	case <-time.After(200 * time.Millisecond): // it says nothing when it is ready
	}
	fmt.Printf(">{\"tick\":%d}\n", p.tick())
	for lines.Scan() {
		var o struct {
			Do string `json:"do"`
		}
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			return err
		}
		fmt.Printf(">{\"tick\":%d}\n", p.tick())
		if o.Do == "stop" {
			return srv.Close()
		}
	}
	return lines.Err()
}

func (p *plan) tick() int64 { return (time.Now().UnixMilli() - p.Base) / p.Period }

func (p *plan) value(i int, tick int64) ua.DataValue {
	at := time.UnixMilli(p.Base + tick*p.Period)
	return ua.NewDataValue(float64(i)*1e8+float64(tick), ua.Good, at, 0, time.Now(), 0)
}

func (p *plan) counters(srv *server.Server) (out []*server.VariableNode, err error) {
	ns := srv.NamespaceManager().Add(p.Plant)
	objects := []ua.Reference{
		{ReferenceTypeID: ua.ReferenceTypeIDOrganizes, IsInverse: true, TargetID: ua.ExpandedNodeID{NodeID: ua.ObjectIDObjectsFolder}},
		{ReferenceTypeID: ua.ReferenceTypeIDHasTypeDefinition, TargetID: ua.ExpandedNodeID{NodeID: ua.VariableTypeIDBaseDataVariableType}},
	}
	for i := range p.Items {
		name := fmt.Sprintf("v%d", i)
		v := server.NewVariableNode(srv, ua.NewNodeIDString(ns, name), ua.NewQualifiedName(ns, name), ua.NewLocalizedText(name, ""), ua.NewLocalizedText("", ""),
			nil, objects, p.value(i, p.tick()), ua.DataTypeIDDouble, ua.ValueRankScalar, nil, ua.AccessLevelsCurrentRead, 100, false, nil)
		if err := srv.NamespaceManager().AddNode(v); err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

// count sets the counters, each tick with its own stamp.
func (p *plan) count(counters []*server.VariableNode) {
	at := p.tick()
	for range time.Tick(20 * time.Millisecond) {
		for now := p.tick(); at < now; {
			at++
			for i, v := range counters {
				v.SetValue(p.value(i, at))
			}
		}
	}
}
