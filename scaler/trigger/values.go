package trigger

import (
	"math"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource/excerpt"
)

// Ranges of values.
const (
	MinTarget     = 0.001
	MaxTarget     = 1e6
	MinInterval   = 100 * time.Millisecond
	MaxInterval   = time.Minute
	maxActivation = 1e9
	maxLatency    = time.Hour
	maxHold       = 10 * time.Minute
	minStale      = time.Second
	maxStale      = 10 * time.Minute
	maxEndpoints  = 256
	maxPath       = 1024

	defaultInterval = time.Second
	// A Prometheus has no samples newer than its last scrape, typically every 15 s or more.
	defaultPrometheusInterval = 5 * time.Second
	defaultHold               = 20 * time.Second
	defaultStale              = 5 * time.Second // or five intervals, if that is longer
)

func (p *parser) targets(t *Trigger) {
	p.number("target", &t.Target, MinTarget, MaxTarget)
	t.Target = roundToThousandths(t.Target)
	unknown := p.values["engine"] != "" && t.Engine == "" // reported already
	if t.Target == 0 && p.values["target"] == "" && !unknown && p.needsLoad() {
		p.failf("target", "missing; wanted: the load per replica, a number from %s to %s", decimal(MinTarget), decimal(MaxTarget))
	}
	p.number("activation", &t.Activation, 0, maxActivation)

	_, t.SaturationAdds = p.values["saturationTarget"]
	p.number("saturationTarget", &t.SaturationTarget, MinTarget, 1)
	switch {
	case t.SaturationAdds && t.Saturation == nil && p.values["saturationQuery"] == "":
		p.failf("saturationTarget", "has no effect without a saturation; wanted: a saturationQuery, or an engine that reports its saturation")
	case t.Saturation != nil && t.SaturationTarget == 0:
		p.failf("saturationTarget", "missing; wanted with a saturationQuery: a number from %g to 1", MinTarget)
	}

	p.latency(t)
}

func (p *parser) latency(t *Trigger) {
	text, given := p.values["latencyTarget"]
	asked := p.values["latencyQuery"] != ""
	switch {
	case given && !asked:
		p.failf("latencyTarget", "has no effect without a latencyQuery")
	case asked && !given:
		p.failf("latencyTarget", "missing; wanted with a latencyQuery: seconds (0.5), or a duration (500ms)")
	case given:
		d, err := time.ParseDuration(text)
		if seconds, numErr := strconv.ParseFloat(text, 64); numErr == nil && seconds <= maxLatency.Seconds() {
			d, err = time.Duration(seconds*float64(time.Second)), nil
		}
		if err != nil || d < time.Millisecond || d > maxLatency {
			p.failf("latencyTarget", "%q; wanted: seconds (0.5), or a duration (500ms), from 1ms to %s", clip(text), maxLatency)
		}
		t.LatencyTarget = d
	}
}

func (p *parser) addresses(t *Trigger) {
	if text, ok := p.values["port"]; ok {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > 65535 {
			p.failf("port", "%q; wanted: a number from 1 to 65535", clip(text))
		}
		t.Port = n
	}
	if text, ok := p.values["path"]; ok {
		if !isPath(text) {
			p.failf("path", "%q; wanted: a path that begins with one /, such as /metrics, of at most %d bytes", clip(text), maxPath)
		}
		t.Path = text
	}
	if text, ok := p.values["scheme"]; ok {
		if text != "http" && text != "https" {
			p.failf("scheme", "%q; wanted: http or https", clip(text))
		}
		t.Scheme = text
	}
	if text, ok := p.values["endpoints"]; ok {
		t.Endpoints = p.endpoints(text)
		if p.values["port"] != "" {
			p.failf("port", "has no effect with endpoints, which include their ports")
		}
		return
	}
	if p.needsLoad() && t.Prometheus == nil && t.Port == 0 && p.values["port"] == "" && (t.Engine != "" || p.values["engine"] == "") {
		p.failf("port", "missing; wanted: the port of the pods' metrics, or endpoints")
	}
}

func (p *parser) endpoints(text string) []string {
	list := strings.Split(text, ",")
	if len(list) > maxEndpoints {
		p.failf("endpoints", "%d endpoints; at most %d", len(list), maxEndpoints)
		return nil
	}
	var all []string
	for _, e := range list {
		e = strings.TrimSpace(e)
		host, port, err := net.SplitHostPort(e)
		n, portErr := strconv.Atoi(port)
		switch {
		case err != nil || portErr != nil || n < 1 || n > 65535 || !isHost(host):
			p.failf("endpoints", "%q; wanted: host:port, separated by commas", clip(e))
		case slices.Contains(all, e):
			p.failf("endpoints", "%q is listed twice", clip(e))
		default:
			all = append(all, e)
		}
	}
	return all
}

func isHost(host string) bool {
	u, err := url.Parse("http://" + net.JoinHostPort(host, "1") + "/")
	return err == nil && host != "" && u.Hostname() == host && u.User == nil && u.Path == "/" && u.RawQuery == ""
}

func (p *parser) times(t *Trigger) {
	interval := defaultInterval
	if t.Prometheus != nil {
		interval = defaultPrometheusInterval
	}
	t.Interval = p.duration("interval", interval, MinInterval, MaxInterval)
	t.Hold = p.duration("hold", defaultHold, 0, maxHold)
	least := max(2*t.Interval, minStale)
	t.StaleAfter = p.duration("staleAfter", max(defaultStale, 5*t.Interval), least, maxStale)
}

func (p *parser) duration(key string, fallback, low, high time.Duration) time.Duration {
	text, ok := p.values[key]
	if !ok {
		return fallback
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < low || d > high {
		hint := ""
		if n, numErr := strconv.ParseUint(text, 10, 16); numErr == nil && n > 0 {
			hint = " (a duration has a unit: " + text + "s)"
		}
		p.failf(key, "%q%s; wanted: a duration from %s to %s", clip(text), hint, low, high)
		return fallback
	}
	return d
}

func roundToThousandths(v float64) float64 { return math.Round(v*1000) / 1000 }

// needsLoad reports whether the workload has, or must have, a load of its own.
func (p *parser) needsLoad() bool { return p.hasLoad() || p.values["follow"] == "" }

func (p *parser) number(key string, to *float64, low, high float64) {
	text, ok := p.values[key]
	if !ok {
		return
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || !(v >= low && v <= high) {
		p.failf(key, "%q; wanted: a number from %s to %s", clip(text), decimal(low), decimal(high))
		return
	}
	*to = v
}

// clip shortens a value for an error message.
func clip(s string) string { return excerpt.Of(s, 80) }

// decimal formats a number without an exponent.
func decimal(n float64) string { return strconv.FormatFloat(n, 'f', -1, 64) }
