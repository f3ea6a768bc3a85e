package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// body is a vLLM server's, of 59 KB.
const body = "../../scaler/preset/testdata/vllm-by-reason.prom"

const (
	settling  = 10 * time.Second // until what is measured is as it stays
	measuring = 20 * time.Second
)

// load is a scenario of targets, and what reading them cost.
type load struct {
	n        int
	interval string
	every    time.Duration
	filter   string // "filter" or "whole"
}

func (l load) String() string {
	what := "59 KB bodies"
	if l.filter == "filter" {
		what = "of servers that filter"
	}
	return fmt.Sprintf("%d targets at %s, %s", l.n, l.interval, what)
}

// reading is what one reader of a scenario took, and how many of the readings it is to
// make in that time it made.
type reading struct {
	cost
	share float64
}

// targets: reading inference servers, beside Debian's Prometheus on the same ones.
func targets(b *bench) error {
	b.table.part("Reading targets (CPU of the reader alone)")
	root, err := b.debian("prometheus")
	if err != nil {
		return err
	}
	version, err := exec.CommandContext(b, filepath.Join(root, "usr", "bin", "prometheus"), "--version").CombinedOutput()
	if err != nil {
		return fmt.Errorf("prometheus --version: %w", err)
	}
	first, _, _ := strings.Cut(string(version), " (")
	b.table.alone("the peer, which keeps every series", "Debian's "+first)
	at := map[string]reading{}
	for _, l := range []load{
		{100, "1s", time.Second, "whole"},
		{1000, "1s", time.Second, "whole"},
		{1000, "1s", time.Second, "filter"},
		{1000, "200ms", 200 * time.Millisecond, "whole"},
		{5000, "1s", time.Second, "whole"},
	} {
		ours, err := b.read(l, b.byProduct)
		if err != nil {
			return err
		}
		at[l.String()] = ours
		b.table.holds(l.String()+": read on time", fmt.Sprintf("%.1f %%", 100*ours.share), "≥ 98 %", ours.share >= 0.98)
		if l.n != 1000 || l.every != time.Second {
			b.table.alone(l.String()+": CPU", cores(ours.cores))
			b.table.alone(l.String()+": memory", mib(ours.rss))
			continue
		}
		for _, peer := range []struct {
			name        string
			begin       reader
			cpu, memory limit
		}{
			{"Prometheus", b.byPrometheus, atLeast(2.5), atLeast(4)},
			{"Prometheus with a name filter", b.byFilteringPrometheus, noLimit, noLimit},
		} {
			if l.filter != "filter" && peer.cpu == noLimit {
				continue // these servers do not heed it
			}
			theirs, err := b.read(l, peer.begin)
			if err != nil {
				return err
			}
			b.table.row(l.String()+": CPU", cores(ours.cores), fmt.Sprintf("%s %s (%.0f %% on time)", peer.name, cores(theirs.cores), 100*theirs.share), theirs.cores/ours.cores, peer.cpu)
			b.table.row(l.String()+": memory", mib(ours.rss), peer.name+" "+mib(theirs.rss), float64(theirs.rss)/float64(ours.rss), peer.memory)
		}
	}
	few, many := at[load{1000, "1s", time.Second, "whole"}.String()], at[load{5000, "1s", time.Second, "whole"}.String()]
	b.table.row("CPU per target: 5000 beside 1000", fmt.Sprintf("%.0f µs/s", 1e6*many.cores/5000), fmt.Sprintf("%.0f µs/s", 1e6*few.cores/1000), many.cores/5/few.cores, atMost(1.5))
	b.table.alone("memory per target, from 1000 to 5000", kib(float64(many.rss-few.rss)/4000))
	return nil
}

// reader begins to read a fleet; what it returns is stopped.
type reader func(f *fleet, l load) (*process, func(), error)

// read measures one reader of a scenario.
func (b *bench) read(l load, begin reader) (reading, error) {
	path, err := filepath.Abs(body)
	if err != nil {
		return reading{}, err
	}
	f, err := b.serve(l.n, path, l.filter)
	if err != nil {
		return reading{}, err
	}
	defer f.stop()
	p, stop, err := begin(f, l)
	if err != nil {
		return reading{}, err
	}
	defer stop()
	if err := p.until(b, "every target read", func() (bool, error) {
		served, err := f.served(b)
		return served >= int64(l.n), err
	}); err != nil {
		return reading{}, err
	}
	if err := sleep(b, settling); err != nil {
		return reading{}, err
	}
	before, err := f.served(b)
	if err != nil {
		return reading{}, err
	}
	begun := time.Now()
	c, err := p.over(b, measuring)
	if err != nil {
		return reading{}, err
	}
	after, err := f.served(b)
	asked := float64(l.n) * float64(time.Since(begun)) / float64(l.every)
	return reading{c, float64(after-before) / asked}, err
}

func (b *bench) byProduct(f *fleet, l load) (*process, func(), error) {
	s, err := b.product()
	if err != nil {
		return nil, nil, err
	}
	if err := s.reads(b, f, l.interval); err != nil {
		s.stop()
		return nil, nil, err
	}
	return s.process, s.stop, nil
}

func (b *bench) byPrometheus(f *fleet, l load) (*process, func(), error) {
	return b.prometheusOf(f, l, "")
}

// byFilteringPrometheus asks for no more than the product does, by a configuration of the
// job, which takes knowledge of the engine's metric names.
func (b *bench) byFilteringPrometheus(f *fleet, l load) (*process, func(), error) {
	return b.prometheusOf(f, l, `    params: {"name[]": ["vllm:num_requests_waiting", "vllm:num_requests_waiting_by_reason", "vllm:num_requests_running", "vllm:kv_cache_usage_perc"]}`+"\n")
}

func (b *bench) prometheusOf(f *fleet, l load, params string) (*process, func(), error) {
	var config strings.Builder
	fmt.Fprintf(&config, "global: {scrape_interval: %[1]s, scrape_timeout: %[1]s}\nscrape_configs:\n  - job_name: fleet\n%[2]s    static_configs:\n      - targets:\n", l.interval, params)
	for _, address := range f.addresses(0, l.n) {
		fmt.Fprintf(&config, "          - %s\n", address)
	}
	return b.prometheus(config.String())
}

// prometheus starts Debian's with a configuration.
func (b *bench) prometheus(config string) (*process, func(), error) {
	dir, err := os.MkdirTemp(b.dir, "prometheus-")
	if err != nil {
		return nil, nil, err
	}
	path := filepath.Join(dir, "prometheus.yaml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		return nil, nil, err
	}
	root, err := b.debian("prometheus")
	if err != nil {
		return nil, nil, err
	}
	p, err := b.start("prometheus", nil, filepath.Join(root, "usr", "bin", "prometheus"),
		"--config.file="+path, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address=127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	return p, p.stop, nil
}
