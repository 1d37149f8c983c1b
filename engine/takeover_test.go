//go:build linux && !poll_opt

package engine_test

// takesOver is true where a core's second thread can take over the loop.
const takesOver = true
