// Package exposition takes the wanted samples out of a Prometheus text body
// (text 0.0.4 and OpenMetrics 1.0) and looks at nothing else.
//
// A scaler reads thousands of targets a second and wants three to sixteen names
// out of some six hundred lines each, so the cost is that of the lines it does
// not want. So nothing looks at lines until a wanted name turns up: one 64-bit
// word every few bytes, the length of a name apart, is looked up among the words
// of the wanted names. A raw newline never occurs inside a valid label value, so
// the line around a name found is exact. Label sets are parsed once per new
// series, not per scrape. The price: an unwanted line may be malformed without
// anyone noticing.
package exposition
