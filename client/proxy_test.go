package client

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/internal/testkit"
	"github.com/millrace/millrace/internal/testkit/serve"
	"github.com/millrace/millrace/wsupgrade"
)

// startProxy is an HTTP proxy for CONNECT that asks for a password. It sends the
// address of each tunnel to tunnels.
func startProxy(t *testing.T, tunnels chan<- string) (addr string) {
	t.Helper()
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		auth := &http.Request{Header: http.Header{"Authorization": r.Header["Proxy-Authorization"]}}
		if user, password, ok := auth.BasicAuth(); !ok || user != "me" || password != "p:w" || r.Method != http.MethodConnect {
			w.WriteHeader(http.StatusProxyAuthRequired)
			_, _ = io.WriteString(w, strings.Repeat("who are you? ", 10_000))
			return
		}
		server, err := net.Dial("tcp", r.Host)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		tunnels <- r.RequestURI
		client, _, _ := w.(http.Hijacker).Hijack()
		_, _ = io.WriteString(client, "HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n")
		go func() {
			_, _ = io.Copy(server, client)
			_ = server.Close()
		}()
		go func() {
			_, _ = io.Copy(client, server)
			_ = client.Close()
		}()
	}))
	t.Cleanup(proxy.Close)
	return proxy.Listener.Addr().String()
}

// Every transport over TCP goes through the proxy, with the handshakes inside.
func TestWithProxy(t *testing.T) {
	e := engine.New(engine.Config{Handler: serve.Echo})
	defer e.Close()
	l, err := e.Listen("127.0.0.1:0", engine.TLS(engine.TLSConfig{SelfSigned: true}), engine.Packets(), wsupgrade.Path("/ws"))
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	tunnels := make(chan string, 1)
	proxy, target := startProxy(t, tunnels), l.Addr().String()
	insecure := WithTLS(&tls.Config{InsecureSkipVerify: true})
	for _, url := range []string{"tcp://" + target, "tls://" + target, "ws://" + target + "/ws", "wss://" + target + "/ws"} {
		c, err := Dial(testkit.Context(t), url, insecure, WithProxy("http://me:p%3Aw@"+proxy))
		if err != nil {
			t.Fatal(url, err)
		}
		if got := testkit.Receive(t, tunnels, "a tunnel"); got != target {
			t.Errorf("%s: the proxy connected to %s", url, got)
		}
		if answer, err := c.Request(testkit.Context(t), []byte("hello")); err != nil || string(answer) != "hello" {
			t.Errorf("%s: got %q, %v", url, answer, err)
		}
		if got := c.Session().RemoteAddr().String(); got != proxy {
			t.Errorf("%s: the session's peer is %s, not the proxy %s", url, got, proxy)
		}
		c.Close()
	}

	var refused *ProxyError
	_, err = Dial(testkit.Context(t), "tcp://"+target, WithProxy("http://"+proxy))
	if !errors.As(err, &refused) || refused.Status != http.StatusProxyAuthRequired || !errors.Is(err, engine.ErrRefused) {
		t.Errorf("without a password: %v", err)
	}
	_, err = Dial(testkit.Context(t), "tcp://127.0.0.1:1", WithProxy("http://me:p%3Aw@"+proxy+"/"))
	if !errors.As(err, &refused) || refused.Status != http.StatusBadGateway {
		t.Errorf("a server that is not there: %v", err)
	}
}

// The bytes that follow the proxy's response at once are the server's.
func TestProxyWithEarlyBytes(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	answers, asked := make(chan string, 1), make(chan struct{}, 10)
	go func() {
		for answer := range answers {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { conn.Close() })
			if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
				t.Error(err)
			}
			asked <- struct{}{}
			_, _ = io.WriteString(conn, answer)
			if strings.HasSuffix(answer, "cut off") {
				conn.Close()
			}
		}
	}()
	defer close(answers)
	proxy := WithProxy("http://" + l.Addr().String())

	packet, err := framing.AppendPacket(nil, &framing.Message{Type: framing.OneWay, Payload: []byte("early")})
	if err != nil {
		t.Fatal(err)
	}
	answers <- "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n" + string(packet)
	c := dialClient(t, "tcp://example.invalid:1", proxy)
	if m, err := c.Receive(testkit.Context(t)); err != nil || string(m.Payload) != "early" {
		t.Errorf("got %+v, %v", m, err)
	}

	for answer, want := range map[string]error{
		"HTTP/1.1 200 OK\r\nX-Endless: " + strings.Repeat("a", maxProxyHead): engine.ErrTooLarge,
		"no HTTP at all\r\n\r\n":        engine.ErrProtocol,
		"HTTP/1.1 200 OK\r\nX: cut off": engine.ErrConnectionLost,
	} {
		answers <- answer
		if _, err := Dial(testkit.Context(t), "tcp://example.invalid:1", proxy); !errors.Is(err, want) {
			t.Errorf("%.30q: got %v, want %v", answer, err, want)
		}
	}

	for len(asked) > 0 {
		<-asked
	}
	answers <- "" // silence
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() {
		_, err := Dial(ctx, "tcp://example.invalid:1", proxy)
		result <- err
	}()
	testkit.Receive(t, asked, "the request for a tunnel")
	cancel()
	if err := testkit.Receive(t, result, "the end of Dial"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}
