package wsupgrade_test

import (
	"bytes"
	"crypto/tls"
	"net"
	"net/url"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/internal/testkit"
	"github.com/millrace/millrace/wsupgrade"
)

// TestForeignClientOverTLS speaks wss with gobwas's client, beside plain ws at
// the same address.
func TestForeignClientOverTLS(t *testing.T) {
	for name, d := range map[string]engine.Dispatch{"workers": engine.Workers, "inline": engine.Inline} {
		t.Run(name, func(t *testing.T) {
			names := make(chan string, 100)
			e := engine.New(engine.Config{Dispatch: d, Handler: engine.HandlerFunc(func(s *engine.Session, m *framing.Message) {
				names <- s.Transport()
				_ = s.SendMessage(m)
			})})
			defer e.Close()
			l, err := e.Listen("127.0.0.1:0", engine.TLS(engine.TLSConfig{SelfSigned: true}), engine.Packets(),
				wsupgrade.New(wsupgrade.Config{Plain: []string{"/any"}}))
			if err != nil {
				t.Fatal(err)
			}
			if err := e.Start(); err != nil {
				t.Fatal(err)
			}
			for _, want := range []string{"wss", "ws"} {
				var conn net.Conn
				if conn, err = net.Dial("tcp", l.Addr().String()); err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				_ = conn.SetDeadline(time.Now().Add(testkit.Patience))
				if want == "wss" {
					conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
				}
				if _, _, err := (ws.Dialer{}).Upgrade(conn, &url.URL{Scheme: want, Host: l.Addr().String(), Path: "/any"}); err != nil {
					t.Fatal(err)
				}
				for _, size := range []int{0, 5, 70_000, 1 << 20} {
					message := bytes.Repeat([]byte("m"), size)
					if err := wsutil.WriteClientBinary(conn, message); err != nil {
						t.Fatal(err)
					}
					got, op, err := wsutil.ReadServerData(conn)
					if err != nil || op != ws.OpBinary || !bytes.Equal(got, message) {
						t.Fatalf("%d bytes, %v, %v", len(got), op, err)
					}
					if name := <-names; name != want {
						t.Fatal(name)
					}
				}
				if err := ws.WriteFrame(conn, ws.MaskFrameInPlace(ws.NewCloseFrame(ws.NewCloseFrameBody(1000, "")))); err != nil {
					t.Fatal(err)
				}
				if f, err := ws.ReadFrame(conn); err != nil || f.Header.OpCode != ws.OpClose {
					t.Fatal(f.Header, err)
				}
			}
		})
	}
}
