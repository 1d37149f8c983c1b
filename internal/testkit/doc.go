// Package testkit has the helpers that tests of several packages share. It imports
// the standard library only, so that a test inside any package can import it.
// Helpers that need an engine are in package testkit/serve.
package testkit
