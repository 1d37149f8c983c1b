package main

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
)

func TestMisuse(t *testing.T) {
	for _, c := range []struct{ args, names string }{
		{"--rounds 0", "--rounds"},
		{"--rounds 51", "--rounds"},
		{"--duration 0", "--duration"},
		{"--duration 2m", "--duration"},
		{"--warmup 0", "--warmup"},
		{"--group udp", `"udp"`},
		{"--group tcp,", `""`},
		{"--only nginx", "nginx"},
		{"--revisions HEAD", "OLD,NEW"},
		{"--revisions ,HEAD", "OLD,NEW"},
		{"--binaries a,b,c", "OLD,NEW"},
		{"--revisions a,b --binaries a,b", "--binaries"},
		{"--revisions a,b --group open", `"open"`},
		{"--revisions a,b --only gnet", "gnet"},
		{"--msgtrans nowhere", "msgtrans"},
		{"--msgtrans /", "msgtrans"},
		{"--revisions a,b --uwebsockets .", "--uwebsockets"},
		{"--speed 11", "speed"},
		{"now", "now"},
	} {
		var stdout, stderr bytes.Buffer
		if code := run(context.Background(), strings.Fields(c.args), &stdout, &stderr); code != 2 {
			t.Errorf("%s: exit code %d", c.args, code)
		}
		if !strings.Contains(stderr.String(), c.names) {
			t.Errorf("%s: stderr %q", c.args, stderr.String())
		}
	}
}

func TestChoose(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"--group ws --only GOR", "ws:gorilla"},
		{"--group tcp --only millrace", "tcp:Millrace, inline;Millrace, workers"},
		{"--only gobwas", "ws:gobwas + bufio msgtrans:gobwas + bufio"},
		{"--group ws --only uWebSockets --uwebsockets .", "ws:" + uwebsockets},
		{"--group msgtrans --only msgtrans --msgtrans /bin/sh", "msgtrans:msgtrans;msgtrans"},
		{"--group ws,tcp --only nbio", "ws:nbio tcp:nbio"},
		{"--revisions a,b --group quic", "quic:Millrace, inline;Millrace, workers"},
		{"--binaries a,b --only inline", "tcp:Millrace, inline ws:Millrace, inline tls:Millrace, inline quic:Millrace, inline " +
			"msgtrans:Millrace, inline;Millrace, inline;Millrace, inline"},
	} {
		set, err := parseFlags(strings.Fields(c.args), io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, g := range set.groups {
			var names []string
			for _, c := range g.contestants {
				names = append(names, c.name)
			}
			got = append(got, g.name+":"+strings.Join(names, ";"))
		}
		if strings.Join(got, " ") != c.want || set.write != "" && (strings.Contains(c.args, "--only") || set.pairs()) {
			t.Errorf("%s: %q, want %q; writes %q", c.args, got, c.want, set.write)
		}
	}
	if len(tcpGroup.contestants) != 7 {
		t.Errorf("choosing has changed the group itself: %v", tcpGroup.contestants)
	}
}
