// Command millrace is the operator's tool.
//
//	millrace call URL PAYLOAD [--insecure] [--timeout 5s]
//
// sends one request and prints the answer. It exits 1 when that fails and 2
// when it was called wrongly, with one line on standard error.
package main

import "os"

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }
