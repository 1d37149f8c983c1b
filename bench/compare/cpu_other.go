//go:build !linux

package main

import (
	"time"

	"github.com/millrace/millrace/bench"
)

// cpuTime returns bench.ErrUnsupported, as the load generator does here.
func cpuTime(int) (time.Duration, error) { return 0, bench.ErrUnsupported }
