//go:build !linux

package cpu

func readAllowed() []int { return firstCPUs() }
