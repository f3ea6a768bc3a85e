// Package decision computes the metric value of a trigger, rule by rule, and records the
// reason of each step. It is pure: the time, the evidence and the Memory of earlier
// decisions are arguments.
//
// A measured zero differs from a missing measurement. Missing data may keep a fleet from
// shrinking. It never makes a fleet shrink.
package decision
