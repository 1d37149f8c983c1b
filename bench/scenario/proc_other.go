//go:build !linux

package main

import (
	"time"

	"github.com/millrace/millrace/bench"
)

// A footprint is the memory of a process, in bytes.
type footprint struct {
	RSS  int64 `json:"rss"`
	PSS  int64 `json:"pss"`
	Anon int64 `json:"anon"`
	Peak int64 `json:"peak"`
}

// processMemory returns bench.ErrUnsupported: it reads /proc.
func processMemory(int) (footprint, error) { return footprint{}, bench.ErrUnsupported }

// cpuTime returns bench.ErrUnsupported, as the load generator does here.
func cpuTime(int) (time.Duration, error) { return 0, bench.ErrUnsupported }
