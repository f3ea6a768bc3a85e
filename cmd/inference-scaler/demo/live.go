package demo

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"time"
)

const (
	loadRows    = 5 // of the charts
	replicaRows = 4
	gutter      = 6 // columns of the scale, left of a chart
	minWidth    = 40
	maxWidth    = 110
)

// eighths fill a character cell from below.
var eighths = []rune(" ▁▂▃▄▅▆▇█")

// The colours of the charts, as ANSI codes.
const (
	colorLoad    = "36"
	colorReady   = "32"
	colorLoading = "33"
	colorWanted  = "2"
)

// Live redraws frames in place, on a terminal with ANSI sequences: the present state, and two
// charts of the past. It is for one goroutine.
type Live struct {
	w       io.Writer
	story   Story
	width   int
	color   bool
	columns []column
	peak    int // the largest load so far; the top of its chart
	drawn   int // lines of the last frame
}

// column is the period of one column of the charts.
type column struct {
	load, wanted    int // the largest
	ready, replicas int // the last
}

// NewLive draws in the width of the terminal, from 40 to 110 columns.
func NewLive(w io.Writer, s Story, width int, color bool) *Live {
	// The last column stays free: some terminals wrap a full line.
	return &Live{w: w, story: s, width: min(max(width-1, minWidth), maxWidth), color: color}
}

// Show draws the frame over the last one.
func (l *Live) Show(f Frame) {
	l.add(f)
	var b bytes.Buffer
	if l.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA\r", l.drawn)
	}
	lines := l.lines(f)
	for _, line := range lines {
		b.WriteString(line)
		b.WriteString("\x1b[K\n")
	}
	l.drawn = len(lines)
	_, _ = l.w.Write(b.Bytes()) // at once, to avoid flicker
}

// add adds the frame to its column. A fast story skips columns; they repeat the one before.
func (l *Live) add(f Frame) {
	count := l.width - gutter
	at := min(int(f.Sim*time.Duration(count)/max(l.story.Duration(), 1)), count-1)
	for len(l.columns) <= at {
		c := column{ready: f.Ready, replicas: f.Replicas}
		if n := len(l.columns); n > 0 && n < at {
			c = l.columns[n-1]
		}
		l.columns = append(l.columns, c)
	}
	c := &l.columns[at]
	c.load, c.wanted = max(c.load, f.Load), max(c.wanted, f.Wanted)
	c.ready, c.replicas = f.Ready, f.Replicas
	l.peak = max(l.peak, f.Load)
}

func (l *Live) lines(f Frame) []string {
	lines := []string{
		l.cut(fmt.Sprintf("%s / %s  ×%s  %s: %s requests/s",
			clock(f.Sim), clock(l.story.Duration()), number(l.story.Speed), f.Phase, number(f.PerSecond))),
		"",
	}
	lines = append(lines, l.loadChart()...)
	lines = append(lines, "")
	lines = append(lines, l.replicaChart()...)
	starting := max(0, f.Replicas-f.Ready)
	lines = append(lines, "",
		l.cut(fmt.Sprintf("load      %d requests: %d running, %d waiting", f.Load, f.Active, f.Waiting)),
		l.cut(fmt.Sprintf("scaler    %d replicas wanted: %s at %s each", f.Wanted, number(f.Value), number(f.Target))),
		l.cut(fmt.Sprintf("because   %s", f.Step)),
		l.cut(fmt.Sprintf("HPA       %s", f.HPA)),
		l.cut(fmt.Sprintf("replicas  %d: %d ready%s%s", f.Replicas, f.Ready,
			suffix(starting, "loading their model"), suffix(f.Draining, "draining"))),
	)
	for _, o := range f.Others {
		lines = append(lines, l.cut(fmt.Sprintf("%-20s %d replicas, %d ready, %d wanted: %s", o.Name, o.Replicas, o.Ready, o.Wanted, o.Step)))
	}
	if f.Of > 0 {
		lines = append(lines, l.cut(fmt.Sprintf("GPUs      %d of %d held%s", f.GPUs, f.Of, suffix(f.Pending, "replicas waiting for one"))))
	}
	return lines
}

func (l *Live) loadChart() []string {
	top := max(l.peak, 1)
	return l.chart(loadRows, top, "load", func(c column, low, high float64) (rune, string) {
		return fill(float64(c.load), low, high), colorLoad
	})
}

// replicaChart shows ready replicas solid, loading ones shaded, and further wanted ones dotted.
func (l *Live) replicaChart() []string {
	return l.chart(replicaRows, l.story.Max, "replicas", func(c column, low, high float64) (rune, string) {
		switch {
		case float64(c.ready) > low:
			return fill(float64(c.ready), low, high), colorReady
		case float64(c.replicas) > low:
			return '░', colorLoading
		case float64(c.wanted) > low:
			return '·', colorWanted
		}
		return ' ', ""
	})
}

// chart draws the columns in rows, from the top. A cell covers the values from low to high.
func (l *Live) chart(rows, top int, name string, cell func(c column, low, high float64) (rune, string)) []string {
	var lines []string
	for row := rows - 1; row >= 0; row-- {
		low, high := float64(row*top)/float64(rows), float64((row+1)*top)/float64(rows)
		var b strings.Builder
		switch row {
		case rows - 1:
			fmt.Fprintf(&b, "%4d ┤", top)
		case 0:
			b.WriteString("   0 ┤")
		default:
			b.WriteString("     │")
		}
		for _, c := range l.columns {
			char, color := cell(c, low, high)
			b.WriteString(l.paint(string(char), color))
		}
		if rest := l.width - gutter - len(l.columns); row == rows-1 && rest > len(name) {
			b.WriteString(strings.Repeat(" ", rest-len(name)) + name)
		}
		lines = append(lines, b.String())
	}
	return lines
}

// fill is the part of a cell from low to high that a value covers.
func fill(value, low, high float64) rune {
	part := min(max((value-low)/(high-low), 0), 1)
	full := len(eighths) - 1
	n := int(part*float64(full) + 0.5)
	if n == 0 && value > low { // a small value is visible
		n = 1
	}
	return eighths[n]
}

func (l *Live) paint(s, color string) string {
	if !l.color || color == "" || s == " " {
		return s
	}
	return "\x1b[" + color + "m" + s + "\x1b[0m"
}

// cut keeps the text on one line: the next frame moves up by the number of lines.
func (l *Live) cut(s string) string {
	s = strings.ReplaceAll(s, "\n", " ")
	if r := []rune(s); len(r) > l.width {
		return string(r[:l.width-1]) + "…"
	}
	return s
}
