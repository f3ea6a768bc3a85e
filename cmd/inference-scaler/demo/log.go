package demo

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// quietPeriod is the minimum simulated time between two lines for changes of the desired replicas
// alone, because noise in the load changes them all the time.
const quietPeriod = 10 * time.Second

// Log writes frames as plain lines, after a change and at intervals. It is not safe for concurrent
// use.
type Log struct {
	w       io.Writer
	every   time.Duration
	last    Frame
	written bool // at least one line
}

// NewLog returns a log with at least one line per interval of simulated time.
func NewLog(w io.Writer, every time.Duration) *Log { return &Log{w: w, every: every} }

// Show writes the frame if it is due.
func (l *Log) Show(f Frame) {
	since := f.Elapsed - l.last.Elapsed
	changed := len(f.Others) != len(l.last.Others) || f.Phase != l.last.Phase || f.Replicas != l.last.Replicas || f.Ready != l.last.Ready ||
		f.Desired != l.last.Desired && since >= quietPeriod
	for i, o := range f.Others {
		changed = changed || o.Replicas != l.last.Others[i].Replicas || o.Ready != l.last.Others[i].Ready
	}
	if l.written && !changed && since < l.every {
		return
	}
	l.last, l.written = f, true
	var line strings.Builder
	fmt.Fprintf(&line, "%s  %-8s load %3d (%d running, %d waiting)  desired %2d (%s/%s)  replicas %2d, %d ready%s  HPA %s",
		clock(f.Elapsed), f.Phase, f.Load, f.Active, f.Waiting, f.Desired, number(f.Value), number(f.Target),
		f.Replicas, f.Ready, suffix(f.Draining, "draining"), f.HPA)
	if f.Rule != "" {
		line.WriteString("  rule " + f.Rule)
	}
	for _, o := range f.Others {
		fmt.Fprintf(&line, "  %s %d, %d ready, %d desired", o.Name, o.Replicas, o.Ready, o.Desired)
	}
	if f.GPUs > 0 {
		fmt.Fprintf(&line, "  GPUs %d of %d", f.AllocatedGPUs, f.GPUs)
	}
	_, _ = fmt.Fprintln(l.w, line.String()) // a closed pipe ends the process
}

// number formats a value without trailing zeros.
func number(v float64) string { return fmt.Sprintf("%.6g", v) }

// suffix returns ", n word", or "" for 0.
func suffix(n int, word string) string {
	if n <= 0 {
		return ""
	}
	return fmt.Sprintf(", %d %s", n, word)
}
