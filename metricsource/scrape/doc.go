// Package scrape reads the metrics of many targets over HTTP, on one shared tick, and
// writes them to the windows of their workloads.
//
// A scrape costs the server CPU: a Python server renders 60 KB under its global
// interpreter lock for every full request. Therefore the scraper requests only the
// selected metrics (?name[]=…) from each target that supports the filter, and requests
// uncompressed bodies. A body without the required series is a fault: a missing series is
// never 0.
package scrape
