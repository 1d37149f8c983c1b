package mux

import (
	"errors"
	"testing"

	"github.com/millrace/millrace/framing"
)

func TestResponseError(t *testing.T) {
	for _, tc := range []struct {
		name    string
		flags   framing.Flags
		payload string
		want    error
	}{
		{"plain", 0, "ok", nil},
		{"other flags", framing.FlagHighPriority | framing.FlagRouteTag, "ok", nil},
		{"failed", framing.FlagFailed, "\x01\x02no such row", &RemoteError{Code: 0x0102, Text: "no such row"}},
		{"failed without text", framing.FlagFailed, "\x00\x05", &RemoteError{Code: 5}},
		{"failed with bytes", framing.FlagFailed, "\x00\x05a\xffb", &RemoteError{Code: 5, Text: "a\ufffdb"}},
		{"failed without code", framing.FlagFailed, "\x00", framing.ErrMalformed},
		{"streaming", framing.FlagMore, "first", ErrStreaming},
		{"fragmented", framing.FlagFragmented, "first", ErrFragmented},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := responseError(&framing.Message{Type: framing.Response, Flags: tc.flags, Payload: []byte(tc.payload)})
			var remote, want *RemoteError
			if errors.As(tc.want, &want) {
				if !errors.As(got, &remote) || *remote != *want {
					t.Errorf("got %v, want %v", got, want)
				}
			} else if !errors.Is(got, tc.want) {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}

// A peer's text stays one quoted line.
func TestRemoteErrorText(t *testing.T) {
	err := &RemoteError{Code: 7, Text: "two\nlines"}
	if got, want := err.Error(), `mux: the peer failed with code 7: "two\nlines"`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
