package demo

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"time"
)

const (
	loadRows    = 5 // heights of the charts
	replicaRows = 4
	gutter      = 6 // width of the axis, left of a chart
	minWidth    = 40
	maxWidth    = 110
)

// eighths are bars that fill a character cell from below.
var eighths = []rune(" ▁▂▃▄▅▆▇█")

// The colours of the charts, as ANSI codes.
const (
	colorLoad     = "36"
	colorReady    = "32"
	colorNotReady = "33"
	colorDesired  = "2"
)

// Live redraws frames in place on a terminal with ANSI escape sequences: the current state and two
// charts of the past. It is not safe for concurrent use.
type Live struct {
	w        io.Writer
	scenario Scenario
	width    int
	color    bool
	columns  []column
	peak     int // the largest load so far, which is the top of its chart
	drawn    int // lines of the last frame
}

// column is one column of the charts. It covers a period of simulated time.
type column struct {
	load, desired   int // maxima of the period
	ready, replicas int // at the end of the period
}

// NewLive returns a display that is 40 to 110 columns wide, within the width of the terminal.
func NewLive(w io.Writer, s Scenario, width int, color bool) *Live {
	// The last column stays empty, because some terminals wrap a full line.
	return &Live{w: w, scenario: s, width: min(max(width-1, minWidth), maxWidth), color: color}
}

// Show draws the frame over the previous one.
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
	_, _ = l.w.Write(b.Bytes()) // one write, to avoid flicker
}

// add adds the frame to its column. Columns without a frame repeat the previous one.
func (l *Live) add(f Frame) {
	count := l.width - gutter
	at := min(int(f.Elapsed*time.Duration(count)/max(l.scenario.Duration(), 1)), count-1)
	for len(l.columns) <= at {
		c := column{ready: f.Ready, replicas: f.Replicas}
		if n := len(l.columns); n > 0 && n < at {
			c = l.columns[n-1]
		}
		l.columns = append(l.columns, c)
	}
	c := &l.columns[at]
	c.load, c.desired = max(c.load, f.Load), max(c.desired, f.Desired)
	c.ready, c.replicas = f.Ready, f.Replicas
	l.peak = max(l.peak, f.Load)
}

func (l *Live) lines(f Frame) []string {
	lines := []string{
		l.cut(fmt.Sprintf("%s / %s  ×%s  %s: %s requests/s",
			clock(f.Elapsed), clock(l.scenario.Duration()), number(l.scenario.Speed), f.Phase, number(f.PerSecond))),
		"",
	}
	lines = append(lines, l.loadChart()...)
	lines = append(lines, "")
	lines = append(lines, l.replicaChart()...)
	notReady := max(0, f.Replicas-f.Ready)
	lines = append(lines, "",
		l.cut(fmt.Sprintf("load      %d requests: %d running, %d waiting", f.Load, f.Active, f.Waiting)),
		l.cut(fmt.Sprintf("desired   %d replicas: value %s, target %s", f.Desired, number(f.Value), number(f.Target))),
		l.cut(fmt.Sprintf("rule      %s", f.Rule)),
		l.cut(fmt.Sprintf("HPA       %s", f.HPA)),
		l.cut(fmt.Sprintf("replicas  %d: %d ready%s%s", f.Replicas, f.Ready,
			suffix(notReady, "not ready"), suffix(f.Draining, "draining"))),
	)
	for _, o := range f.Others {
		lines = append(lines, l.cut(fmt.Sprintf("%-20s %d replicas, %d ready, %d desired: %s", o.Name, o.Replicas, o.Ready, o.Desired, o.Rule)))
	}
	if f.GPUs > 0 {
		lines = append(lines, l.cut(fmt.Sprintf("GPUs      %d of %d allocated; pending replicas: %d", f.AllocatedGPUs, f.GPUs, f.Pending)))
	}
	return lines
}

func (l *Live) loadChart() []string {
	top := max(l.peak, 1)
	return l.chart(loadRows, top, "load", func(c column, low, high float64) (rune, string) {
		return fill(float64(c.load), low, high), colorLoad
	})
}

// replicaChart shows ready replicas solid, other replicas shaded, and further desired ones dotted.
func (l *Live) replicaChart() []string {
	return l.chart(replicaRows, l.scenario.Max, "replicas", func(c column, low, high float64) (rune, string) {
		switch {
		case float64(c.ready) > low:
			return fill(float64(c.ready), low, high), colorReady
		case float64(c.replicas) > low:
			return '░', colorNotReady
		case float64(c.desired) > low:
			return '·', colorDesired
		}
		return ' ', ""
	})
}

// chart draws the rows from the top. A cell covers the values from low to high.
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

// fill returns the bar of a value in a cell from low to high.
func fill(value, low, high float64) rune {
	part := min(max((value-low)/(high-low), 0), 1)
	full := len(eighths) - 1
	n := int(part*float64(full) + 0.5)
	if n == 0 && value > low { // a small value stays visible
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

// cut truncates the text to one line: the next frame moves the cursor up by the number of lines.
func (l *Live) cut(s string) string {
	s = strings.ReplaceAll(s, "\n", " ")
	if r := []rune(s); len(r) > l.width {
		return string(r[:l.width-1]) + "…"
	}
	return s
}
