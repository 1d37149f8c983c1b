// Command millrace is the operator's tool.
//
//	millrace call URL PAYLOAD [--insecure] [--timeout 5s]
//
// sends one request and prints the answer. The exit code is 1 if that fails
// and 2 if the command line is wrong, with one line on standard error.
package main

import "os"

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }
