package tidy_test

// The exceptions of each rule, each with its reason. A key is a file, a package's
// folder, a function after its package's folder, or a helper's name.

const rows = "tests keep a case of a table in one row"

var longFiles = map[string]string{}

var wideLines = map[string]string{
	"bench/compare": rows,
	"engine":        rows,
	"quicbridge":    rows,
}

var longFunctions = map[string]string{}

var vagueComments = map[string]string{}

const later = "helpers of engine and quicbridge, until their tests use testkit/serve"

var sameNames = map[string]string{
	"ask":                   "a request over a kept connection there, on a QUIC stream here",
	"checkHandshakeTimeout": "each proves the setting on its own transport",
	"checkLingerTimeout":    "each proves the setting on its own transport",
	"checkOutboxSoftMark":   "each proves the setting on its own transport",
	"eachDispatch":          later,
	"expect":                later,
	"open":                  "checks that a connection is open there, opens a QUIC stream here",
	"packet":                later,
	"request":               "a packet's bytes in two packages, an HTTP upgrade's in the third",
	"same":                  "framing's tests can't import a helper that imports framing",
	"serve":                 later,
}
