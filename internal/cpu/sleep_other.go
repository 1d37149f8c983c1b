//go:build !linux

package cpu

import "time"

// Sleep is time.Sleep.
func Sleep(d time.Duration) { time.Sleep(d) }
