package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// pythonServer has the metrics of an inference server of vLLM's size, in Python's own client.
const pythonServer = `
import random, time
from wsgiref.simple_server import make_server
from prometheus_client import Counter, Gauge, Histogram, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer, _SilentHandler

labels = dict(engine="0", model_name="meta-llama/Llama-3.1-8B-Instruct")
for name in ("num_requests_waiting", "num_requests_running", "kv_cache_usage_perc"):
    Gauge("vllm:" + name, name, labels).labels(**labels).set(3)
for i in range(5):
    Counter("vllm:counter_%d" % i, "c", labels).labels(**labels).inc(i)
buckets = [0.001 * 1.5 ** i for i in range(22)]
for i in range(22):
    h = Histogram("vllm:histogram_%d_seconds" % i, "h", labels, buckets=buckets).labels(**labels)
    for _ in range(100):
        h.observe(random.random())
app, served = make_wsgi_app(), 0

def counted(environ, start_response):
    global served
    if environ["PATH_INFO"] == "/served":
        start_response("200 OK", [])
        return [b"%d %d" % (served, time.process_time_ns())]
    served += 1
    return app(environ, start_response)

server = make_server("127.77.0.1", 0, counted, ThreadingWSGIServer, _SilentHandler)
print("listening port=%d" % server.server_port, flush=True)
server.serve_forever()
`

// python: what being read costs a server in Python, by the product and by Prometheus.
func python(b *bench) error {
	b.table.part("What a reading costs a server in Python (prometheus_client, five a second)")
	python3, err := exec.LookPath("python3")
	if err != nil {
		return err
	}
	root, err := b.debian("python3-prometheus-client")
	if err != nil {
		return err
	}
	const every = 200 * time.Millisecond
	l := load{1, "200ms", every, ""}
	path := "PYTHONPATH=" + filepath.Join(root, "usr", "lib", "python3", "dist-packages")
	// perReading is the server's CPU, by its own clock of that, while a reader is at it.
	perReading := func(begin reader) (took time.Duration, onTime float64, err error) {
		script := filepath.Join(b.dir, "server.py")
		if err := os.WriteFile(script, []byte(pythonServer), 0o600); err != nil {
			return 0, 0, err
		}
		p, err := b.start("python3", []string{path}, python3, script)
		if err != nil {
			return 0, 0, err
		}
		defer p.stop()
		port, err := p.logged(b, "port", "listening")
		if err != nil {
			return 0, 0, err
		}
		f := &fleet{p, 1, port}
		_, stop, err := begin(f, l)
		if err != nil {
			return 0, 0, err
		}
		defer stop()
		if err := sleep(b, settling); err != nil {
			return 0, 0, err
		}
		served := func() (readings int, used time.Duration, err error) {
			text, err := get(b, fmt.Sprintf("http://%s/served", f.addresses(0, 1)[0]))
			if err == nil {
				_, err = fmt.Sscan(text, &readings, &used)
			}
			return readings, used, err
		}
		readings, used, err := served()
		if err != nil {
			return 0, 0, err
		}
		begun := time.Now()
		if err := sleep(b, measuring); err != nil {
			return 0, 0, err
		}
		period := time.Since(begun)
		allReadings, allUsed, err := served()
		n := allReadings - readings
		return (allUsed - used) / time.Duration(max(n, 1)), float64(n) * float64(every) / float64(period), err
	}
	// By turns, and the least of each: what else the machine does is added to it.
	const turns = 2
	readers := [...]reader{b.byProduct, b.byPrometheus, b.byFilteringPrometheus}
	onTime, least := 1.0, [len(readers)]time.Duration{}
	for turn := range turns {
		for i, begin := range readers {
			took, read, err := perReading(begin)
			if err != nil {
				return err
			}
			if turn == 0 || took < least[i] {
				least[i] = took
			}
			onTime = min(onTime, read)
		}
	}
	ours, theirs, told := least[0], least[1], least[2]
	b.table.holds("read on time, by all", fmt.Sprintf("%.1f %%", 100*onTime), "≥ 98 %", onTime >= 0.98)
	b.table.row("CPU of the server for a reading", ms(ours), "Prometheus "+ms(theirs), float64(theirs)/float64(ours), atLeast(2))
	b.table.row("CPU of the server for a reading", ms(ours), "Prometheus with a name filter "+ms(told), float64(told)/float64(ours), noLimit)
	b.table.alone("of a core, read every second", fmt.Sprintf("%.2f %%, by Prometheus %.2f %%", 100*ours.Seconds(), 100*theirs.Seconds()))
	return nil
}

func ms(d time.Duration) string { return fmt.Sprintf("%.2f ms", d.Seconds()*1e3) }
