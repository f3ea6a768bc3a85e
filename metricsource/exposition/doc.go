// Package exposition extracts the samples of selected metrics from a Prometheus text
// body (text format 0.0.4 and OpenMetrics 1.0). It ignores all other lines.
//
// A scaler scrapes thousands of targets per second, and needs 3 to 16 metrics of about
// 600 lines each. The unneeded lines therefore dominate the cost. The scanner does not
// split the body into lines. It probes: it reads one 64-bit word every few bytes, and
// looks it up in a hash table of words of the selected names. The distance between
// probes follows from the shortest name, so no name is missed. Only a match makes the
// scanner look for the line around it. That line is exact, because a valid label value
// contains no raw newline. Labels are parsed once per new series, not per scrape.
//
// A malformed line of another metric is not detected.
package exposition
