package main

import (
	"strings"
	"testing"
)

// invoke runs the program and returns its output and its exit code.
func invoke(args ...string) (stdout, stderr string, code int) {
	var out, err strings.Builder
	code = run(args, &out, &err)
	return out.String(), err.String(), code
}

func TestHelp(t *testing.T) {
	for _, args := range [][]string{nil, {"--help"}, {"help"}} {
		stdout, stderr, code := invoke(args...)
		if code != exitOK || stderr != "" || !strings.Contains(stdout, "call") {
			t.Errorf("%q: exit %d, stdout %q, stderr %q", args, code, stdout, stderr)
		}
	}
	stdout, _, _ := invoke("call", "--help")
	for _, word := range []string{"--insecure", "--timeout", "URL", "PAYLOAD", "quic://"} {
		if !strings.Contains(stdout, word) {
			t.Errorf("the help of call doesn't describe %s: %q", word, stdout)
		}
	}
}

// A wrong command line gives one line on stderr that names the mistake, and exit code 2.
func TestBadUsage(t *testing.T) {
	for _, tc := range []struct {
		args string
		says string
	}{
		{"frobnicate", "frobnicate"},
		{"--frobnicate", "--frobnicate"},
		{"call", "URL and PAYLOAD"},
		{"call tcp://127.0.0.1:1", "PAYLOAD"},
		{"call tcp://127.0.0.1:1 a b", "PAYLOAD"},
		{"call tcp://127.0.0.1:1 a --frobnicate", "--frobnicate"},
		{"call tcp://127.0.0.1:1 a --timeout", "--timeout"},
		{"call tcp://127.0.0.1:1 a --timeout soon", "--timeout"},
		{"call tcp://127.0.0.1:1 a --timeout 0s", "--timeout"},
		{"call tcp://127.0.0.1:1 a --timeout -1s", "--timeout"},
		{"call tcp://127.0.0.1:1 a --insecure=maybe", "--insecure"},
		{"call 127.0.0.1:1 a", "URL"},
		{"call tcp://127.0.0.1 a", "URL"},
		{"call http://127.0.0.1:1 a", "http"},
	} {
		stdout, stderr, code := invoke(strings.Fields(tc.args)...)
		if code != exitUsage || stdout != "" {
			t.Errorf("%s: exit %d, stdout %q, want exit 2 and nothing", tc.args, code, stdout)
		}
		if !strings.HasPrefix(stderr, "millrace: ") || strings.Count(stderr, "\n") != 1 ||
			!strings.HasSuffix(stderr, "\n") || !strings.Contains(stderr, tc.says) {
			t.Errorf("%s: stderr %q, want one line with %q", tc.args, stderr, tc.says)
		}
	}
}
