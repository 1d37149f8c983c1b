package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"github.com/millrace/millrace/framing"
)

// A rawNet is the rival for broadcasts: package net with a goroutine a connection,
// which answers the probes, and a list of connections.
type rawNet struct {
	transport string
	listener  net.Listener

	mu    sync.Mutex // guards conns
	conns map[net.Conn]struct{}
}

func rawNetRole(raw json.RawMessage) (ready any, actions map[string]action, end func(), err error) {
	var set serverSettings
	if err := json.Unmarshal(raw, &set); err != nil {
		return nil, nil, nil, err
	}
	listener, err := net.Listen("tcp", set.Addr)
	if err != nil {
		return nil, nil, nil, err
	}
	r := &rawNet{transport: set.Transport, listener: listener, conns: map[net.Conn]struct{}{}}
	go r.accept()
	actions = map[string]action{"broadcast": act(r.broadcast)}
	return serverReady{Addr: listener.Addr().String()}, actions, func() { listener.Close() }, nil
}

func (r *rawNet) accept() {
	for {
		conn, err := r.listener.Accept()
		if err != nil {
			return
		}
		go r.serve(conn)
	}
}

// serve answers probes until the peer ends.
func (r *rawNet) serve(conn net.Conn) {
	defer conn.Close()
	rw := io.ReadWriter(conn)
	if r.transport == "ws" {
		if _, err := ws.Upgrade(conn); err != nil {
			return
		}
		rw = &wsConn{conn: conn, server: true}
	}
	r.mu.Lock()
	r.conns[conn] = struct{}{}
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		delete(r.conns, conn)
		r.mu.Unlock()
	}()
	packet := make([]byte, framing.PacketHeaderSize+probeSize)
	for {
		if _, err := io.ReadFull(rw, packet); err != nil {
			return
		}
		packet[2] = byte(framing.Response)
		if _, err := rw.Write(packet); err != nil {
			return
		}
	}
}

// broadcast encodes the frame once and writes it to every connection.
func (r *rawNet) broadcast(_ context.Context, args broadcastArgs) (any, error) {
	r.mu.Lock()
	conns := make([]net.Conn, 0, len(r.conns))
	for conn := range r.conns {
		conns = append(conns, conn)
	}
	r.mu.Unlock()
	start := time.Now()
	frame := broadcastFrame(broadcastSettings{size: args.Size, transport: r.transport}, 0, args.Number)
	write := func(conn net.Conn) error {
		_, err := conn.Write(frame)
		return err
	}
	switch args.Way {
	case wayPrepared:
		for _, conn := range conns {
			if err := write(conn); err != nil {
				return nil, err
			}
		}
	case wayGoroutines:
		if err := inParallel(slices.Clip(conns), write); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("no way %q to broadcast", args.Way)
	}
	return time.Since(start), nil
}

// A wsConn carries a byte stream in binary messages.
type wsConn struct {
	conn   net.Conn
	server bool
	rest   bytes.Reader // of the last message read
}

func (c *wsConn) Read(b []byte) (int, error) {
	if c.rest.Len() == 0 {
		read := wsutil.ReadServerBinary
		if c.server {
			read = wsutil.ReadClientBinary
		}
		message, err := read(c.conn)
		if err != nil {
			return 0, err
		}
		c.rest.Reset(message)
	}
	return c.rest.Read(b)
}

func (c *wsConn) Write(b []byte) (int, error) {
	write := wsutil.WriteClientBinary
	if c.server {
		write = wsutil.WriteServerBinary
	}
	if err := write(c.conn, b); err != nil {
		return 0, err
	}
	return len(b), nil
}

// wsURL is the address of a server's packets over WebSocket.
func wsURL(addr netip.AddrPort) string { return "ws://" + addr.String() + wsPath }
