// Package tools pins the programs that check this repository: the linters, the
// vulnerability scanner and the benchmark comparison. It is a module of its
// own, so that none of their dependencies reaches the product's go.mod.
// test/lint.sh builds them into bin/.
package tools
