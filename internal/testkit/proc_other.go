//go:build !linux

package testkit

// Descriptors returns -1, because the number is unknown here.
func Descriptors(int) int { return -1 }

// ResidentBytes returns -1, because the size is unknown here.
func ResidentBytes(int) int64 { return -1 }
