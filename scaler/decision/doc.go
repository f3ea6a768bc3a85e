// Package decision turns what is known of a workload into the number that KEDA
// is told, rule by rule, and says why. It is pure: the moment is an argument,
// and what a decision remembers of those before it goes in and comes out.
//
// Zero is a measurement; absence is not zero. Whatever is missing may keep a
// fleet from shrinking and never makes it shrink.
package decision
