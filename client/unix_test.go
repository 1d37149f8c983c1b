package client

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

func TestParseUnix(t *testing.T) {
	for raw, want := range map[string]string{
		"unix:///run/a.sock":    "unix:/run/a.sock",
		"unix:/run/a.sock":      "unix:/run/a.sock",
		"unix:///with%20blank":  "unix:/with blank",
		"unix:@abstract":        "unix:@abstract",
		"unix:relative":         "",
		"unix://":               "",
		"unix:///":              "",
		"unix:@":                "",
		"unix://host/path":      "",
		"unix:///run/a?b=c":     "",
		"unix:///run/a#b":       "",
		"unix:///run/a%00b":     "",
		"unix://me:pw@/run/a.s": "",
	} {
		got, err := parseTarget(raw)
		if want == "" {
			if !errors.Is(err, ErrBadURL) {
				t.Errorf("%s: %+v, %v", raw, got, err)
			}
			continue
		}
		if err != nil || got.addr != want || got.scheme != "unix" {
			t.Errorf("%s: %+v, %v", raw, got, err)
		}
	}
}

func TestDialUnix(t *testing.T) {
	e := engine.New(engine.Config{Handler: engine.HandlerFunc(func(s *engine.Session, m *framing.Message) {
		_ = s.Reply(m, m.Payload)
	})})
	defer func() { _ = e.Close() }()
	path := filepath.Join(t.TempDir(), "s")
	if _, err := e.Listen("unix:"+path, engine.Packets()); err != nil {
		t.Fatal(err)
	}
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := Dial(ctx, "unix://"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if got, err := c.Request(ctx, []byte("over a file")); err != nil || string(got) != "over a file" {
		t.Fatalf("%q, %v", got, err)
	}
	if c.Session().Transport() != "unix" || c.Session().RemoteAddr().IsValid() {
		t.Error(c.Session().Transport(), c.Session().RemoteAddr())
	}
	if _, err := Dial(ctx, "unix:///nobody/is/here"); err == nil {
		t.Error("connected to nothing")
	}
}
