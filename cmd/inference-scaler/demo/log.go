package demo

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// calm is the story time in which a log ignores changes of the wanted replicas alone: under a
// noisy load they change all the time.
const calm = 10 * time.Second

// Log writes frames as plain lines, after a change and at intervals. It is for one goroutine.
type Log struct {
	w     io.Writer
	every time.Duration
	last  Frame
	any   bool
}

// NewLog returns a log with a line at least every so often, in story time.
func NewLog(w io.Writer, every time.Duration) *Log { return &Log{w: w, every: every} }

// Show writes the frame if it is due.
func (l *Log) Show(f Frame) {
	since := f.Sim - l.last.Sim
	changed := len(f.Others) != len(l.last.Others) || f.Phase != l.last.Phase || f.Replicas != l.last.Replicas || f.Ready != l.last.Ready ||
		f.Wanted != l.last.Wanted && since >= calm
	for i, o := range f.Others {
		changed = changed || o.Replicas != l.last.Others[i].Replicas || o.Ready != l.last.Others[i].Ready
	}
	if l.any && !changed && since < l.every {
		return
	}
	l.last, l.any = f, true
	var line strings.Builder
	fmt.Fprintf(&line, "%s  %-8s load %3d (%d running, %d waiting)  wanted %2d (%s/%s)  replicas %2d, %d ready%s  HPA %s",
		clock(f.Sim), f.Phase, f.Load, f.Active, f.Waiting, f.Wanted, number(f.Value), number(f.Target),
		f.Replicas, f.Ready, suffix(f.Draining, "draining"), f.HPA)
	if f.Step != "" {
		line.WriteString("  why " + f.Step)
	}
	for _, o := range f.Others {
		fmt.Fprintf(&line, "  %s %d, %d ready, %d wanted", o.Name, o.Replicas, o.Ready, o.Wanted)
	}
	if f.Of > 0 {
		fmt.Fprintf(&line, "  GPUs %d of %d", f.GPUs, f.Of)
	}
	_, _ = fmt.Fprintln(l.w, line.String()) // a closed pipe ends the process
}

// number is a value without trailing zeros.
func number(v float64) string { return fmt.Sprintf("%.6g", v) }

// suffix is ", n word", or empty for 0.
func suffix(n int, word string) string {
	if n <= 0 {
		return ""
	}
	return fmt.Sprintf(", %d %s", n, word)
}
