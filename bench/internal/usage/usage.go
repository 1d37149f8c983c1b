// Package usage prints the flags of the programs of bench as their documents write them.
package usage

import (
	"bytes"
	"flag"
	"fmt"
)

// Set makes fs print its flags with two dashes, after about, which describes the program.
func Set(fs *flag.FlagSet, about string) {
	fs.Usage = func() {
		to := fs.Output()
		var b bytes.Buffer
		fs.SetOutput(&b)
		fs.PrintDefaults()
		fs.SetOutput(to)
		fmt.Fprintf(to, "%s\n\n%s", about, bytes.ReplaceAll(append([]byte("\n"), b.Bytes()...), []byte("\n  -"), []byte("\n  --"))[1:])
	}
}
