//go:build !linux

package cpu

const canFollow = false

func followsChanges() bool { return false }
