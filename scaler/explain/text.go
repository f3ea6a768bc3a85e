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

// Text writes explanations for people.
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
		fmt.Fprintf(b, "  no answer: %s\n", e.Error)
		return
	case e.Error != "":
		fmt.Fprintf(b, "  outdated  no decision can be made now: %s; KEDA gets the last one\n", e.Error)
	}
	if wl := e.Workload; wl != nil {
		fmt.Fprintf(b, "  workload  %s, %d replicas%s\n", strings.TrimPrefix(wl.Kind+"/"+wl.Name, "/"), wl.Replicas, wl.bounds())
	}
	fmt.Fprintf(b, "  answer    %s/%s: %d replicas; %s (%s)\n", number(*e.Value), number(e.Target), *e.Replicas, activity(e.Active), e.ActiveWhy)
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
		return "not known: " + c.Why
	}
	s := fmt.Sprintf("room for %d replicas", *c.Replicas)
	switch {
	case c.Limited:
		s += ", fewer than are asked for"
	case c.Observed != "":
		s += ", no limit, as " + c.Observed
	}
	return s + ": " + c.Why
}

// HPA says what the HPA will make of the value, by its own arithmetic. All pods
// are taken to exist: status.replicas is spec.replicas but for the seconds in which
// pods are created. Stabilization and policies only delay the result.
func (e *Explanation) HPA() string {
	wl := e.Workload
	switch {
	case e.Value == nil:
		return "no answer: the HPA holds"
	case wl == nil:
		return fmt.Sprintf("%d replicas", *e.Replicas)
	case wl.Paused:
		return fmt.Sprintf("paused: KEDA leaves the workload as it is, and %d replicas would be wanted", *e.Replicas)
	case wl.Replicas == 0 && e.Active:
		return "at zero replicas the HPA is disabled; KEDA will wake the workload"
	case wl.Replicas == 0:
		return "at zero replicas the HPA is disabled; KEDA leaves it there, as the trigger is not active"
	}
	return e.awake()
}

// awake is what the HPA makes of the value above zero replicas. It moves the
// workload into its bounds first, whatever it measures, and starts from there.
func (e *Explanation) awake() string {
	wl, asked := e.Workload, *e.Replicas
	least, most := max(1, wl.MinReplicas), wl.MaxReplicas
	if most == 0 { // not known
		most = max(wl.Replicas, asked)
	}
	from := min(max(wl.Replicas, least), most)

	tolerances, behavior := hpa.TolerancesOf(wl.Behavior), hpa.Defaulted(wl.Behavior)
	if behavior == nil {
		behavior = hpa.Defaulted(&autoscalingv2.HorizontalPodAutoscalerBehavior{}) // disables neither direction
	}
	direction, tolerance, rules := "scaleUp", tolerances.Up, behavior.ScaleUp
	if asked < from {
		direction, tolerance, rules = "scaleDown", tolerances.Down, behavior.ScaleDown
	}
	_, tolerated := hpa.MetricOf(*e.Value, e.Target).Replicas(from, tolerances)

	wanted, bound, why := asked, "", ""
	switch {
	case asked == from:
	case tolerated:
		wanted = from
		why = fmt.Sprintf(": %s/%s over %d is within its tolerance of %s %% (behavior.%s.tolerance: \"0\" gives %d)",
			number(*e.Value), number(e.Target), from, number(100*tolerance), direction, asked)
	case *rules.SelectPolicy == autoscalingv2.DisabledPolicySelect:
		wanted = from
		why = fmt.Sprintf(": behavior.%s.selectPolicy is Disabled, and %d are asked for", direction, asked)
	case asked < least:
		wanted, bound = least, ", its minimum"
	case asked > most:
		wanted, bound = most, ", its maximum"
	}
	if wanted == wl.Replicas {
		return fmt.Sprintf("%d replicas as now%s%s", wanted, bound, why)
	}
	return fmt.Sprintf("from %d to %d replicas%s, as fast as its behavior allows%s", wl.Replicas, wanted, bound, why)
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
