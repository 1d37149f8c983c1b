//go:build !linux

package main

import (
	"context"
	"flag"

	"github.com/millrace/millrace/bench"
)

// setupMillion registers no flag and runs nothing: the scenario reads /proc and
// binds to many loopback addresses.
func setupMillion(*flag.FlagSet) (check func() error, run body) {
	return func() error { return bench.ErrUnsupported },
		func(context.Context, *progress) (*report, error) { return nil, bench.ErrUnsupported }
}
