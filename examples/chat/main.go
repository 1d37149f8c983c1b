// Chat is a chat server. Run it, and open http://localhost:8080 in two windows of a browser.
package main

import (
	"context"
	"embed"
	"log"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/wsupgrade"
)

//go:embed index.html
var page embed.FS

// chat has the sessions of each room. A room is a path of the server.
type chat struct {
	sync.Mutex
	rooms map[string]map[*engine.Session]bool
}

type memberKey struct{} // of a session's member
type member struct{ room, name string }

// authorize runs before a session opens. It may block, for example to look up the token.
func authorize(_ context.Context, h *engine.Handshake) error {
	r := wsupgrade.RequestOf(h)
	name, err := r.Cookie("name")
	if err != nil || r.URL.Query().Get("token") != "secret" {
		return &engine.Refusal{Status: http.StatusUnauthorized, Reason: "no name, or a wrong token"}
	}
	h.SetValue(memberKey{}, member{r.URL.Path, name.Value})
	return nil
}

// tell sends the name of s and text to the room of s, after s has come, or after it has left.
func (c *chat) tell(s *engine.Session, inside bool, text string) {
	m := s.Value(memberKey{}).(member)
	frame := engine.NewFrame(&engine.Message{Text: true, Payload: []byte(m.name + text)})
	c.Lock()
	defer c.Unlock()
	if room := c.rooms[m.room]; inside {
		room[s] = true
	} else {
		delete(room, s)
	}
	for peer := range c.rooms[m.room] {
		_ = peer.SendFrame(frame) // never blocks; OnClose gets the reason of a failure
	}
}

// newServer returns a server that drops a reader once 256 KiB wait for it (SlowConsumerClose).
func newServer() (*engine.Engine, *wsupgrade.Protocol) {
	c := &chat{rooms: map[string]map[*engine.Session]bool{"/go": {}, "/tea": {}}}
	h := engine.HandlerFuncs{
		Open:    func(s *engine.Session) { c.tell(s, true, " has come") },
		Message: func(s *engine.Session, m *engine.Message) { c.tell(s, true, ": "+string(m.Payload)) },
		Close:   func(s *engine.Session, reason error) { c.tell(s, false, " has left: "+reason.Error()) },
	}
	e := engine.New(engine.Config{Handler: h, Authorize: authorize, MaxMessageSize: 4 << 10, OutboxLimit: 256 << 10})
	pages := []string{"http://localhost:8080", "http://127.0.0.1:8080"} // another port is another origin
	return e, wsupgrade.New(wsupgrade.Config{Plain: []string{"/go", "/tea"}, Origins: pages})
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	go func() { log.Fatal(http.ListenAndServe("127.0.0.1:8080", http.FileServerFS(page))) }()
	e, chat := newServer()
	if err := e.ListenAndServe(ctx, "127.0.0.1:8001", chat); err != nil {
		log.Fatal(err)
	}
}
