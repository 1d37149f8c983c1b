//go:build race

package engine

// raceEnabled turns the checks of session states on.
const raceEnabled = true
