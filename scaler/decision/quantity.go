package decision

import (
	"math"
	"strconv"
)

// thousandths rounds as KEDA does when it prints a value for the HPA: %.3f.
func thousandths(v float64) float64 {
	q, _ := strconv.ParseFloat(strconv.FormatFloat(v, 'f', 3, 64), 64)
	return q
}

// milli returns v in thousandths, as a resource.Quantity holds it.
func milli(v float64) int64 { return int64(math.Round(thousandths(v) * 1000)) }

// replicas is the HPA's arithmetic for an AverageValue: value over target in
// thousandths, rounded up.
func replicas(value, target float64) int {
	v, t := milli(min(value, MaxReplicas*target)), max(1, milli(target))
	return int((v + t - 1) / t)
}
