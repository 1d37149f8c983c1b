package wsupgrade_test

import (
	"bufio"
	"io"
	"testing"

	"github.com/gobwas/ws"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/internal/testkit/serve"
	"github.com/millrace/millrace/wsupgrade"
)

// TestSendText: a browser gets text as text, and bytes as bytes.
func TestSendText(t *testing.T) {
	_, addr := serve.Start(t, engine.Config{Handler: engine.HandlerFuncs{Open: func(s *engine.Session) {
		_ = s.SendText("text")
		_ = s.Send([]byte("bytes"))
	}}}, wsupgrade.New(wsupgrade.Config{Plain: []string{"/"}}))
	c, br, _, err := ws.Dial(t.Context(), "ws://"+addr+"/")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	from := frameReader(c, br)
	for _, want := range []struct {
		op      ws.OpCode
		payload string
	}{{ws.OpText, "text"}, {ws.OpBinary, "bytes"}} {
		f, err := ws.ReadFrame(from)
		if err != nil || f.Header.OpCode != want.op || string(f.Payload) != want.payload {
			t.Errorf("%+v %q, %v", f.Header, f.Payload, err)
		}
	}
}

// frameReader reads from br, which holds what came right after the handshake, or from c.
func frameReader(c io.Reader, br *bufio.Reader) io.Reader {
	if br != nil {
		return br
	}
	return c
}
