package wsupgrade

import (
	"bytes"
	"errors"
	"net/http"
	"strings"
	"testing"
	"unsafe"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/internal/testkit"
)

func TestMatch(t *testing.T) {
	p := Path("/ws")
	for _, tc := range []struct {
		first string
		want  engine.Match
	}{
		{"G", engine.MatchMore},
		{"GE", engine.MatchMore},
		{"GET", engine.MatchMore},
		{"GET ", engine.MatchYes},
		{"GET /ws HTTP/1.1\r\n", engine.MatchYes},
		{"P", engine.MatchNo},
		{"GEX", engine.MatchNo},
		{"GETA", engine.MatchNo},
		{"get ", engine.MatchNo},
		{"POST ", engine.MatchNo},
		{"\x01", engine.MatchNo},
		{"\x16\x03\x01", engine.MatchNo},
	} {
		if got := p.Match([]byte(tc.first)); got != tc.want {
			t.Errorf("Match(%q) = %d, want %d", tc.first, got, tc.want)
		}
	}
	if p.Name() != "ws" {
		t.Errorf("Name is %q", p.Name())
	}
}

// TestPaths checks that each field of Config determines the format of its path.
func TestPaths(t *testing.T) {
	p := New(Config{Plain: []string{"/chat"}, Packets: []string{"/", "/a/b"}})
	for path, plain := range map[string]bool{"/chat": true, "/": false, "/a/b": false} {
		if r, ok := p.find(path); !ok || r.plain != plain {
			t.Errorf("route of %q is %+v, %v", path, r, ok)
		}
	}
	for _, path := range []string{"", "/chat/", "/Chat", "/a", "chat"} {
		if r, ok := p.find(path); ok {
			t.Errorf("%q found %+v", path, r)
		}
	}
	p = New(Config{Packets: []string{"/ws"}, Plain: []string{"/echo"}})
	if p.routes[0] != (route{path: "/ws"}) || p.routes[1] != (route{path: "/echo", plain: true}) {
		t.Errorf("Path made %+v", p.routes)
	}
}

func TestValidate(t *testing.T) {
	packets := func(paths ...string) Config { return Config{Packets: paths} }
	for name, cfg := range map[string]Config{
		"no path":         {},
		"no slash":        packets("ws"),
		"empty":           packets(""),
		"twice":           {Packets: []string{"/ws"}, Plain: []string{"/ws"}},
		"query":           {Plain: []string{"/a?b=c"}},
		"escape":          packets("/%77s"),
		"fragment":        packets("/ws#top"),
		"space":           packets("/a b"),
		"line feed":       packets("/a\nb"),
		"not ASCII":       packets("/ä"),
		"second":          packets("/ok", "nok"),
		"origin":          {Packets: []string{"/ws"}, Origins: []string{"example.com"}},
		"path of origin":  {Packets: []string{"/ws"}, Origins: []string{"https://example.com/"}},
		"name of a field": {Packets: []string{"/ws"}, KeepHeaders: []string{"User Agent"}},
	} {
		p := New(cfg)
		if err := p.Validate(); err == nil || !strings.HasPrefix(err.Error(), "wsupgrade: ") {
			t.Errorf("%s: %v", name, err)
		}
		e := engine.New(engine.Config{Handler: engine.HandlerFuncs{}, Cores: 1})
		if _, err := e.Listen("127.0.0.1:0", p); err == nil {
			t.Errorf("%s: Listen", name)
		}
		_ = e.Close()
		if _, _, err := p.Connect(t.Context(), nil, "", *testLimits()); err == nil {
			t.Errorf("%s: Connect", name)
		}
	}
	good := Config{Packets: []string{"/ws"}, Origins: []string{"*", "https://*.example.com"}, KeepHeaders: []string{"cookie"}}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
}

// TestOrigins asks from pages of several origins.
func TestOrigins(t *testing.T) {
	p := New(Config{Packets: []string{"/ws"}, Origins: []string{"https://app.example.com", "https://*.example.org"}})
	for origin, want := range map[string]bool{
		"":                            true,
		"http://chat.example.net":     true,
		"https://CHAT.example.net":    true,
		"https://chat.example.net:81": false,
		"https://app.example.com":     true,
		"http://app.example.com":      false,
		"https://a.example.org":       true,
		"https://a.b.example.org":     true,
		"https://example.org":         false,
		"https://.example.org":        false,
		"https://aexample.org":        false,
		"http://a.example.org":        false,
		"https://example.com":         false,
		"null":                        false,
		"%":                           false,
	} {
		if got := p.admitsOrigin(origin, "chat.example.net"); got != want {
			t.Errorf("%q: %v", origin, got)
		}
	}
	if !New(Config{Packets: []string{"/ws"}, Origins: []string{"*"}}).admitsOrigin("null", "x") {
		t.Error("* does not admit every page")
	}
	c, s := newServerCodec(p, testLimits()), &fakeSession{}
	o := feed(t, c, s, bytes.Replace(request("/ws"), []byte("http://server."), []byte("http://other."), 1))
	var refused *HandshakeError
	if !errors.As(o.err, &refused) || refused.Status != http.StatusForbidden || s.established > 0 {
		t.Errorf("%+v", o)
	}
}

// TestCodecSize bounds the memory that WebSocket adds to an idle session.
func TestCodecSize(t *testing.T) {
	if size := unsafe.Sizeof(codec{}); size > 32 {
		t.Errorf("a codec has %d bytes", size)
	}
}

func TestHazard24EverySettingIsRead(t *testing.T) {
	testkit.EverySettingIsRead(t, Config{}, testkit.TestsIn(t, "."), map[string]testkit.Proof{
		"Packets":     {Test: "TestForeignClientPackets", Why: "without it there is no such path"},
		"Plain":       {Test: "TestForeignClientEcho", Why: "without it there is no such path"},
		"Origins":     {Test: "TestOrigins", Why: "the default refuses them"},
		"KeepURL":     {Test: "TestRequestOf", Why: "the default keeps nothing"},
		"KeepHeaders": {Test: "TestRequestOf", Why: "the default keeps nothing"},
	})
}
