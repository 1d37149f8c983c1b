// Package torture_test is the torture chamber: honest, unlucky and hostile
// peers of every transport at one server, at the same time, under one seed. go test
// runs the short mode; -torture.duration makes the same code run longer.
//
//	go test -v -count=1 -timeout 60m ./test/torture -torture.duration=20m -torture.seed=1
package torture_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

var (
	durationFlag = flag.Duration("torture.duration", 0, "how long the load lasts, in all; 0 is the short mode")
	seedFlag     = flag.Uint64("torture.seed", 0, "seed of every choice; 0 picks one and prints it")
)

func TestMain(m *testing.M) {
	flag.Parse()
	if *seedFlag == 0 {
		*seedFlag = rand.Uint64()>>32 | 1
	}
	if *durationFlag > 0 {
		// Thousands of handshakes begin at the same time, with both sides of each on
		// this machine: an honest peer may have to wait for its turn.
		limits.HandshakeTimeout, limits.IdleTimeout = 9*time.Second, 12*time.Second
	}
	fmt.Printf("torture: -torture.seed=%d -torture.duration=%v\n", *seedFlag, *durationFlag)
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, "torture:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// chooser makes the choices of one peer. The same seed makes the same choices;
// scheduling and network timing can't be repeated.
func chooser(lane string, n int) *rand.Rand {
	h := uint64(14695981039346656037) // FNV-1a, so that lanes differ
	for _, c := range lane {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return rand.New(rand.NewPCG(*seedFlag, h+uint64(n)))
}
