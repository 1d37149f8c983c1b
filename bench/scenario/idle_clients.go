package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/quicbridge"
)

// unverified accepts any certificate: the server is a child of this program, and makes
// its certificate in memory.
func unverified() *tls.Config { return &tls.Config{InsecureSkipVerify: true} }

// tlsClients hold TLS connections that speak packets.
type tlsClients struct {
	ctx   context.Context
	addr  string
	conns []net.Conn
}

func (c *tlsClients) open(n int) error {
	dialer := tls.Dialer{Config: unverified()}
	for range n {
		conn, err := dialer.DialContext(c.ctx, "tcp", c.addr)
		if err != nil {
			return err
		}
		c.conns = append(c.conns, conn)
		request, reply := wire{transport: "tcp"}.probe(uint32(len(c.conns)), 1)
		conn.SetDeadline(time.Now().Add(patience))
		if _, err := conn.Write(request); err != nil {
			return err
		}
		got := make([]byte, len(reply))
		if _, err := io.ReadFull(conn, got); err != nil {
			return err
		}
		if !bytes.Equal(got, reply) {
			return fmt.Errorf("session %d: reply is [% x], want [% x]", len(c.conns), got, reply)
		}
		conn.SetDeadline(time.Time{})
	}
	return nil
}

func (c *tlsClients) close() {
	for _, conn := range c.conns {
		conn.Close()
	}
	c.conns = nil
}

// quicClients hold QUIC sessions of an engine of their own, of which all share
// one UDP socket.
type quicClients struct {
	ctx      context.Context
	addr     string
	protocol engine.Protocol
	engine   *engine.Engine // nil while there are no sessions
	replies  chan []byte    // payloads, of one request at a time
}

func newQUICClients(ctx context.Context, addr string) *quicClients {
	return &quicClients{
		ctx: ctx, addr: addr, replies: make(chan []byte, 1),
		protocol: quicbridge.New(quicbridge.Config{TLS: unverified()}),
	}
}

func (c *quicClients) open(n int) error {
	if c.engine == nil {
		c.engine = engine.New(engine.Config{Handler: engine.HandlerFunc(func(_ *engine.Session, m *framing.Message) {
			c.replies <- bytes.Clone(m.Payload)
		})})
	}
	for i := range n {
		s, err := c.engine.Dial(c.ctx, c.addr, c.protocol)
		if err != nil {
			return err
		}
		payload := fmt.Appendf(nil, "session %d", i)
		if err := s.SendMessage(&framing.Message{Type: framing.Request, ID: 1, Payload: payload}); err != nil {
			return err
		}
		select {
		case got := <-c.replies:
			if !bytes.Equal(got, payload) {
				return fmt.Errorf("session %d: reply is %q, want %q", i, got, payload)
			}
		case <-time.After(patience):
			return errors.New("no reply")
		case <-c.ctx.Done():
			return c.ctx.Err()
		}
	}
	return nil
}

// close ends all sessions at once; the server gets a close for each.
func (c *quicClients) close() {
	if c.engine != nil {
		c.engine.Close()
		c.engine = nil
	}
}
