//go:build !race

package testkit

// RaceEnabled is set if the test was built with the race detector, which makes
// everything slower, allocates, and has sync.Pool drop values at random.
const RaceEnabled = false
