package usage

import (
	"bytes"
	"flag"
	"testing"
)

func TestSet(t *testing.T) {
	var out bytes.Buffer
	fs := flag.NewFlagSet("name", flag.ContinueOnError)
	fs.SetOutput(&out)
	fs.Bool("a", false, "first")
	fs.Int("size", 3, "bytes of it - or none")
	Set(fs, "name: does it")
	_ = fs.Parse([]string{"--help"})
	const want = "name: does it\n\n  --a\tfirst\n  --size int\n    \tbytes of it - or none (default 3)\n"
	if out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}
