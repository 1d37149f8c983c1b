//go:build !race

package wsupgrade

const raceEnabled = false
