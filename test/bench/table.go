package main

import (
	"fmt"
	"io"
	"math"
	"strings"
)

// limit is what a ratio of two figures of one run has to keep.
type limit struct {
	// ratio is of the peer's figure to the product's, or of the product's to the peer's.
	atLeast, atMost float64 // one of them; 0: no limit
}

func atLeast(ratio float64) limit { return limit{atLeast: ratio} }
func atMost(ratio float64) limit  { return limit{atMost: ratio} }

// noLimit is of a figure that is shown alone.
var noLimit = limit{}

func (l limit) String() string {
	switch {
	case l.atLeast > 0:
		return fmt.Sprintf("≥ %g ×", l.atLeast)
	case l.atMost > 0:
		return fmt.Sprintf("≤ %g ×", l.atMost)
	}
	return ""
}

// kept is false for what is no ratio: one of its figures was measured over nothing.
func (l limit) kept(ratio float64) bool {
	return ratio > 0 && !math.IsInf(ratio, 1) && (l.atLeast == 0 || ratio >= l.atLeast) && (l.atMost == 0 || ratio <= l.atMost)
}

// table prints each figure as it is known, and counts what was missed.
type table struct {
	out    io.Writer
	missed []string
}

func newTable(out io.Writer) *table {
	return &table{out: out}
}

func (t *table) part(title string) {
	fmt.Fprintf(t.out, "\n%s\n\n| measured | product | peer | ratio | limit | |\n|---|---|---|---|---|---|\n", title)
}

// row is a figure beside its peer's; the ratio is what the limit is of.
func (t *table) row(what, product, peer string, ratio float64, l limit) {
	verdict := ""
	if l != noLimit {
		verdict = "kept"
		if !l.kept(ratio) {
			verdict = "MISSED"
			t.missed = append(t.missed, fmt.Sprintf("%s: %.2f ×, limit %s", what, ratio, l))
		}
	}
	fmt.Fprintf(t.out, "| %s | %s | %s | %s | %s | %s |\n", what, product, peer, times(ratio), l, verdict)
}

// alone is a figure that has no peer.
func (t *table) alone(what, figure string) {
	fmt.Fprintf(t.out, "| %s | %s | | | | |\n", what, figure)
}

// holds is a figure with a limit of its own, a count, a size, a share, or a time with tolerance for a slow machine.
func (t *table) holds(what, figure, limit string, kept bool) {
	verdict := "kept"
	if !kept {
		verdict = "MISSED"
		t.missed = append(t.missed, fmt.Sprintf("%s: %s, limit %s", what, figure, limit))
	}
	fmt.Fprintf(t.out, "| %s | %s | | | %s | %s |\n", what, figure, limit, verdict)
}

func times(ratio float64) string {
	if ratio == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", ratio)
}

// finish says what was missed, and returns the exit code.
func (t *table) finish() int {
	if len(t.missed) == 0 {
		fmt.Fprintln(t.out, "\nEvery limit was kept.")
		return 0
	}
	fmt.Fprintf(t.out, "\n%d limits were missed:\n  %s\n", len(t.missed), strings.Join(t.missed, "\n  "))
	return 1
}
