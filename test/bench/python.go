package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// pythonServer has the metrics of an inference server of vLLM's size, in Python's own client.
const pythonServer = `
import random
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
        return [str(served).encode()]
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
	// perReading is the server's CPU while a reader is at it.
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
		served := func() (n float64, err error) {
			text, err := get(b, fmt.Sprintf("http://%s/served", f.addresses(0, 1)[0]))
			if err == nil {
				n, err = strconv.ParseFloat(text, 64)
			}
			return n, err
		}
		before, err := served()
		if err != nil {
			return 0, 0, err
		}
		begun := time.Now()
		c, err := p.over(b, measuring)
		if err != nil {
			return 0, 0, err
		}
		took = time.Since(begun)
		after, err := served()
		readings := after - before
		return time.Duration(c.cores * float64(took) / max(readings, 1)), readings * float64(every) / float64(took), err
	}
	ours, onTime, err1 := perReading(b.byProduct)
	theirs, theirsOnTime, err2 := perReading(b.byPrometheus)
	told, toldOnTime, err3 := perReading(b.byFilteringPrometheus)
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	least := min(onTime, theirsOnTime, toldOnTime)
	b.table.holds("read on time, by all", fmt.Sprintf("%.1f %%", 100*least), "≥ 98 %", least >= 0.98)
	b.table.row("CPU of the server for a reading", ms(ours), "Prometheus "+ms(theirs), float64(theirs)/float64(ours), atLeast(2))
	b.table.row("CPU of the server for a reading", ms(ours), "Prometheus told what to ask for "+ms(told), float64(told)/float64(ours), noLimit)
	b.table.alone("of a core, read every second", fmt.Sprintf("%.2f %%, by Prometheus %.2f %%", 100*ours.Seconds(), 100*theirs.Seconds()))
	return nil
}

func ms(d time.Duration) string { return fmt.Sprintf("%.2f ms", d.Seconds()*1e3) }
