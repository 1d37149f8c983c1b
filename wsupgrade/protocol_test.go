package wsupgrade

import (
	"strings"
	"testing"
	"unsafe"

	"github.com/millrace/millrace/engine"
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

// TestPaths checks that each option determines the format of its path.
func TestPaths(t *testing.T) {
	p := New(Plain("/chat"), Packets("/"), Packets("/a/b"))
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
	if p := Path("/ws", Plain("/echo")); p.routes[0] != (route{path: "/ws"}) || p.routes[1] != (route{path: "/echo", plain: true}) {
		t.Errorf("Path made %+v", p.routes)
	}
}

func TestNewPanics(t *testing.T) {
	for name, make := range map[string]func(){
		"no path":    func() { New() },
		"no slash":   func() { Path("ws") },
		"empty":      func() { Path("") },
		"twice":      func() { Path("/ws", Plain("/ws")) },
		"query":      func() { New(Plain("/a?b=c")) },
		"escape":     func() { Path("/%77s") },
		"fragment":   func() { Path("/ws#top") },
		"space":      func() { Path("/a b") },
		"line feed":  func() { Path("/a\nb") },
		"not ASCII":  func() { Path("/ä") },
		"bad option": func() { Path("/ok", Packets("nok")) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if text, ok := recover().(string); !ok || !strings.HasPrefix(text, "wsupgrade: ") {
					t.Errorf("panicked with %q", text)
				}
			}()
			make()
		})
	}
}

// TestCodecSize bounds the memory that WebSocket adds to an idle session.
func TestCodecSize(t *testing.T) {
	if size := unsafe.Sizeof(codec{}); size > 32 {
		t.Errorf("a codec has %d bytes", size)
	}
}
