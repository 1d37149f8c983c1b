//go:build race

package wsupgrade

// raceEnabled tells tests that count allocations that sync.Pool drops values at
// random.
const raceEnabled = true
