package serve_test

import (
	"io"
	"testing"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/internal/testkit"
	"github.com/millrace/millrace/internal/testkit/serve"
)

func TestEcho(t *testing.T) {
	serve.EachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		_, addr := serve.Start(t, engine.Config{Handler: serve.Echo, Dispatch: d})
		c := testkit.Dial(t, addr)
		testkit.Write(t, c, serve.Packet(&framing.Message{Type: framing.Request, ID: 2, Ext: []byte("ext"), Payload: []byte("ping")}))
		_ = c.CloseWrite()
		m, err := serve.ReadPacket(c)
		if err != nil {
			t.Fatal(err)
		}
		if m.Type != framing.Response || m.ID != 2 || string(m.Payload) != "ping" {
			t.Errorf("got %+v", m)
		}
		if m, err := serve.ReadPacket(c); err != io.EOF {
			t.Errorf("got %v, %v; want the end", m, err)
		}
	})
}
