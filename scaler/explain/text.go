package explain

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"

	"github.com/inference-scaler/inference-scaler/scaler/hpa"
)

// Text writes explanations as text.
func Text(w io.Writer, all []Explanation) error {
	var b strings.Builder
	for i, e := range all {
		if i > 0 {
			b.WriteString("\n")
		}
		e.text(&b)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (e *Explanation) text(b *strings.Builder) {
	fmt.Fprintf(b, "%s/%s  trigger %s\n", e.Namespace, e.ScaledObject, e.Trigger)
	switch {
	case e.Value == nil:
		fmt.Fprintf(b, "  no decision: %s\n", e.Error)
		return
	case e.Error != "":
		fmt.Fprintf(b, "  outdated  no decision can be made now: %s; KEDA gets the last one\n", e.Error)
	}
	if wl := e.Workload; wl != nil {
		fmt.Fprintf(b, "  workload  %s, %d replicas%s\n", strings.TrimPrefix(wl.Kind+"/"+wl.Name, "/"), wl.Replicas, wl.bounds())
	}
	fmt.Fprintf(b, "  decision  %s/%s: %d replicas; %s (%s)\n", number(*e.Value), number(e.Target), *e.Replicas, activity(e.Active), e.ActiveWhy)
	if c := e.Capacity; c != nil {
		fmt.Fprintf(b, "  capacity  %s\n", c)
	}
	fmt.Fprintf(b, "  HPA       %s\n", e.HPA())
	fmt.Fprintf(b, "  decided   %s ago\n", seconds(e.AgeSeconds))
	for _, f := range e.Faults {
		fmt.Fprintf(b, "  fault     %s\n", f)
	}
	e.steps(b)
	e.pods(b)
	e.upstream(b)
	e.queries(b)
}

func (e *Explanation) steps(b *strings.Builder) {
	b.WriteString("\n  steps\n")
	table(b, func(w io.Writer) {
		fmt.Fprintln(w, "rule\tload\treplicas\twhy")
		for _, s := range e.Steps {
			fmt.Fprintf(w, "%s\t%s → %s\t%d → %d\t%s\n", s.Rule, number(s.Before.Value), number(s.After.Value), s.Before.Replicas, s.After.Replicas, s.Why)
		}
	})
}

func (e *Explanation) pods(b *strings.Builder) {
	if len(e.Pods) == 0 {
		b.WriteString("\n  no pods\n")
		return
	}
	b.WriteString("\n  pods\n")
	table(b, func(w io.Writer) {
		fmt.Fprintln(w, "name\tstate\tready\tanswered\tload\tin flight\tsaturation\tfault")
		for _, p := range e.Pods {
			fmt.Fprintf(w, "%s\t%s\t%t\t%s\t%s\t%s\t%s\t%s\n", p.Name, p.State, p.Ready, answered(p.AgeSeconds), known(p.Load), known(p.InFlight), known(p.Saturation), p.Fault)
		}
	})
}

func (e *Explanation) upstream(b *strings.Builder) {
	if len(e.Upstream) == 0 {
		return
	}
	b.WriteString("\n  upstream\n")
	table(b, func(w io.Writer) {
		fmt.Fprintln(w, "name\tstate\tanswered\tdemand\tfault")
		for _, s := range e.Upstream {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", s.Name, s.State, answered(s.AgeSeconds), known(s.Demand), s.Fault)
		}
	})
}

func answered(age *float64) string {
	if age == nil {
		return "never"
	}
	return seconds(*age) + " ago"
}

func (e *Explanation) queries(b *strings.Builder) {
	b.WriteString("\n  queries\n")
	for _, q := range e.Queries {
		fmt.Fprintf(b, "    %s: %s\n", q.Signal, q.PromQL)
		if q.Error != "" {
			fmt.Fprintf(b, "      error: %s\n", q.Error)
		}
		for _, warning := range q.Warnings {
			fmt.Fprintf(b, "      warning: %s\n", warning)
		}
	}
}

func (c *Capacity) String() string {
	if c.Replicas == nil {
		return "unknown: " + c.Why
	}
	s := fmt.Sprintf("%d replicas fit", *c.Replicas)
	switch {
	case c.Limited:
		s += ", fewer than desired"
	case c.Observed != "":
		s += " (not a limit: " + c.Observed + ")"
	}
	return s + ": " + c.Why
}

// HPA describes what the HPA does with the value. It assumes that status.replicas equals
// spec.replicas, which differ only while pods are created. It ignores stabilization windows
// and policies, which only delay the result.
func (e *Explanation) HPA() string {
	wl := e.Workload
	switch {
	case e.Value == nil:
		return "no value: the HPA keeps the replicas"
	case wl == nil:
		return fmt.Sprintf("%d replicas", *e.Replicas)
	case wl.Paused:
		return fmt.Sprintf("paused: KEDA does not scale the workload; %d replicas would be desired", *e.Replicas)
	case wl.Replicas == 0 && e.Active:
		return "disabled at zero replicas; KEDA scales the workload up"
	case wl.Replicas == 0:
		return "disabled at zero replicas; the trigger is not active, so KEDA keeps zero"
	}
	return e.aboveZero()
}

// aboveZero is HPA above zero replicas. The HPA first moves the workload into its bounds,
// whatever the value, and starts from there.
func (e *Explanation) aboveZero() string {
	wl, desired := e.Workload, *e.Replicas
	least, most := max(1, wl.MinReplicas), wl.MaxReplicas
	if most == 0 { // unknown
		most = max(wl.Replicas, desired)
	}
	from := min(max(wl.Replicas, least), most)

	tolerances, behavior := hpa.TolerancesOf(wl.Behavior), hpa.Defaulted(wl.Behavior)
	if behavior == nil {
		behavior = hpa.Defaulted(&autoscalingv2.HorizontalPodAutoscalerBehavior{}) // disables neither direction
	}
	direction, tolerance, rules := "scaleUp", tolerances.Up, behavior.ScaleUp
	if desired < from {
		direction, tolerance, rules = "scaleDown", tolerances.Down, behavior.ScaleDown
	}
	_, tolerated := hpa.MetricOf(*e.Value, e.Target).Replicas(from, tolerances)

	result, bound, why := desired, "", ""
	switch {
	case desired == from:
	case tolerated:
		result = from
		why = fmt.Sprintf(": %s/%s over %d is within its tolerance of %s %% (behavior.%s.tolerance: \"0\" gives %d)",
			number(*e.Value), number(e.Target), from, number(100*tolerance), direction, desired)
	case *rules.SelectPolicy == autoscalingv2.DisabledPolicySelect:
		result = from
		why = fmt.Sprintf(": behavior.%s.selectPolicy is Disabled; %d are desired", direction, desired)
	case desired < least:
		result, bound = least, ", its minimum"
	case desired > most:
		result, bound = most, ", its maximum"
	}
	if result == wl.Replicas {
		return fmt.Sprintf("%d replicas as now%s%s", result, bound, why)
	}
	return fmt.Sprintf("from %d to %d replicas%s, as fast as its behavior allows%s", wl.Replicas, result, bound, why)
}

func (w *Workload) bounds() string {
	s := ""
	if w.MaxReplicas > 0 {
		s = fmt.Sprintf(" (min %d, max %d)", w.MinReplicas, w.MaxReplicas)
	}
	if w.Paused {
		s += ", paused"
	}
	return s
}

func table(b *strings.Builder, rows func(io.Writer)) {
	var aligned strings.Builder
	w := tabwriter.NewWriter(&aligned, 0, 0, 2, ' ', 0)
	rows(w)
	_ = w.Flush() // a strings.Builder takes everything
	for line := range strings.Lines(aligned.String()) {
		b.WriteString("    " + strings.TrimRight(line, " \n") + "\n")
	}
}

func activity(active bool) string {
	if active {
		return "active"
	}
	return "not active"
}

func known(v *float64) string {
	if v == nil {
		return "-"
	}
	return number(*v)
}

func number(v float64) string { return fmt.Sprintf("%.6g", v) }

func seconds(s float64) string {
	return time.Duration(s * float64(time.Second)).Round(100 * time.Millisecond).String()
}
