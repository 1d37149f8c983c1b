package main

import (
	"errors"
	"flag"
	"math"
	"strconv"
	"strings"
)

// sizeUnits are the units of --memory-limit, those of GOMEMLIMIT.
var sizeUnits = []struct {
	name  string
	bytes int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"B", 1}}

var errSize = errors.New("must be a size such as 256MiB, above 0, in B, KiB, MiB, GiB or TiB")

// registerMemory adds --memory-limit to fs.
func (o *options) registerMemory(fs *flag.FlagSet) {
	fs.Func("memory-limit", "`SIZE` such as 256MiB that bounds the memory of sessions, and the heap at an eighth more "+
		"(default: 70% of the cgroup's limit or of the RAM, and no bound for the heap)", func(v string) (err error) {
		o.memory, err = parseSize(v)
		return err
	})
}

// parseSize returns the bytes of a size such as 256MiB.
func parseSize(v string) (int64, error) {
	for _, u := range sizeUnits {
		if number, ok := strings.CutSuffix(v, u.name); ok {
			n, err := strconv.ParseInt(number, 10, 64)
			if err != nil || n <= 0 || n > math.MaxInt64/u.bytes {
				return 0, errSize
			}
			return n * u.bytes, nil
		}
	}
	return 0, errSize
}

// heapLimit is the soft limit of Go's runtime for a limit of the sessions: an eighth more,
// for the stacks, the program's other memory and blocks between two uses. With less the
// garbage collector would run all the time when sessions use their whole limit.
func heapLimit(sessions int64) int64 { return sessions + sessions/8 }
