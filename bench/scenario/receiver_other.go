//go:build !linux

package main

import (
	"context"
	"time"

	"github.com/millrace/millrace/bench"
)

// A receiver needs epoll.
type receiver struct{}

type delivery struct{}

func (delivery) result() (time.Time, error) { return time.Time{}, bench.ErrUnsupported }

func newReceiver(*fleet) (*receiver, error) { return nil, bench.ErrUnsupported }

func (*receiver) close() {}

func (*receiver) expect(context.Context, []byte) <-chan delivery {
	done := make(chan delivery, 1)
	done <- delivery{}
	return done
}
