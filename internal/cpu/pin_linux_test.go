package cpu

import (
	"errors"
	"math"
	"runtime"
	"slices"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// onThread runs f on an OS thread that is used for nothing else and ends with it.
func onThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // Not unlocked: the thread may be pinned.
		f()
	}()
	<-done
}

// mask returns the CPUs that the calling thread may run on.
func mask(t *testing.T) []int {
	cpus, err := affinity()
	if err != nil {
		t.Error(err)
	}
	return cpus
}

func TestPin(t *testing.T) {
	for _, cpu := range Allowed() {
		onThread(func() {
			if err := Pin(cpu); err != nil {
				t.Error(err)
				return
			}
			if got := mask(t); !slices.Equal(got, []int{cpu}) {
				t.Errorf("pinned to CPU %d, may run on %v", cpu, got)
			}
			if running := currentCPU(t); running != cpu {
				t.Errorf("pinned to CPU %d, runs on %d", cpu, running)
			}
		})
	}
}

// Pinning binds one thread: not the process's other threads, and not those started later, even by a
// pinned one; and Allowed still returns the CPUs of the process.
func TestPinBindsOneThreadOnly(t *testing.T) {
	before := Allowed()
	onThread(func() {
		if err := Pin(before[0]); err != nil {
			t.Error(err)
			return
		}
		if got := Allowed(); !slices.Equal(got, before) {
			t.Errorf("on a pinned thread Allowed is %v, want %v", got, before)
		}
		for range 20 { // More threads than were there before, started while this one is pinned.
			hold, masks := make(chan struct{}), make(chan []int)
			for range 4 {
				go onThread(func() {
					masks <- mask(t)
					<-hold
				})
			}
			for range 4 {
				if got := <-masks; !slices.Equal(got, before) {
					t.Errorf("another thread may run on %v, want %v", got, before)
				}
			}
			close(hold)
		}
	})
}

// The library's CPU set takes a negative number for another CPU: -63 for 1, say.
func TestPinErrors(t *testing.T) {
	for _, cpu := range []int{-1, -63, -64, 1 << 10, 1 << 20, math.MaxInt, math.MinInt} {
		onThread(func() {
			before := mask(t)
			err := Pin(cpu)
			if !errors.Is(err, unix.EINVAL) {
				t.Errorf("pin to CPU %d: %v", cpu, err)
			}
			if got := mask(t); !slices.Equal(got, before) {
				t.Errorf("a failed pin changed the mask from %v to %v", before, got)
			}
		})
	}
}

func currentCPU(t *testing.T) int {
	var cpu, node uint32
	_, _, errno := unix.RawSyscall(unix.SYS_GETCPU, uintptr(unsafe.Pointer(&cpu)), uintptr(unsafe.Pointer(&node)), 0)
	if errno != 0 {
		t.Error(errno)
	}
	return int(cpu)
}
