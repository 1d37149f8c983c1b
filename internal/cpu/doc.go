// Package cpu tells which CPUs the process may use and binds threads to them.
package cpu
