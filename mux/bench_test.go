package mux

import (
	"context"
	"testing"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// One request's way through the table, without a connection.
func BenchmarkTable(b *testing.B) {
	var tab table
	ids := counter(1)
	m := &framing.Message{Payload: []byte("ping")}
	b.ReportAllocs()
	for b.Loop() {
		c := newCall(m)
		id, _ := tab.add(c, ids, 10)
		tab.take(id).done <- answer{m: m}
		if _, err := tab.await(context.Background(), id, c); err != nil {
			b.Fatal(err)
		}
	}
}

// Requests of many goroutines over one session on loopback, server and client
// in this process.
func BenchmarkRequest(b *testing.B) {
	server := engine.New(engine.Config{Handler: answerWith(""), Dispatch: engine.Inline, Cores: 1})
	l, err := server.Listen("127.0.0.1:0", engine.Packets())
	if err != nil {
		b.Fatal(err)
	}
	if err := server.Start(); err != nil {
		b.Fatal(err)
	}
	defer server.Close()
	x := New(nil, Config{})
	dialer := engine.New(engine.Config{Handler: x, Dispatch: engine.Inline, Cores: 1})
	defer dialer.Close()
	s, err := dialer.Dial(b.Context(), l.Addr().String(), engine.Packets())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.SetParallelism(64)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := x.Request(context.Background(), s, []byte("ping")); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
