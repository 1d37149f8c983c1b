package wsupgrade_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/internal/testkit"
	"github.com/millrace/millrace/wsupgrade"
)

// startHTTP is a net/http server with gobwas's upgrade, which selects the subprotocol
// "chat" and sends each message back.
func startHTTP(t *testing.T, requests chan<- *http.Request) (addr string) {
	t.Helper()
	hs := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u := ws.HTTPUpgrader{Protocol: func(name string) bool { return name == "chat" }}
		conn, _, _, err := u.Upgrade(r, w)
		if err != nil {
			return
		}
		requests <- r
		go func() {
			defer conn.Close()
			for {
				b, op, err := wsutil.ReadClientData(conn)
				if err != nil || wsutil.WriteServerMessage(conn, op, b) != nil {
					return
				}
			}
		}()
	}))
	t.Cleanup(hs.Close)
	return hs.Listener.Addr().String()
}

// TestDialer sends a request with everything in it to a server of net/http.
func TestDialer(t *testing.T) {
	requests, replies := make(chan *http.Request, 2), make(chan *framing.Message, 2)
	addr := startHTTP(t, requests)
	e := engine.New(engine.Config{Handler: engine.HandlerFunc(func(_ *engine.Session, m *framing.Message) { replies <- m.Clone() })})
	defer e.Close()
	var selected []string
	s, err := e.Dial(t.Context(), addr, wsupgrade.NewDialer(wsupgrade.DialConfig{
		RequestURI:   "/a%20b/?token=x%26y&z",
		Plain:        true,
		Header:       http.Header{"Origin": {"https://example.org"}, "Cookie": {"a=1", "b=2"}},
		Subprotocols: []string{"mqtt", "chat"},
		Accepted:     func(name string) { selected = append(selected, name) },
	}))
	if err != nil {
		t.Fatal(err)
	}
	r := testkit.Receive(t, requests, "the request")
	if r.RequestURI != "/a%20b/?token=x%26y&z" || r.Host != addr || r.Header.Get("Origin") != "https://example.org" ||
		!slices.Equal(r.Header["Cookie"], []string{"a=1", "b=2"}) || r.Header.Get("Sec-WebSocket-Protocol") != "mqtt, chat" {
		t.Errorf("the server got %s of %s with %v", r.RequestURI, r.Host, r.Header)
	}
	if !slices.Equal(selected, []string{"chat"}) {
		t.Errorf("selected %q", selected)
	}
	if err := s.SendMessage(&framing.Message{Text: true, Payload: []byte("plain")}); err != nil {
		t.Fatal(err)
	}
	if m := testkit.Receive(t, replies, "a reply"); string(m.Payload) != "plain" || !m.Text {
		t.Errorf("got %+v", m)
	}

	s, err = e.Dial(t.Context(), addr, new(wsupgrade.Dialer)) // packets, and nothing more
	if err != nil {
		t.Fatal(err)
	}
	if r := testkit.Receive(t, requests, "the request"); r.RequestURI != "/" || r.Header.Get("Sec-WebSocket-Protocol") != "" {
		t.Errorf("the server got %s with %v", r.RequestURI, r.Header)
	}
	if err := s.SendMessage(&framing.Message{BizType: 7, Payload: []byte("packet")}); err != nil {
		t.Fatal(err)
	}
	if m := testkit.Receive(t, replies, "a reply"); string(m.Payload) != "packet" || m.BizType != 7 || m.Text {
		t.Errorf("got %+v", m)
	}
}

// TestDialerWithoutSubprotocol: a server may select none, and Accepted is told.
func TestDialerWithoutSubprotocol(t *testing.T) {
	requests := make(chan *http.Request, 1)
	addr := startHTTP(t, requests)
	e := engine.New(engine.Config{Handler: engine.HandlerFuncs{}})
	defer e.Close()
	selected := "not called"
	cfg := wsupgrade.DialConfig{Subprotocols: []string{"mqtt"}, Accepted: func(name string) { selected = name }}
	if _, err := e.Dial(t.Context(), addr, wsupgrade.NewDialer(cfg)); err != nil || selected != "" {
		t.Errorf("selected %q, %v", selected, err)
	}
}

// TestDialConfigValidate refuses each bad value, in Validate and before Connect
// writes.
func TestDialConfigValidate(t *testing.T) {
	for _, tc := range []struct {
		cfg  wsupgrade.DialConfig
		says string
	}{
		{wsupgrade.DialConfig{}, ""},
		{wsupgrade.DialConfig{RequestURI: "/a?b", Header: http.Header{"X-A": {"b\tc", "ü"}}, Subprotocols: []string{"a", "b"}}, ""},
		{wsupgrade.DialConfig{RequestURI: "a"}, "RequestURI"},
		{wsupgrade.DialConfig{RequestURI: "http://example.org/"}, "RequestURI"},
		{wsupgrade.DialConfig{RequestURI: "/a b"}, "RequestURI"},
		{wsupgrade.DialConfig{RequestURI: "/a#b"}, "RequestURI"},
		{wsupgrade.DialConfig{RequestURI: "/a?ü"}, "RequestURI"},
		{wsupgrade.DialConfig{RequestURI: "/%zz"}, "RequestURI"},
		{wsupgrade.DialConfig{Header: http.Header{"": {"a"}}}, "token"},
		{wsupgrade.DialConfig{Header: http.Header{"A B": {"a"}}}, "token"},
		{wsupgrade.DialConfig{Header: http.Header{"A": {"ok", "a\r\nB: c"}}}, "control"},
		{wsupgrade.DialConfig{Header: http.Header{"host": {"a"}}}, "host"},
		{wsupgrade.DialConfig{Header: http.Header{"Connection": {"close"}}}, "Connection"},
		{wsupgrade.DialConfig{Header: http.Header{"Sec-WebSocket-Key": {"a"}}}, "Sec-WebSocket-Key"},
		{wsupgrade.DialConfig{Header: http.Header{"Content-Length": {"1"}}}, "Content-Length"},
		{wsupgrade.DialConfig{Subprotocols: []string{""}}, "token"},
		{wsupgrade.DialConfig{Subprotocols: []string{"a,b"}}, "token"},
		{wsupgrade.DialConfig{Subprotocols: []string{"a", "b", "a"}}, "twice"},
	} {
		err := tc.cfg.Validate()
		if tc.says == "" {
			if err != nil {
				t.Error(err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%+v: got %v, want %q in it", tc.cfg, err, tc.says)
		}
		if _, _, err := wsupgrade.NewDialer(tc.cfg).Connect(t.Context(), nil, "", engine.Limits{}); err == nil {
			t.Errorf("%+v: connected", tc.cfg)
		}
	}
}

// TestListenRefusesDialer: a Dialer has no server side.
func TestListenRefusesDialer(t *testing.T) {
	e := engine.New(engine.Config{Handler: engine.HandlerFuncs{}})
	defer e.Close()
	if _, err := e.Listen("127.0.0.1:0", new(wsupgrade.Dialer)); err == nil {
		t.Error("listening")
	}
}

// TestDialerRefused gets the server's HTTP status.
func TestDialerRefused(t *testing.T) {
	e := engine.New(engine.Config{Handler: engine.HandlerFuncs{}})
	defer e.Close()
	_, addr := startWS(t, engine.Config{Handler: newRecorder()})
	cfg := wsupgrade.DialConfig{RequestURI: "/nowhere"}
	var refused *wsupgrade.HandshakeError
	if _, err := e.Dial(t.Context(), addr, wsupgrade.NewDialer(cfg)); !errors.As(err, &refused) || refused.Status != http.StatusNotFound {
		t.Errorf("got %v, want HTTP 404", err)
	}
}

// TestDialConfigIsRead wants a proof for every field of DialConfig.
func TestDialConfigIsRead(t *testing.T) {
	testkit.EverySettingIsRead(t, wsupgrade.DialConfig{}, testkit.TestsIn(t, "."), map[string]testkit.Proof{
		"RequestURI":   {Test: "TestDialer", Why: "the server must get the path and the query"},
		"Plain":        {Test: "TestDialer", Why: "without it a message is a packet"},
		"Header":       {Test: "TestDialer", Why: "the server must get the origin"},
		"Subprotocols": {Test: "TestDialer", Why: "the server must select one"},
		"Accepted":     {Test: "TestDialer", Why: "it must be called with that"},
	})
}
