// Customproto is a broker that serves a protocol of its own, MQTT 3.1.1 with QoS 0 (OASIS
// Standard mqtt-v3.1.1; the comments name its sections), beside packets on one port: the
// first byte of a connection selects the protocol, and one handler gets the messages of
// both.
//
// mqtt.go has the protocol and connect.go its handshake. This broker does not keep
// sessions or retained messages, and refuses wildcards in SUBSCRIBE (section 3.8.3).
package main

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/millrace/millrace/engine"
)

const (
	maxTopics   = 100  // subscriptions of a session
	failure     = 0x80 // the return code for a refused topic (section 3.9.3)
	grantedQoS0 = 0
)

// broker is the handler. Its sessions may be MQTT clients, and peers that send the same
// messages in packets.
type broker struct {
	mu       sync.Mutex
	topics   map[string]map[*engine.Session]bool
	sessions map[*engine.Session]map[string]bool // the topics of each
	clients  map[string]*engine.Session          // by their client identifiers
}

func newBroker() *broker {
	return &broker{
		topics:   map[string]map[*engine.Session]bool{},
		sessions: map[*engine.Session]map[string]bool{},
		clients:  map[string]*engine.Session{},
	}
}

func (b *broker) OnOpen(s *engine.Session) {
	c, ok := s.Value(connectKey{}).(*connect)
	if !ok || c.clientID == "" {
		return
	}
	b.mu.Lock()
	old := b.clients[c.clientID]
	b.clients[c.clientID] = s
	b.mu.Unlock()
	if old != nil { // section 3.1.4: the older client of the same identifier is disconnected
		_ = old.Close()
	}
}

func (b *broker) OnMessage(s *engine.Session, m *engine.Message) {
	var codes []byte
	err := fmt.Errorf("%w: biz type %d", engine.ErrProtocol, m.BizType)
	switch m.BizType {
	case publish:
		err = b.publish(m)
	case subscribe:
		if codes, err = b.subscribe(s, m.Payload); err == nil {
			err = s.Reply(m, codes)
		}
	case unsubscribe:
		if err = b.unsubscribe(s, m.Payload); err == nil {
			err = s.Reply(m, nil)
		}
	}
	if err != nil {
		s.CloseWith(err)
	}
}

func (b *broker) OnClose(s *engine.Session, reason error) {
	c, ok := s.Value(connectKey{}).(*connect)
	b.mu.Lock()
	for topic := range b.sessions[s] {
		b.leave(s, topic)
	}
	if ok && b.clients[c.clientID] == s {
		delete(b.clients, c.clientID)
	}
	b.mu.Unlock()
	if ok && c.will != nil && !errors.Is(reason, errDisconnect) { // section 3.1.2.5
		_ = b.publish(c.will) // its topic is valid
	}
}

// publish sends m to the subscribers of its topic. It is encoded once for all MQTT clients
// and once for all packets.
func (b *broker) publish(m *engine.Message) error {
	if !validTopic(m.Ext) || m.Compression != 0 {
		return fmt.Errorf("%w: a publication to %.40q, compression %d", engine.ErrProtocol, m.Ext, m.Compression)
	}
	frame := engine.NewFrame(&engine.Message{BizType: publish, Ext: m.Ext, Payload: m.Payload})
	b.mu.Lock()
	defer b.mu.Unlock()
	for s := range b.topics[string(m.Ext)] {
		_ = s.SendFrame(frame) // if it fails, OnClose gets the reason
	}
	return nil
}

// subscribe returns a return code for each topic in list (section 3.8.3).
func (b *broker) subscribe(s *engine.Session, list []byte) (codes []byte, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for r := (reader{b: list}); len(r.b) > 0; {
		topic, qos := r.string(), r.byte()
		switch {
		case r.bad || len(topic) == 0 || qos > 2:
			return nil, fmt.Errorf("%w: SUBSCRIBE to %.40q", engine.ErrProtocol, topic)
		case !validTopic(topic), len(b.sessions[s]) >= maxTopics && !b.sessions[s][string(topic)]:
			codes = append(codes, failure)
		default:
			b.join(s, string(topic))
			codes = append(codes, grantedQoS0)
		}
	}
	return codes, nil
}

// unsubscribe leaves the topics in list (section 3.10.3).
func (b *broker) unsubscribe(s *engine.Session, list []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for r := (reader{b: list}); len(r.b) > 0; {
		topic := r.text()
		if r.bad || topic == "" {
			return fmt.Errorf("%w: UNSUBSCRIBE from %.40q", engine.ErrProtocol, topic)
		}
		b.leave(s, topic)
	}
	return nil
}

func (b *broker) join(s *engine.Session, topic string) {
	if b.topics[topic] == nil {
		b.topics[topic] = map[*engine.Session]bool{}
	}
	if b.sessions[s] == nil {
		b.sessions[s] = map[string]bool{}
	}
	b.topics[topic][s], b.sessions[s][topic] = true, true
}

func (b *broker) leave(s *engine.Session, topic string) {
	if delete(b.topics[topic], s); len(b.topics[topic]) == 0 {
		delete(b.topics, topic)
	}
	if delete(b.sessions[s], topic); len(b.sessions[s]) == 0 {
		delete(b.sessions, s)
	}
}

// authorize admits packets, and MQTT clients with the password.
func authorize(_ context.Context, h *engine.Handshake) error {
	c, ok := h.Value(connectKey{}).(*connect)
	if ok && subtle.ConstantTimeCompare([]byte(c.password), []byte("secret")) != 1 {
		return &engine.Refusal{Reason: "wrong password"}
	}
	return nil
}

func newServer() (*engine.Engine, []engine.Protocol) {
	return engine.New(engine.Config{Handler: newBroker(), Authorize: authorize}), []engine.Protocol{engine.Packets(), newMQTT()}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	e, protocols := newServer()
	if err := e.ListenAndServe(ctx, "127.0.0.1:1883", protocols...); err != nil {
		log.Fatal(err)
	}
}
