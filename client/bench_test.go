package client

import (
	"context"
	"crypto/tls"
	"testing"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/internal/testkit/serve"
	"github.com/millrace/millrace/quicbridge"
	"github.com/millrace/millrace/wsupgrade"
)

// Requests of 64 goroutines over one client of each transport on loopback,
// server and client in this process.
func BenchmarkRequest(b *testing.B) {
	for _, transport := range transports {
		b.Run(transport, func(b *testing.B) {
			e := engine.New(engine.Config{Handler: serve.Echo, Cores: 1})
			l, err := e.Listen("127.0.0.1:0", engine.Packets(), wsupgrade.Path("/ws"), quicbridge.QUIC())
			if err != nil {
				b.Fatal(err)
			}
			if err := e.Start(); err != nil {
				b.Fatal(err)
			}
			defer e.Close()
			url := transport + "://" + l.Addr().String()
			if transport == "ws" {
				url += "/ws"
			}
			c, err := Dial(b.Context(), url, WithTLS(&tls.Config{InsecureSkipVerify: true}))
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			b.ReportAllocs()
			b.SetParallelism(64)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := c.Request(context.Background(), []byte("ping")); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}
