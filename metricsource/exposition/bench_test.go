package exposition

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
)

func benchScan(b *testing.B, names *Names, want int) {
	body := vllmBody()
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	var s Scanner
	for b.Loop() {
		found := 0
		for s.Reset(body, names); s.Next(); {
			found++
		}
		if found != want || s.Err() != nil {
			b.Fatal(found, s.Err())
		}
	}
}

func BenchmarkScanVLLM(b *testing.B) { benchScan(b, NewNames(vllmMetrics, nil), 3) }

// 16 series, including the sum and the count of histograms.
func BenchmarkScanVLLM16(b *testing.B) {
	benchScan(b, NewNames(append([]string{
		"vllm:prompt_tokens_total", "vllm:generation_tokens_total", "vllm:num_preemptions_total",
		"vllm:prefix_cache_hits_total", "vllm:prefix_cache_queries_total",
		"vllm:time_to_first_token_seconds_sum", "vllm:time_to_first_token_seconds_count",
		"vllm:e2e_request_latency_seconds_sum", "vllm:e2e_request_latency_seconds_count",
		"vllm:request_queue_time_seconds_sum", "vllm:request_queue_time_seconds_count",
		"vllm:request_prompt_tokens_sum", "vllm:request_prompt_tokens_count",
	}, vllmMetrics...), nil), 16)
}

func BenchmarkScanVLLMHistogram(b *testing.B) {
	benchScan(b, NewNames([]string{"vllm:time_to_first_token_seconds_bucket"}, nil), 23)
}

func BenchmarkScanVLLMPattern(b *testing.B) {
	re := regexp.MustCompile(`^vllm:num_requests_.*$`)
	benchScan(b, NewNames(nil, re.MatchString), 2)
}

func BenchmarkHasPrefixNone(b *testing.B) {
	body := vllmBody()
	b.ReportAllocs()
	for b.Loop() {
		if HasPrefix(body, "sglang:") {
			b.Fatal()
		}
	}
}

func BenchmarkNewlineCount(b *testing.B) {
	body := vllmBody()
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if bytes.Count(body, []byte{'\n'}) != vllmLines {
			b.Fatal()
		}
	}
}

func BenchmarkExpfmt(b *testing.B) {
	body := vllmBody()
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		p := expfmt.NewTextParser(model.UTF8Validation)
		if _, err := p.TextToMetricFamilies(bytes.NewReader(body)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkTextparse(b *testing.B) {
	body := vllmBody()
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	st := labels.NewSymbolTable()
	for b.Loop() {
		p := textparse.NewPromParser(body, st, false)
		for {
			entry, err := p.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				b.Fatal(err)
			}
			if entry == textparse.EntrySeries {
				p.Series()
			}
		}
	}
}
