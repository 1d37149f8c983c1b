package bench

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/internal/testkit/serve"
	"github.com/millrace/millrace/quicbridge"
	"github.com/millrace/millrace/wsupgrade"
)

// serveSchemes serves echoes of every message on all transports at one address,
// and at a Unix socket, and returns the addresses.
func serveSchemes(t *testing.T) (e *engine.Engine, addr, socket string) {
	t.Helper()
	e, addr = serve.Start(t, engine.Config{Handler: serve.Echo}, engine.Packets(), wsupgrade.Path("/ws"),
		engine.TLS(engine.TLSConfig{SelfSigned: true}), quicbridge.QUIC())
	// The path of a socket is limited to about 100 bytes, and t.TempDir may be longer.
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket = filepath.Join(dir, "s")
	if _, err := e.Listen("unix:"+socket, engine.Packets()); err != nil {
		t.Fatal(err)
	}
	return e, addr, socket
}

// urls are those of all schemes.
func urls(addr, socket string) []string {
	return []string{
		"tcp://" + addr, "tls://" + addr, "ws://" + addr + "/ws", "wss://" + addr + "/ws",
		"quic://" + addr, "unix://" + socket,
	}
}

func TestSchemes(t *testing.T) {
	_, addr, socket := serveSchemes(t)
	for _, url := range urls(addr, socket) {
		for _, c := range []struct {
			name   string
			change func(*Config)
		}{
			{"window", func(c *Config) {}},
			{"one in flight", func(c *Config) { c.InFlight = 1 }},
			{"large", func(c *Config) { c.Size, c.InFlight = 100_000, 3 }},
			{"sizes, one way", func(c *Config) { c.Sizes, c.OneWay = []int{0, 1, 1, 300, 20_000}, true }},
			{"open loop", func(c *Config) { c.Rate, c.RampUp = 2000, 20*time.Millisecond }},
			{"Poisson", func(c *Config) { c.Rate, c.Poisson = 2000, true }},
			{"streams", func(c *Config) { c.Streams = 5 }},
			{"separate", func(c *Config) { c.Separate, c.InFlight = true, 1 }},
			{"separate, large", func(c *Config) { c.Separate, c.InFlight, c.Size = true, 1, 100_000 }},
			{"separate, streams", func(c *Config) { c.Separate, c.InFlight, c.Streams = true, 1, 5 }},
			{"separate, window", func(c *Config) { c.Separate = true }},
		} {
			scheme, _, _ := strings.Cut(url, ":")
			if strings.Contains(c.name, "streams") && scheme != "quic" || c.name == "separate, window" && scheme == "quic" {
				continue
			}
			t.Run(scheme+"/"+c.name, func(t *testing.T) {
				cfg := short(url)
				cfg.Insecure = true
				c.change(&cfg)
				r, err := Run(t.Context(), cfg)
				if err != nil {
					t.Fatal(err)
				}
				if r.ClientCPUs <= 0 {
					t.Errorf("the client took %v CPUs", r.ClientCPUs)
				}
				if r.Errors != 0 || r.Verified <= 0 || len(r.Faults) != 0 {
					t.Errorf("%+v", r)
				}
				// 100 requests are due in 50 ms. All of them count, regardless of the times of the replies.
				if due := r.TargetRate * r.Duration.Seconds(); r.TargetRate > 0 && !cfg.Poisson &&
					(float64(r.Samples) < due-4 || float64(r.Samples) > due+4) {
					t.Errorf("%d samples of %.0f requests", r.Samples, due)
				}
			})
		}
	}
}

func TestVerifiesCertificates(t *testing.T) {
	_, addr, _ := serveSchemes(t)
	for _, url := range []string{"tls://" + addr, "wss://" + addr + "/ws", "quic://" + addr} {
		_, err := Run(t.Context(), short(url))
		var certificate *tls.CertificateVerificationError
		if err == nil || !errors.As(err, &certificate) && !strings.Contains(err.Error(), "x509") {
			t.Errorf("%s: %v", url, err)
		}
	}
	cfg := short("tls://" + addr)
	cfg.CAFile = filepath.Join(t.TempDir(), "ca.pem")
	if _, err := Run(t.Context(), cfg); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if err := os.WriteFile(cfg.CAFile, []byte("none"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "no PEM") {
		t.Errorf("no certificate: %v", err)
	}
}

func TestRefused(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := listener.Addr().String()
	listener.Close()
	missing := filepath.Join(t.TempDir(), "none")
	for _, url := range urls(addr, missing) {
		if strings.HasPrefix(url, "quic") {
			continue // takes its handshake's 5 s; see TestRefusedQUIC
		}
		_, err := Run(t.Context(), short(url))
		var refused *DialError
		if !errors.As(err, &refused) || refused.Session != 1 || refused.Sessions != 3 ||
			!errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestRefusedQUIC(t *testing.T) {
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close() // a server that never sends a byte
	_, err = Run(t.Context(), short("quic://"+socket.LocalAddr().String()))
	if err == nil || !strings.Contains(err.Error(), "no QUIC server") {
		t.Errorf("%v", err)
	}
}

// TestServerDies ends the server during the load, on every transport.
func TestServerDies(t *testing.T) {
	for i, scheme := range []string{"tcp", "tls", "ws", "wss", "quic", "unix"} {
		t.Run(scheme, func(t *testing.T) {
			e, addr, socket := serveSchemes(t)
			cfg := short(urls(addr, socket)[i])
			cfg.Insecure, cfg.Duration = true, 20*time.Second // ends when no session is left
			cfg.AtStart = func() { e.Close() }
			r, err := Run(t.Context(), cfg)
			if err != nil || r.Duration > 15*time.Second || r.Errors != cfg.Sessions || r.Faults[FaultLost] != cfg.Sessions {
				t.Errorf("%+v, %v", r, err)
			}
		})
	}
}
