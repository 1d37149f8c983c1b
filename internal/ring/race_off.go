//go:build !race

package ring

// raceEnabled turns on checks of the producers' obligations that cost too much outside of tests.
const raceEnabled = false
