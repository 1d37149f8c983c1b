package cpu

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const childVariable = "MILLRACE_TEST_PRINT_ALLOWED"

// A process started on a pinned thread inherits its mask: it may use that CPU only, and must say so.
func TestAllowedHeedsMask(t *testing.T) {
	if os.Getenv(childVariable) != "" {
		fmt.Println("allowed:", Allowed())
		return
	}
	cpus := Allowed()
	slices.Reverse(cpus) // The last one first: it tells a mask from a count.
	for _, cpu := range cpus {
		onThread(func() {
			if err := Pin(cpu); err != nil {
				t.Error(err)
				return
			}
			child := exec.Command(os.Args[0], "-test.run=^TestAllowedHeedsMask$")
			child.Env = append(os.Environ(), childVariable+"=1")
			output, err := child.CombinedOutput()
			if want := fmt.Sprintf("allowed: [%d]\n", cpu); err != nil || !strings.Contains(string(output), want) {
				t.Errorf("started on CPU %d: %v, %q, want %q", cpu, err, output, want)
			}
		})
	}
}
