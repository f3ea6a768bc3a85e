package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// expositions: the wanted series out of a body, beside counting its lines, beside what
// reads all of it into structures, and beside Prometheus' own parser.
func expositions(b *bench) error {
	b.table.part("The wanted series out of a body")
	whole, err := b.goBench("./metricsource/exposition", "^Benchmark(ScanVLLM|NewlineCount|Expfmt|Textparse)$", "300ms")
	if err != nil {
		return err
	}
	ours := whole.of("ScanVLLM", "sec/op")
	for _, peer := range []struct {
		name, what string
		limit      limit
	}{{"Expfmt", "expfmt", atLeast(40)}, {"Textparse", "Prometheus' textparse", noLimit}} {
		theirs := whole.of(peer.name, "sec/op")
		b.table.row("vLLM, 60 KB", micro(ours), peer.what+" "+micro(theirs), theirs/ours, peer.limit)
	}
	count := whole.of("NewlineCount", "sec/op")
	b.table.row("vLLM, 60 KB", micro(ours), "counting lines "+micro(count), ours/count, atMost(8))
	allocations := whole.of("ScanVLLM", "allocs/op")
	b.table.holds("vLLM, 60 KB: allocations", fmt.Sprint(allocations), "0", allocations == 0)

	presets, err := b.goBench("./scaler", "^BenchmarkExpositions$", "50ms")
	if err != nil {
		return err
	}
	bodies := 0
	for _, name := range slices.Sorted(maps.Keys(presets)) {
		body, found := strings.CutSuffix(name, "/scan")
		if !found {
			continue
		}
		bodies++
		_, shown, _ := strings.Cut(body, "/")
		scan, expfmt := presets.of(name, "sec/op"), presets.of(body+"/expfmt", "sec/op")
		b.table.row(shown, micro(scan), "expfmt "+micro(expfmt), expfmt/scan, noLimit)
		allocations := presets.of(name, "allocs/op")
		b.table.holds(shown+": allocations", fmt.Sprint(allocations), "0", allocations == 0)
	}
	if bodies == 0 {
		return errors.New("no exposition of a preset was scanned")
	}
	return nil
}

// functions: what is inside one process.
func functions(b *bench) error {
	b.table.part("Deciding")
	scaler, err := b.goBench("./scaler ./scaler/evaluator ./scaler/capacity/broker", "^Benchmark(Evaluate|CapacityChange|CapacityNode|Start)$", "500ms")
	if err != nil {
		return err
	}
	for _, pods := range []string{"1", "10", "100", "1000"} {
		b.table.alone("an evaluation over "+pods+" pods", fmt.Sprintf("%s, where nothing has changed %s",
			micro(scaler.of("Evaluate/pods="+pods+"/change=true", "sec/op")), micro(scaler.of("Evaluate/pods="+pods+"/change=false", "sec/op"))))
	}
	few, many := scaler.of("Evaluate/pods=100/change=true", "sec/op")/100, scaler.of("Evaluate/pods=1000/change=true", "sec/op")/1000
	b.table.row("a pod of an evaluation: of 1000 beside of 100", micro(many), micro(few), many/few, atMost(1.5))
	for _, change := range []string{"CapacityChange", "CapacityNode"} {
		took := scaler.of(change, "sec/op")
		b.table.holds(change+" (1000 nodes, 500 triggers)", fmt.Sprintf("%.1f ms", took*1e3), "≤ 50 ms", took <= 0.05)
	}
	b.table.alone("from the start to 1000 triggers decided, of 1000 pods read", fmt.Sprintf("%.2f s", scaler.of("Start", "sec/op")))

	edge, err := b.goBench("./scaler", "^Benchmark(BareStreamMessage|ReportToStream)$", "500x")
	if err != nil {
		return err
	}
	ours, theirs := edge.of("ReportToStream", "p50-µs"), edge.of("BareStreamMessage", "p50-µs")
	b.table.row("a report at zero replicas to StreamIsActive's true, p50", fmt.Sprintf("%.0f µs", ours), fmt.Sprintf("bare message and reply %.0f µs", theirs), ours/theirs, atMost(5))
	reporters, err := b.goBench("./metricsource/push", "^BenchmarkReporters$", "1x")
	if err != nil {
		return err
	}
	relay, err := b.goBench("./metricsource/push", "^BenchmarkEdge$", "300x")
	if err != nil {
		return err
	}
	own, peer := relay.of("Edge", "own-µs"), relay.of("Edge", "peer-µs")
	b.table.row("a report at another replica to a window of this one, p50", fmt.Sprintf("%.0f µs", peer), fmt.Sprintf("of a report at this one %.0f µs", own), peer/own, atMost(3))
	b.table.alone("1000 reporters, 10 reports a second of each", fmt.Sprintf("%s, %.0f MiB of Go's heap and stacks", cores(reporters.of("Reporters", "cores")), reporters.of("Reporters", "MiB")))
	return nil
}
