//go:build !linux

package main

import "github.com/millrace/millrace/bench"

// usageOf returns bench.ErrUnsupported, as the load generator does here.
func usageOf(int) (usage, error) { return usage{}, bench.ErrUnsupported }
