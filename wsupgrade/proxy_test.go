package wsupgrade_test

import (
	"bytes"
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/internal/testkit"
	"github.com/millrace/millrace/wsupgrade"
)

// TestHazard29UpgradeBehindASplitProxyHeader cuts the PROXY header, version 2, in
// front of an upgrade request. The header is longer than the request.
func TestHazard29UpgradeBehindASplitProxyHeader(t *testing.T) {
	header := append([]byte("\r\n\r\n\x00\r\nQUIT\n\x20\x00\x01\xf4"), make([]byte, 500)...)
	for cut := 1; cut < len(header); cut += 71 {
		e := engine.New(engine.Config{Handler: newRecorder(), Cores: 1, LingerTimeout: time.Second})
		t.Cleanup(func() { _ = e.Close() })
		l, err := e.Listen("127.0.0.1:0", wsupgrade.Path("/ws"),
			engine.ProxyProtocol{Trusted: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Start(); err != nil {
			t.Fatal(err)
		}
		c := testkit.Dial(t, l.Addr().String())
		_, _ = c.Write(header[:cut])
		for e.Stats().BytesIn < uint64(cut) {
			time.Sleep(time.Millisecond) // the first piece isn't read yet
		}
		_, _ = c.Write(append(bytes.Clone(header[cut:]), upgradeRequest("/ws", "Sec-WebSocket-Version: 13")...))
		status := make([]byte, len("HTTP/1.1 101"))
		if _, err := io.ReadFull(c, status); err != nil || string(status) != "HTTP/1.1 101" {
			t.Fatalf("cut at %d: %q, %v", cut, status, err)
		}
		_ = c.Close()
		_ = e.Close()
	}
}
