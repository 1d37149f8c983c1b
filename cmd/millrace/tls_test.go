package main

import (
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/wsupgrade"
)

func TestCallOverTLS(t *testing.T) {
	protocol := engine.TLS(engine.TLSConfig{SelfSigned: true})
	e := engine.New(engine.Config{Handler: shout})
	defer e.Close()
	l, err := e.Listen("127.0.0.1:0", protocol, engine.Packets(), wsupgrade.Path("/ws"))
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	ca, empty := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "empty.pem")
	block := &pem.Block{Type: "CERTIFICATE", Bytes: protocol.ServerConfig().Certificates[0].Certificate[0]}
	for name, b := range map[string][]byte{ca: pem.EncodeToMemory(block), empty: nil} {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, url := range []string{"tls://" + l.Addr().String(), "wss://" + l.Addr().String() + "/ws"} {
		for _, tc := range []struct {
			args []string
			code int
			says string
		}{
			{[]string{"--insecure"}, exitOK, "HELLO\n"},
			{[]string{"--ca", ca}, exitOK, "HELLO\n"},
			{nil, exitFailed, "certificate"},
			{[]string{"--ca", empty}, exitFailed, "holds no certificate"},
			{[]string{"--ca", filepath.Join(dir, "missing")}, exitFailed, "--ca: open"},
			{[]string{"--ca", ca, "--insecure"}, exitUsage, "choose"},
		} {
			stdout, stderr, code := invoke(append([]string{"call", url, "hello"}, tc.args...)...)
			if code != tc.code || !strings.Contains(stdout+stderr, tc.says) {
				t.Errorf("%s %q: exit %d, %q, %q", url, tc.args, code, stdout, stderr)
			}
		}
	}
}
