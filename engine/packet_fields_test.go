package engine_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// TestPacketsArriveWithAllFields: every field of a message is its packet's,
// however the handler left the message before it.
func TestPacketsArriveWithAllFields(t *testing.T) {
	sent := []framing.Message{
		{Type: framing.Response, ID: 1<<32 - 1, BizType: 255, Flags: 0xF8F8, Compression: framing.CompressionZlib, Ext: []byte("ext"), Payload: []byte("payload")},
		{},
		{Type: framing.Request, ID: 0x0A0B0C0D, BizType: 7, Flags: framing.FlagMore, Compression: framing.CompressionZstd, Payload: []byte("payload")},
		{Type: framing.Request, ID: 5, Ext: []byte("ext alone")},
		{ID: 6, Payload: []byte("last")},
	}
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		got := make(chan framing.Message, 2*len(sent))
		_, addr := serve(t, engine.Config{Dispatch: d, Handler: engine.HandlerFunc(func(_ *engine.Session, m *framing.Message) {
			got <- *m.Clone()
			*m = framing.Message{Payload: []byte{1}, Ext: []byte{1}, Stream: 1, ID: 1, BizType: 1, Type: 1, Compression: 1, Text: true, Datagram: true, Flags: 1}
		})}, engine.Packets())
		c := dial(t, addr)
		var wire []byte
		for i := range sent {
			wire = append(wire, packet(&sent[i])...)
		}
		_, _ = c.Write(wire) // all in one read
		for i, want := range sent {
			select {
			case m := <-got:
				if len(m.Ext) == 0 {
					m.Ext = nil
				}
				if len(m.Payload) == 0 {
					m.Payload = nil
				}
				if !reflect.DeepEqual(m, want) {
					t.Errorf("message %d: %+v, want %+v", i, m, want)
				}
			case <-time.After(10 * time.Second):
				t.Fatalf("message %d did not arrive", i)
			}
		}
	})
}
