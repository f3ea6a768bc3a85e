// Package scrape reads the metrics of many targets over HTTP, on one shared
// tick, into the windows of their workloads.
//
// The servers pay for being read: a Python server renders 60 KB under its
// interpreter lock for every plain request. So a target is asked for just the
// wanted names (?name[]=…) once it has shown that it honours that, and every
// body is asked for uncompressed. A body in which the wanted series are missing
// counts as no answer: missing is never zero.
package scrape
