package exposition

import (
	"bytes"
	"fmt"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
)

// seeds are bodies with one difficulty each, for the names in seedNames.
var seeds = []string{
	"vllm:num_requests 1\nup 2 3\n",
	" \tvllm:num_requests \t{ a = \"b\" , c=\"d\"\t, }\t 1\n",
	"vllm:num_requests{a=\"\\\"}\\\\\",b=\"{# \\n\"} -Inf 5\nup{}NaN\n",
	"{\"vllm:num_requests\",a=\"b\"} 1\n{\"a.b\",\"c d\"=\"\"} 2\n{up} 3\n\"a.b\"{a=\"b\"} 4\n",
	"{\"vllm:num_requests\",a=\"b\"} 1\n{a=\"b\"} 2\n{} 3\n",
	"# HELP vllm:num_requests a\\nb\n# TYPE vllm:num_requests gauge\nvllm:num_requests 1\n# EOF\nup 1\n",
	"# TYPE h_seconds histogram\nh_seconds_bucket{le=\"1\"} 1.5\nh_seconds_bucket{le=\"+Inf\"} 2\nh_seconds_sum 0.1\nh_seconds_count 2\n",
	"# TYPE h_seconds summary\nh_seconds{quantile=\"0.5\"} 1.5\nh_seconds_sum NaN\nh_seconds_count 2\n",
	"h_seconds_bucket{le=\"1\"} 1 1.5 # {trace_id=\"a}\"} 0.5 1.25\nup 1 # {} 1\n",
	"up 0x1\nup 1_0\nup 1e999\nup infinity\nup +nan\n",
	"vllm:num_requests 1\r\nup 2\r\n",
	"vllm:num_requests{vllm:num_requests=\"vllm:num_requests\"} 1\nx{y=\"vllm:num_requests 7\"} 1\n",
	"vllm:num_requests-1\nvllm:num_requests\"\" 1\nu\"p\" 1\n",
	"{\"q\\\"\\\\\\nq\"} 1\n{\"q\\q\"} 2\n",
	"up 1\nup 2\nup{a=\"\"} 3\n",
}

const seedNames = "vllm:num_requests,up,a.b,h_seconds,h_seconds_bucket,h_seconds_sum,h_seconds_count,q\"\\\nq,q\\q"

func addSeeds(f *testing.F) {
	for _, body := range seeds {
		f.Add([]byte(body), seedNames)
		f.Add([]byte(body), "vllm:num_requests,h_seconds_bucket") // probing
	}
	f.Add(vllmBody()[:8000], vllmMetrics[0]+","+vllmMetrics[1])
}

func FuzzScannerAgainstExpfmt(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, body []byte, csv string) {
		defer time.AfterFunc(20*time.Second, func() { panic("hangs") }).Stop()
		names := parseNames(csv)
		want, ok := expfmtReadings(body, names)
		if !ok {
			return
		}
		eachVariant(names, func(n *Names) {
			require.Equal(t, want, scanned(t, body, n, func(l labels.Labels) labels.Labels { return l }))
		})
	})
}

func FuzzScannerAgainstOpenMetrics(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, body []byte, csv string) {
		defer time.AfterFunc(20*time.Second, func() { panic("hangs") }).Stop()
		body = append(bytes.Clone(body), "# EOF\n"...)
		names := parseNames(csv)
		want, ok := openMetricsReadings(body, names)
		if !ok {
			return
		}
		require.True(t, Complete(body))
		eachVariant(names, func(n *Names) {
			require.Equal(t, want, scanned(t, body, n, canonical))
		})
	})
}

// FuzzScanner checks that no input panics, and that all ways to find names agree in samples
// and errors. Truncation must not change the samples before it.
func FuzzScanner(f *testing.F) {
	for _, body := range seeds {
		f.Add([]byte(body), seedNames, len(body)/2)
		f.Add([]byte(body), "vllm:num_requests,h_seconds_bucket", len(body)-1)
	}
	f.Add(vllmBody()[:8000], vllmMetrics[0], 4000)
	f.Fuzz(func(t *testing.T, body []byte, csv string, cut int) {
		defer time.AfterFunc(20*time.Second, func() { panic("hangs") }).Stop()
		names := parseNames(csv)
		read := func(body []byte) (got []string) {
			first, outcome := true, error(nil)
			eachVariant(names, func(n *Names) {
				var series []string
				samples, err := scanAll(new(Scanner), string(body), n)
				for _, s := range samples {
					require.NotContains(t, s.series, "\n")
					_, _ = ParseLabels([]byte(s.series))
					series = append(series, fmt.Sprint(s)) // as text NaN equals NaN
				}
				if !first {
					require.Equal(t, got, series)
					require.Equal(t, outcome, err)
				}
				first, got, outcome = false, series, err
			})
			return got
		}
		whole, part := read(body), read(body[:min(max(cut, 0), len(body))])
		if k := len(part) - 1; k > 0 { // the last one can be truncated
			require.Equal(t, whole[:k], part[:k])
		}
		HasPrefix(body, csv, "vllm:")
		Complete(body)
	})
}

// FuzzParseLabels checks that accepted labels are valid, and that the Scanner finds the
// series by its name.
func FuzzParseLabels(f *testing.F) {
	for _, body := range seeds {
		for line := range bytes.Lines([]byte(body)) {
			f.Add(line[:len(line)-1])
			if i := bytes.IndexByte(line, '}'); i >= 0 {
				f.Add(line[:i+1])
			}
		}
	}
	f.Fuzz(func(t *testing.T, series []byte) {
		defer time.AfterFunc(20*time.Second, func() { panic("hangs") }).Stop()
		l, err := ParseLabels(series)
		if err != nil {
			require.True(t, l.IsEmpty())
			return
		}
		previous := ""
		l.Range(func(l labels.Label) {
			require.Greater(t, l.Name, previous)
			require.NotEmpty(t, l.Value)
			require.True(t, utf8.ValidString(l.Name) && utf8.ValidString(l.Value))
			previous = l.Name
		})
		name := l.Get(model.MetricNameLabel)
		require.NotEmpty(t, name)
		got, err := scanAll(new(Scanner), "a 1\n"+string(series)+" 2\n", NewNames([]string{name}, nil))
		require.NoError(t, err)
		require.NotEmpty(t, got)
		require.Equal(t, sample{string(bytes.TrimRight(series, " \t")), 2}, got[len(got)-1])
	})
}
