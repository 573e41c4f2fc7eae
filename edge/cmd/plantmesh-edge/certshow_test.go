package main

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"plantmesh/edge/source/opcua/trust"
	"plantmesh/proto/answer"
)

// What is exported is the gateway's own certificate, in both forms the same, readable by
// whoever carries it to a server, and never with the key.
func TestCertExport(t *testing.T) {
	dir := t.TempDir()
	c := &certCmd{Config: filepath.Join(dir, "edge.yaml")}
	if err := os.WriteFile(c.Config, []byte("agent: gw-1\nsite: graz\ndata: data\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, said bytes.Buffer
	p := &answer.Printer{Program: "plantmesh-edge", Out: &out, Err: &said}
	if err := new(certExportCmd).Run(c, p); err != nil {
		t.Fatal(err)
	}
	block, rest := pem.Decode(out.Bytes())
	if block == nil || block.Type != "CERTIFICATE" || len(rest) > 0 || strings.Contains(out.String(), "KEY") {
		t.Fatalf("it prints %s", out.String())
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "gw.der")
	if err := (&certExportCmd{DER: true, Out: file, ID: trust.Fingerprint(cert)}).Run(c, p); err != nil {
		t.Fatal(err)
	}
	der, err := os.ReadFile(file)
	if info, err2 := os.Stat(file); err != nil || err2 != nil || !bytes.Equal(der, cert.Raw) || info.Mode().Perm() != 0o644 {
		t.Errorf("the file: %v, %v, %d bytes", err, err2, len(der))
	}
	out.Reset()
	if err := new(certShowCmd).Run(c, p); err != nil || !strings.Contains(out.String(), "role         own\n") || !strings.Contains(out.String(), "sha256       "+trust.Fingerprint(cert)+"\n") {
		t.Errorf("%v: it shows %s", err, out.String())
	}
}
