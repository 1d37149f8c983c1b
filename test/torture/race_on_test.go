//go:build race

package torture_test

// raceEnabled says that the race detector runs, which makes everything slower
// and allocates on its own account.
const raceEnabled = true
