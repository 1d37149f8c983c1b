// Package cpu returns the CPUs that the process may use, and binds threads to them.
package cpu
