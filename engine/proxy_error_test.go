package engine

import (
	"errors"
	"testing"
)

func TestProxyErrorIsAProtocolError(t *testing.T) {
	reason := errors.New("reason")
	for _, want := range []error{ErrProxyHeader, ErrProtocol, reason} {
		if err := proxyError(reason); !errors.Is(err, want) {
			t.Errorf("%v is not %v", err, want)
		}
	}
}
