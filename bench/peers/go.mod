// The rivals live in a module of their own, so that who imports Millrace never
// downloads them.
module github.com/millrace/millrace/bench/peers

go 1.26.0

require github.com/millrace/millrace v0.0.0

replace github.com/millrace/millrace => ../..
