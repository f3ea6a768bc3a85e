package main

import (
	"bytes"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/perf/benchfmt"
)

// measured are the figures of benchmarks, by name without "Benchmark" and the number of
// processors, then by unit ("sec/op", "allocs/op", …); the median of the runs.
type measured map[string]map[string]float64

// processors is what a benchmark's name ends with where there are some.
var processors = regexp.MustCompile(`-\d+$`)

// goBench runs the benchmarks of packages of the product, separated by spaces. Each is run
// three times, in turns.
func (b *bench) goBench(pkgs, pattern, benchtime string) (measured, error) {
	var out []byte
	for range 3 {
		args := []string{"-C", "../..", "test", "-run", "^$", "-bench", pattern, "-benchmem", "-benchtime", benchtime, "-count", "1"}
		cmd := exec.CommandContext(b, "go", append(args, strings.Fields(pkgs)...)...)
		text, err := cmd.CombinedOutput()
		if err != nil {
			return nil, fmt.Errorf("%s: %w\n%s", pkgs, err, text)
		}
		out = append(out, text...)
	}
	all := map[string]map[string][]float64{}
	r := benchfmt.NewReader(bytes.NewReader(out), pkgs)
	for r.Scan() {
		result, ok := r.Result().(*benchfmt.Result)
		if !ok {
			continue
		}
		name := string(result.Name.Full())
		name = processors.ReplaceAllString(name, "")
		if all[name] == nil {
			all[name] = map[string][]float64{}
		}
		for _, v := range result.Values {
			all[name][v.Unit] = append(all[name][v.Unit], v.Value)
		}
	}
	if err := r.Err(); err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s: no benchmark %s:\n%s", pkgs, pattern, out)
	}
	medians := measured{}
	for name, units := range all {
		medians[name] = map[string]float64{}
		for unit, values := range units {
			slices.Sort(values)
			medians[name][unit] = values[len(values)/2]
		}
	}
	return medians, nil
}

// of is a figure that has to be there.
func (m measured) of(name, unit string) float64 {
	v, ok := m[name][unit]
	if !ok {
		panic(fmt.Sprintf("no %s of %s among %v", unit, name, m))
	}
	return v
}

func micro(seconds float64) string { return fmt.Sprintf("%.1f µs", seconds*1e6) }
