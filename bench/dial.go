package bench

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"
)

// sources spreads a load's connections over several loopback addresses: one
// address pair has ports for some 28,000 connections, those that linger after
// an earlier run included.
const (
	sourceAddrs     = 16
	sessionsASource = 2000
)

var sourceTurn atomic.Uint32

// dialTimeout bounds one connection and its handshakes.
const dialTimeout = 10 * time.Second

// clientTLS is the configuration that verifies t's server as cfg wants it.
func clientTLS(cfg *Config, t target) (*tls.Config, error) {
	own := &tls.Config{MinVersion: tls.VersionTLS12}
	if cfg.TLS != nil {
		own = cfg.TLS.Clone()
	}
	if own.ServerName == "" {
		own.ServerName, _, _ = net.SplitHostPort(t.addr) // parseTarget has checked it
	}
	own.InsecureSkipVerify = own.InsecureSkipVerify || cfg.Insecure
	if cfg.CAFile != "" {
		pem, err := os.ReadFile(cfg.CAFile)
		if err != nil {
			return nil, fmt.Errorf("bench: CAFile: %w", err)
		}
		own.RootCAs = x509.NewCertPool()
		if !own.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("bench: CAFile %s holds no PEM certificate", cfg.CAFile)
		}
	}
	return own, nil
}

// source returns the local address of the next connection to t: the system's
// choice, unless there are many connections to a loopback address.
func source(t target, sessions int) net.Addr {
	if t.scheme == "unix" || sessions <= sessionsASource {
		return nil
	}
	remote, err := net.ResolveTCPAddr("tcp", t.addr)
	if err != nil || !remote.IP.IsLoopback() || remote.IP.To4() == nil {
		return nil
	}
	return &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+sourceTurn.Add(1)%sourceAddrs))}
}

// upgrade makes the opening handshake of RFC 6455 section 4.1. The server sends
// nothing before the first request, so no byte follows its response yet.
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
