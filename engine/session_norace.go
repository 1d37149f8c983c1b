//go:build !race

package engine

// raceEnabled turns the checks of session states off.
const raceEnabled = false
