//go:build !race

package ring

// raceEnabled turns on the checks of producers' promises that cost too much outside of tests.
const raceEnabled = false
