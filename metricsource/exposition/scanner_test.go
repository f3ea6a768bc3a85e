package exposition

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

type sample struct {
	series string
	value  float64
}

func scanAll(s *Scanner, body string, names *Names) ([]sample, error) {
	var got []sample
	for s.Reset([]byte(body), names); s.Next(); {
		got = append(got, sample{string(s.Series()), s.Value()})
	}
	return got, s.Err()
}

// variants returns the three ways to find the same names: probing, line by line (forced by
// a name that is too short for probing), and with a predicate.
func variants(names ...string) map[string]*Names {
	in := func(name string) bool { return slices.Contains(names, name) }
	return map[string]*Names{
		"probing":   NewNames(names, nil),
		"lines":     NewNames(append([]string{"n"}, names...), nil),
		"predicate": NewNames(nil, in),
	}
}

// one is the selected name of the tables.
const one = "vllm:num_requests"

func TestScannerReads(t *testing.T) {
	for _, tc := range []struct {
		name, body string
		want       []sample
	}{
		{"empty", "", nil},
		{"plain", "vllm:num_requests 1\n", []sample{{one, 1}}},
		{"no final newline", "vllm:num_requests 1", []sample{{one, 1}}},
		{"after other lines", "a 1\n\nb{c=\"d\"} 2\nvllm:num_requests 1\nz 3\n", []sample{{one, 1}}},
		{"CRLF", "a 1\r\nvllm:num_requests 1\r\nvllm:num_requests{a=\"b\"} 2\r\n", []sample{{one, 1}, {one + `{a="b"}`, 2}}},
		{"labels", `vllm:num_requests{a="b",c="d"} 1` + "\n", []sample{{one + `{a="b",c="d"}`, 1}}},
		{"no labels in braces", "vllm:num_requests{} 1\n", []sample{{one + "{}", 1}}},
		{"trailing comma", `vllm:num_requests{a="b",} 1`, []sample{{one + `{a="b",}`, 1}}},
		{"blanks everywhere", " \tvllm:num_requests \t{ a = \"b\" , c=\"d\"\t, }\t 1 \t", []sample{{one + " \t{ a = \"b\" , c=\"d\"\t, }", 1}}},
		{"no blank before the value", `vllm:num_requests{a="b"}1`, []sample{{one + `{a="b"}`, 1}}},
		{"tab before the value", "vllm:num_requests\t1\t2\n", []sample{{one, 1}}},
		{"timestamp", "vllm:num_requests 1 1700000000000\nvllm:num_requests 2 -5\n", []sample{{one, 1}, {one, 2}}},
		{"float timestamp", "vllm:num_requests 1 1.7e9\n", []sample{{one, 1}}},
		{"exemplar", `vllm:num_requests{le="1"} 1 # {trace_id="a}#{"} 0.5` + "\n", []sample{{one + `{le="1"}`, 1}}},
		{"exemplar with timestamps", `vllm:num_requests 1 1.5 # {} 0.5 1.25`, []sample{{one, 1}}},
		{"braces in a value", `vllm:num_requests{a="}{ # 7"} 1`, []sample{{one + `{a="}{ # 7"}`, 1}}},
		{"escapes in a value", `vllm:num_requests{a="\"} 2",b="\\"} 1`, []sample{{one + `{a="\"} 2",b="\\"}`, 1}}},
		{"duplicates", "vllm:num_requests 1\nvllm:num_requests 2\n", []sample{{one, 1}, {one, 2}}},
		{"comments", "# HELP vllm:num_requests vllm:num_requests 1\n# TYPE vllm:num_requests gauge\n #vllm:num_requests 1\n#vllm:num_requests 3\n", nil},
		{"EOF is a comment", "# EOF\nvllm:num_requests 1\n", []sample{{one, 1}}},
		{"longer names", "vllm:num_requests_x 1\nxvllm:num_requests 1\nvllm:num_requests:x 2\nvllm:num_requests 3\n", []sample{{one, 3}}},
		{"shorter names", "vllm:num_request 1\nvllm: 2\n", nil},
		{"name in a label value", `a{b="vllm:num_requests",c=" vllm:num_requests 5"} 1` + "\nvllm:num_requests 2", []sample{{one, 2}}},
		{"name as a value", "a vllm:num_requests 1\nvllm:num_requests 2", []sample{{one, 2}}},
		{"name and value without a separator", "vllm:num_requests+1\nvllm:num_requests-1\nvllm:num_requests.5 1\n", nil},
		{"quoted", `{"vllm:num_requests"} 1`, []sample{{`{"vllm:num_requests"}`, 1}}},
		{"quoted with labels", ` { "vllm:num_requests" , a="b","c.d"="e"} 1`, []sample{{`{ "vllm:num_requests" , a="b","c.d"="e"}`, 1}}},
		{"quoted after labels", `{a="b","vllm:num_requests"} 1`, []sample{{`{a="b","vllm:num_requests"}`, 1}}},
		{"quoted outside braces", `"vllm:num_requests"{a="b"} 1`, []sample{{`"vllm:num_requests"{a="b"}`, 1}}},
		{"quoted label with the name", `{"a.b","vllm:num_requests"="c"} 1`, nil},
		{"quoted, longer", `{"vllm:num_requests.x"} 1`, nil},
		{"malformed lines of other metrics", "a{ 1\n}\n\"\n{\n{\"\n{,} 1\n%%%\nvllm:num_requests 2\nx", []sample{{one, 2}}},
		{"latin-1 in a line of another metric", "a{b=\"\xff\"} 1\nvllm:num_requests 2\n", []sample{{one, 2}}},
	} {
		for variant, names := range variants(one) {
			t.Run(tc.name+"/"+variant, func(t *testing.T) {
				got, err := scanAll(new(Scanner), tc.body, names)
				require.NoError(t, err)
				require.Equal(t, tc.want, got)
			})
		}
	}
}

func TestScannerRejects(t *testing.T) {
	for _, tc := range []struct{ line, want string }{
		{"vllm:num_requests", `line 3: expected a number after the series at ""`},
		{"vllm:num_requests\r", `line 3: expected a number after the series at ""`},
		{"vllm:num_requests ", `line 3: expected a number after the series at ""`},
		{"vllm:num_requests x", `line 3: expected a number after the series at "x"`},
		{"vllm:num_requests 1_0", `line 3: expected a number after the series at "1_0"`},
		{"vllm:num_requests 0x1p2", `line 3: expected a number after the series at "0x1p2"`},
		{"vllm:num_requests 1e999", `line 3: expected a number after the series at "1e999"`},
		{"vllm:num_requests 1#", `line 3: expected a number after the series at "1#"`},
		{"vllm:num_requests 1 x", `line 3: expected a timestamp or the end of the line at "x"`},
		{"vllm:num_requests 1 NaN", `line 3: expected a timestamp or the end of the line at "NaN"`},
		{"vllm:num_requests 1 2 3", `line 3: expected the end of the line at "3"`},
		{"vllm:num_requests 1 # so", `line 3: expected an exemplar or the end of the line at "# so"`},
		{"vllm:num_requests 1 #", `line 3: expected an exemplar or the end of the line at "#"`},
		{"vllm:num_requests 1 # {", `line 3: unterminated exemplar at "# {"`},
		{"vllm:num_requests 1 # {}", `line 3: expected the value of an exemplar at ""`},
		{"vllm:num_requests 1 # {} 1 x", `line 3: expected the timestamp of an exemplar or the end of the line at "x"`},
		{"vllm:num_requests 1 # {} 1 2 3", `line 3: expected the timestamp of an exemplar or the end of the line at "2 3"`},
		{"vllm:num_requests{", `line 3: unterminated label block at "vllm:num_requests{"`},
		{`vllm:num_requests{a="} 1`, `line 3: unterminated label block at "vllm:num_requests{a=\"} 1"`},
		{`{"vllm:num_requests",a="} 1`, `line 3: unterminated label block at "{\"vllm:num_requests\",a=\"} 1"`},
		{`{"vllm:num_requests"}{} 1`, `line 3: expected a number after the series at "{} 1"`},
		{"vllm:num_requests " + strings.Repeat("\xff", 500), `line 3: expected a number after the series at "` + strings.Repeat(`\xff`, 61) + `…"`},
	} {
		for variant, names := range variants(one) {
			t.Run(tc.line+"/"+variant, func(t *testing.T) {
				var s Scanner
				got, err := scanAll(&s, "vllm:num_requests 1\na 1\n"+tc.line+"\nvllm:num_requests 2\n", names)
				require.EqualError(t, err, tc.want)
				var syntax *SyntaxError
				require.ErrorAs(t, err, &syntax)
				require.Equal(t, 3, syntax.Line)
				require.Equal(t, []sample{{one, 1}}, got, "samples before an error are valid")
				require.False(t, s.Next(), "an error is final")

				_, err = scanAll(&s, one+" 1\n", names)
				require.NoError(t, err, "Reset clears the error")
			})
		}
	}
}

func TestScannerReadsNumbers(t *testing.T) {
	for text, want := range map[string]float64{
		"0": 0, "-0": math.Copysign(0, -1), "+1": 1, "1.": 1, ".5": 0.5, "1e3": 1000, "1E-3": 0.001, "17.0": 17,
		"9.007199254740993e+15": 9.007199254740993e+15, "1.7976931348623157e308": math.MaxFloat64, "4.9e-324": 5e-324,
		"+Inf": math.Inf(1), "Inf": math.Inf(1), "inf": math.Inf(1), "-INF": math.Inf(-1), "-Infinity": math.Inf(-1), "infinity": math.Inf(1),
	} {
		got, err := scanAll(new(Scanner), one+" "+text+"\n", NewNames([]string{one}, nil))
		require.NoError(t, err, text)
		require.Equal(t, []sample{{one, want}}, got, text)
	}
	for _, text := range []string{"NaN", "nan", "NAN"} {
		got, err := scanAll(new(Scanner), one+" "+text+"\n", NewNames([]string{one}, nil))
		require.NoError(t, err, text)
		require.True(t, math.IsNaN(got[0].value), text)
	}
}

func TestScannerFindsEverySetOfNames(t *testing.T) {
	all := []string{
		"up", "a", "http_requests_total", "vllm:num_requests_waiting", "vllm:num_requests_running", "num_requests_running",
		"vllm:num_requests_waiting_by_reason", "seven_7", "eight_88", "eleven_1111", "aaaaaaaaaaaaaaaa", "aaaaaaaaaaaaaaaaa", "a.b", "with \"quotes\" and \\",
	}
	line := func(name string, v int) string {
		if metricNameEnd([]byte(name), 0) == len(name) {
			return fmt.Sprintf("%s %d\n", name, v)
		}
		return fmt.Sprintf("{%q} %d\n", name, v)
	}
	var body strings.Builder
	for i, name := range all {
		body.WriteString(line(name, i))
	}
	for set := range 1 << len(all) {
		var names, want []string
		for i, name := range all {
			if set&(1<<i) != 0 {
				names = append(names, name, name) // a duplicate has no effect
				want = append(want, strings.TrimSuffix(line(name, i), fmt.Sprintf(" %d\n", i)))
			}
		}
		var got []string
		samples, err := scanAll(new(Scanner), body.String(), NewNames(names, nil))
		require.NoError(t, err)
		for _, s := range samples {
			got = append(got, s.series)
		}
		require.Equal(t, want, got, "%q", names)
	}
}

func TestScannerWithoutNames(t *testing.T) {
	for _, names := range []*Names{nil, NewNames(nil, nil), NewNames([]string{""}, nil)} {
		got, err := scanAll(new(Scanner), "{\"\"} 1\na 1\n", names)
		require.NoError(t, err)
		require.Empty(t, got)
	}
}

func TestScannerLimitsTheMatchCache(t *testing.T) {
	var body strings.Builder
	for i := range 3 * maxMatchCache {
		fmt.Fprintf(&body, "name_%d{a=\"b\"} 1\nname_%d 2\n", i, i)
	}
	calls := 0
	names := NewNames([]string{"name_2"}, func(name string) bool { calls++; return name == "name_1" })
	var s Scanner
	want := []sample{{`name_1{a="b"}`, 1}, {"name_1", 2}, {`name_2{a="b"}`, 1}, {"name_2", 2}}
	got, err := scanAll(&s, body.String(), names)
	require.NoError(t, err)
	require.Equal(t, want, got)
	require.Equal(t, 3*maxMatchCache-1, calls, "once per name, not for exact names")
	require.LessOrEqual(t, len(s.matchCache), maxMatchCache)

	got, err = scanAll(&s, "name_1 1\nname_3 3\n", NewNames(nil, func(name string) bool { return name == "name_3" }))
	require.NoError(t, err)
	require.Equal(t, []sample{{"name_3", 3}}, got, "new names clear the cache")
}

func TestScannerLine(t *testing.T) {
	var s Scanner
	s.Reset([]byte("a 1\nb 1\n\nb 2\n"), NewNames([]string{"b"}, nil))
	require.True(t, s.Next())
	require.Equal(t, 2, s.Line())
	require.True(t, s.Next())
	require.Equal(t, 4, s.Line())
}

func TestScannerReadsVLLM(t *testing.T) {
	body := string(vllmBody())
	for variant, names := range variants(vllmMetrics...) {
		got, err := scanAll(new(Scanner), body, names)
		require.NoError(t, err, variant)
		require.Equal(t, []sample{
			{"vllm:num_requests_running{" + vllmLabels + "}", 7},
			{"vllm:num_requests_waiting{" + vllmLabels + "}", 3},
			{"vllm:kv_cache_usage_perc{" + vllmLabels + "}", 0.25},
		}, got, variant)
	}
}

func TestScannerDoesNotAllocate(t *testing.T) {
	body := append(vllmBody(), "{\"escaped\\\"name\",a=\"b\"} 1\n"...)
	histogram := "vllm:time_to_first_token_seconds_bucket"
	sets := variants(append([]string{histogram}, vllmMetrics...)...)
	maps.Copy(sets, map[string]*Names{"quoted": NewNames(append([]string{`escaped"name`}, vllmMetrics...), nil)})
	for variant, names := range sets {
		var s Scanner
		seen := map[string]float64{}
		allocs := testing.AllocsPerRun(10, func() {
			for s.Reset(body, names); s.Next(); {
				if _, ok := seen[string(s.Series())]; !ok {
					seen[string(s.Series())] = s.Value()
				}
			}
		})
		require.NoError(t, s.Err(), variant)
		require.GreaterOrEqual(t, len(seen), 4, variant)
		require.Zero(t, allocs, variant)
	}
}
