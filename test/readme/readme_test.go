// Package readme holds the README and the examples to the code: the generated
// tables are the code's own, and every trigger shown is one that the scaler takes.
package readme

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inference-scaler/inference-scaler/scaler/check"
	"github.com/inference-scaler/inference-scaler/scaler/manifest"
	"github.com/inference-scaler/inference-scaler/scaler/preset"
	"github.com/inference-scaler/inference-scaler/scaler/trigger"
)

const (
	path            = "../../README.md"
	troubleshooting = "../../deploy/TROUBLESHOOTING.md"
)

// maxLines keeps the README one that is read.
const maxLines = 150

func TestGeneratedTables(t *testing.T) {
	text := generated(t, path, map[string]string{"keys": keys(), "presets": presets(), "upstreams": upstreams()})
	lines := strings.Count(text, "\n") - strings.Count(text, "\n|") // tables are looked up, not read
	require.LessOrEqual(t, lines, maxLines)
	generated(t, troubleshooting, map[string]string{"rules": rules()})
}

// generated holds a file's tables to what they are generated from, or with UPDATE
// writes them again. It returns the file's text.
func generated(t *testing.T, path string, tables map[string]string) string {
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	got := string(text)
	for name, table := range tables {
		begin, end := "<!-- begin "+name+" -->\n", "<!-- end "+name+" -->"
		head, rest, ok := strings.Cut(got, begin)
		require.True(t, ok, name)
		_, tail, ok := strings.Cut(rest, end)
		require.True(t, ok, name)
		got = head + begin + table + end + tail
	}
	if os.Getenv("UPDATE") != "" {
		require.NoError(t, os.WriteFile(path, []byte(got), 0o600))
		return got
	}
	require.Equal(t, got, string(text), "make generate writes it again")
	return got
}

func rules() string {
	var b strings.Builder
	b.WriteString("| rule | severity | what it finds |\n|---|---|---|\n")
	for _, r := range check.Rules {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", r.Name, r.Severity, r.Doc)
	}
	return b.String()
}

func keys() string {
	var b strings.Builder
	b.WriteString("| key | default | meaning |\n|---|---|---|\n")
	for _, k := range trigger.Keys {
		def := k.Default
		if def == "" {
			def = "–"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", k.Name, def, k.Doc)
	}
	return b.String()
}

func presets() string {
	var b strings.Builder
	b.WriteString("| engine | target | port | load | work in flight | brake |\n|---|---|---|---|---|---|\n")
	for _, name := range preset.Names() {
		p, _ := preset.Lookup(name)
		target, port, flight, brake := fmt.Sprintf("%g", p.Target), strconv.Itoa(p.Port), "unknown: never sleeps", "–"
		if p.Target == 0 {
			target = "must be given"
		}
		if p.Port == 0 {
			port = "must be given"
		}
		if p.InFlight.PromQL != "" {
			flight = metrics(p.InFlight.PromQL)
		}
		if p.Saturation.PromQL != "" {
			brake = fmt.Sprintf("%s, %g", metrics(p.Saturation.PromQL), p.SaturationTarget)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s |\n", name, target, port, metrics(p.Load.PromQL), flight, brake)
	}
	return b.String()
}

func upstreams() string {
	var b strings.Builder
	b.WriteString("| upstream | counts | queued | in flight | arrivals |\n|---|---|---|---|---|\n")
	for _, name := range preset.UpstreamNames() {
		u, _ := preset.LookupUpstream(name)
		counts := "queued"
		if u.CountsInFlight {
			counts = "inflight"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", name, counts, metricsOf(u.Queued.PromQL), metricsOf(u.InFlight.PromQL), metricsOf(u.Arrivals))
	}
	return b.String()
}

// metricsOf lists the metrics of a query, or that there is none.
func metricsOf(promql string) string {
	if promql == "" {
		return "–"
	}
	return metrics(promql)
}

var (
	nameList  = regexp.MustCompile(`__name__=~"([^"]*)"`)
	separator = strings.NewReplacer("[:_]", ":")
)

// metrics lists the metric names of a query, each once and in one spelling.
func metrics(promql string) string {
	var all []string
	seen := map[string]bool{}
	for _, m := range nameList.FindAllStringSubmatch(promql, -1) {
		for _, name := range strings.Split(separator.Replace(m[1]), "|") {
			if short := strings.TrimSuffix(name, "_total"); !seen[short] {
				seen[short] = true
				all = append(all, "`"+short+"`")
			}
		}
	}
	return strings.Join(all, " ")
}

func TestExamplesAndRenderingsHaveNothingToMend(t *testing.T) {
	for dir, least := range map[string]int{"../../examples": 12, "../chart/testdata": 5} {
		count := 0
		err := filepath.WalkDir(dir, func(file string, _ fs.DirEntry, err error) error {
			if err != nil || filepath.Ext(file) != ".yaml" {
				return err
			}
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			report := checked(t, file, string(text))
			require.Empty(t, report.Findings)
			count += report.ScaledObjects
			return nil
		})
		require.NoError(t, err)
		require.GreaterOrEqual(t, count, least, dir)
	}
}

func TestWhatTheREADMEShowsIsTaken(t *testing.T) {
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	count := 0
	for _, block := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		report := checked(t, path, block[1])
		count += report.ScaledObjects
		for _, f := range report.Findings {
			require.Equal(t, "tolerance", f.Rule, "what the text below it is about: %s", f.Message)
		}
	}
	require.NotZero(t, count)
}

func checked(t *testing.T, file, text string) check.Report {
	docs, err := manifest.Read(file, strings.NewReader(text))
	require.NoError(t, err)
	return check.Check(docs, check.Options{})
}
