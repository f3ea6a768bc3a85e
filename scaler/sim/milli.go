package sim

// Milli turns a number into thousandths as KEDA does.
func Milli(v float64) int64 { return milli(v) }

// ReplicasFor is the HPA's division, without tolerance, behavior or bounds.
func ReplicasFor(valueMilli, targetMilli int64) int { return replicasFor(valueMilli, targetMilli) }
