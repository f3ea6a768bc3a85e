// Package chart renders the Helm chart for every file of values in its folder ci, with
// Helm's own code, and holds what comes of it to goldens. It is a module of its own, as
// it compiles Helm.
package chart
