//go:build !linux || poll_opt

package engine_test

const takesOver = false
