package bench

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
)

// sources spreads a load's connections over several loopback addresses: one
// address pair has ports for some 28,000 connections, those that linger after
// an earlier run included.
const (
	sourceAddrs     = 16
	sessionsASource = 2000
)

var sourceTurn atomic.Uint32

// dial connects to t and makes its handshake, if it has one.
func dial(ctx context.Context, t target, sessions int) (*net.TCPConn, error) {
	dialer := net.Dialer{LocalAddr: source(t.addr, sessions)}
	conn, err := dialer.DialContext(ctx, "tcp", t.addr)
	if err != nil {
		return nil, err
	}
	if t.scheme == "ws" {
		if err := upgrade(ctx, conn, t); err != nil {
			conn.Close()
			return nil, err
		}
	}
	return conn.(*net.TCPConn), nil
}

// source picks the local address of the next connection to addr: the system's
// choice, unless there will be many to a loopback address.
func source(addr string, sessions int) net.Addr {
	remote, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil || sessions <= sessionsASource || !remote.IP.IsLoopback() || remote.IP.To4() == nil {
		return nil
	}
	return &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+sourceTurn.Add(1)%sourceAddrs))}
}

// upgrade makes the opening handshake of RFC 6455 section 4.1. The server says
// nothing before it is asked, so nothing follows its response yet.
func upgrade(ctx context.Context, conn net.Conn, t target) error {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	_, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Key: bWlsbHJhY2UtbG9hZC1nZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n", t.path, t.addr)
	if err != nil {
		return err
	}
	r := bufio.NewReader(conn)
	response, err := http.ReadResponse(r, nil)
	if err != nil {
		return fmt.Errorf("upgrade: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusSwitchingProtocols {
		return fmt.Errorf("upgrade: %s", response.Status)
	}
	if r.Buffered() > 0 {
		return fmt.Errorf("upgrade: %d bytes before the first request", r.Buffered())
	}
	return nil
}
