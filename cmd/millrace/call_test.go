package main

import (
	"net"
	"strings"
	"testing"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/internal/testkit/serve"
	"github.com/millrace/millrace/quicbridge"
	"github.com/millrace/millrace/wsupgrade"
)

// serveAll serves h on all transports, and returns its address.
func serveAll(t *testing.T, h engine.Handler) string {
	t.Helper()
	_, addr := serve.Start(t, engine.Config{Handler: h, Cores: 1},
		engine.Packets(), wsupgrade.Path("/ws"), quicbridge.QUIC())
	return addr
}

// shout answers in upper case, and floods its caller first: these messages must not
// prevent the output of the answer.
var shout = engine.HandlerFunc(func(s *engine.Session, m *framing.Message) {
	for range 2000 {
		s.Send(make([]byte, 1024))
	}
	s.Reply(m, []byte(strings.ToUpper(string(m.Payload))))
})

func TestCall(t *testing.T) {
	addr := serveAll(t, shout)
	for _, args := range [][]string{
		{"call", "tcp://" + addr, "hello"},
		{"call", "ws://" + addr + "/ws", "hello"},
		{"call", "quic://" + addr, "hello", "--insecure"}, // flags after the arguments
		{"call", "--insecure", "--timeout", "4s", "quic://" + addr, "hello"},
		{"call", "quic://" + addr, "--insecure", "hello", "--timeout=4s"},
		{"call", "tcp://" + addr, "hello", "--insecure"},
	} {
		stdout, stderr, code := invoke(args...)
		if code != exitOK || stdout != "HELLO\n" || stderr != "" {
			t.Errorf("%q: exit %d, stdout %q, stderr %q", args, code, stdout, stderr)
		}
	}
	stdout, stderr, code := invoke("call", "tcp://"+addr, "--", "--dashes")
	if code != exitOK || stdout != "--DASHES\n" {
		t.Errorf("a payload after --: exit %d, stdout %q, stderr %q", code, stdout, stderr)
	}
}

// A call that fails is one line on stderr that names the URL, and 1.
func TestCallFails(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free := l.Addr().String()
	l.Close()
	failing := serveAll(t, engine.HandlerFunc(func(s *engine.Session, m *framing.Message) {
		switch string(m.Payload) {
		case "fail":
			s.SendMessage(&framing.Message{Type: framing.Response, ID: m.ID, Stream: m.Stream,
				Flags: framing.FlagFailed, Payload: []byte("\x00\x05two\nlines")})
		case "close":
			s.Close()
		}
	}))
	for _, tc := range []struct {
		args []string
		says string
	}{
		{[]string{"tcp://" + free, "x"}, "refused"},
		{[]string{"ws://" + free + "/ws", "x"}, "refused"},
		{[]string{"quic://" + failing, "x"}, "certificate"}, // no --insecure
		{[]string{"ws://" + failing + "/elsewhere", "x"}, "404"},
		{[]string{"tcp://" + failing, "silence", "--timeout", "20ms"}, "20ms"},
		{[]string{"ws://" + failing + "/ws", "fail"}, "code 5"},
		{[]string{"quic://" + failing, "fail", "--insecure"}, `two\nlines`},
		{[]string{"tcp://" + failing, "close"}, "closed by the peer"},
	} {
		stdout, stderr, code := invoke(append([]string{"call"}, tc.args...)...)
		if code != exitFailed || stdout != "" {
			t.Errorf("%q: exit %d, stdout %q, want exit 1 and nothing", tc.args, code, stdout)
		}
		if !strings.HasPrefix(stderr, "millrace: call "+tc.args[0]+": ") || strings.Count(stderr, "\n") != 1 ||
			!strings.Contains(stderr, tc.says) {
			t.Errorf("%q: stderr %q, want one line with %q", tc.args, stderr, tc.says)
		}
	}
}

// refusingWriter is a standard output that can't be written.
type refusingWriter struct{}

func (refusingWriter) Write([]byte) (int, error) { return 0, net.ErrClosed }

func TestCallCannotPrint(t *testing.T) {
	addr := serveAll(t, shout)
	var stderr strings.Builder
	if code := run([]string{"call", "tcp://" + addr, "x"}, refusingWriter{}, &stderr); code != exitFailed || stderr.Len() == 0 {
		t.Errorf("exit %d, stderr %q", code, stderr.String())
	}
}
