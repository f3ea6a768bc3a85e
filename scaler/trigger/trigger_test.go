package trigger

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inference-scaler/inference-scaler/metricsource"
	"github.com/inference-scaler/inference-scaler/scaler/preset"
)

func TestParseUsesTheDefaultsOfThePreset(t *testing.T) {
	tr, err := Parse(map[string]string{"scalerAddress": "x:9090", "enableTLS": "true", "engine": "vllm"})
	require.NoError(t, err)
	require.Equal(t, "vllm", tr.MetricName)
	require.Equal(t, 5.0, tr.Target)
	require.Equal(t, 8000, tr.Port)
	require.Equal(t, "/metrics", tr.Path)
	require.Equal(t, "http", tr.Scheme)
	require.Equal(t, time.Second, tr.Interval)
	require.Equal(t, 20*time.Second, tr.Hold)
	require.Equal(t, 5*time.Second, tr.StaleAfter)
	require.Equal(t, 0.8, tr.SaturationTarget)
	require.False(t, tr.SaturationAdds, "a preset's saturation does not make the fleet grow")
	require.NotNil(t, tr.InFlight)
	require.Nil(t, tr.Latency)
}

func TestParseEveryPreset(t *testing.T) {
	for _, engine := range preset.Names() {
		metadata := map[string]string{"engine": engine, "port": "9000"}
		if p, _ := preset.Lookup(engine); p.Target == 0 {
			_, err := Parse(metadata)
			require.EqualError(t, err, "target: missing; wanted: the load per replica, a number from 0.001 to 1000000", engine)
			metadata["target"] = "5"
		}
		_, err := Parse(metadata)
		require.NoError(t, err, engine)
	}
}

func TestParseOwnQueries(t *testing.T) {
	tr, err := Parse(map[string]string{
		"query": "sum(queue)", "target": "2.5004", "port": "81", "path": "/m?a=b", "scheme": "https",
		"inflightQuery": "sum(running)", "activation": "3", "interval": "2s", "hold": "0s", "staleAfter": "9s",
		"saturationQuery": "avg by (pod) (full)", "saturationTarget": "0.7",
		"latencyQuery": "max(lat)", "latencyTarget": "0.25",
	})
	require.NoError(t, err)
	require.Equal(t, "query", tr.MetricName)
	require.Equal(t, 2.5, tr.Target, "in whole thousandths")
	require.Equal(t, 3.0, tr.Activation)
	require.True(t, tr.SaturationAdds)
	require.Equal(t, 250*time.Millisecond, tr.LatencyTarget)
	require.Equal(t, 9*time.Second, tr.StaleAfter)
	require.Zero(t, tr.Hold)
	require.Equal(t, "/m?a=b", tr.Path)
}

func TestInFlightDefaults(t *testing.T) {
	for _, tc := range []struct {
		metadata map[string]string
		want     string
	}{
		{map[string]string{"engine": "vllm", "query": "sum(mine)"}, "num_requests_running"},
		{map[string]string{"query": "sum(mine)", "target": "1", "port": "1"}, "sum(mine)"},
		{map[string]string{"engine": "queue-depth", "port": "1"}, ""},
	} {
		tr, err := Parse(tc.metadata)
		require.NoError(t, err)
		if tc.want == "" {
			require.Nil(t, tr.InFlight)
			continue
		}
		require.Contains(t, tr.InFlight.String(), tc.want)
	}
}

func TestParseRefuses(t *testing.T) {
	base := func(more ...string) map[string]string {
		m := map[string]string{"engine": "vllm"}
		for i := 0; i < len(more); i += 2 {
			m[more[i]] = more[i+1]
		}
		return m
	}
	for _, tc := range []struct {
		metadata map[string]string
		want     string
	}{
		{map[string]string{}, `engine: missing; wanted: one of cartesia, deepgram, dynamo, lightning-asr, llamacpp, lmdeploy, nim, queue-depth, ray-serve, sglang, tgi, triton, trtllm, vllm, or a query`},
		{map[string]string{"engine": "vlm"}, `engine: "vlm" is not known; wanted: one of cartesia, deepgram, dynamo, lightning-asr, llamacpp, lmdeploy, nim, queue-depth, ray-serve, sglang, tgi, triton, trtllm, vllm, or a query instead`},
		{base("treshold", "5"), `unknown key "treshold"`},
		{base("targt", "5"), `unknown key "targt"; did you mean "target"?`},
		{base("Target", "5"), `unknown key "Target"; did you mean "target"?`},
		{base("inFlightQuery", "x"), `unknown key "inFlightQuery"; did you mean "inflightQuery"?`},
		{base("target", ""), `target: empty; leave the key out for its default`},
		{base("target", "0"), `target: "0"; wanted: a number from 0.001 to 1000000`},
		{base("target", "-1"), `target: "-1"; wanted:`},
		{base("target", "NaN"), `target: "NaN"; wanted:`},
		{base("target", "Inf"), `target: "Inf"; wanted:`},
		{base("target", "five"), `target: "five"; wanted:`},
		{base("targetFromEnv", "6"), `targetFromEnv: values from the environment of the workload's pods are not supported; wanted: the value itself, under the key "target"`},
		{base("activation", "-1"), `activation: "-1"; wanted: a number from 0 to 1000000000`},
		{base("interval", "0"), `interval: "0"; wanted: a duration from 100ms to 1m0s`},
		{base("interval", "5"), `interval: "5" (a duration has a unit: 5s); wanted:`},
		{base("interval", "1ms"), `interval: "1ms"; wanted:`},
		{base("interval", "2m"), `interval: "2m"; wanted:`},
		{base("hold", "-1s"), `hold: "-1s"; wanted: a duration from 0s to 10m0s`},
		{base("staleAfter", "1s"), `staleAfter: "1s"; wanted: a duration from 2s to 10m0s`},
		{base("port", "0"), `port: "0"; wanted: a number from 1 to 65535`},
		{base("port", "http"), `port: "http"; wanted:`},
		{base("path", "metrics"), `path: "metrics"; wanted: a path that begins with one /, such as /metrics`},
		{base("path", "//evil.example/metrics"), `path: "//evil.example/metrics"; wanted:`},
		{base("path", "/m#x"), `path: "/m#x"; wanted:`},
		{base("upstream", "service/api"), `upstream: "service/api"; wanted: service/NAME:PORT[/PATH], or URLs separated by commas`},
		{base("upstream", "service/api:0"), `upstream: "service/api:0"; wanted:`},
		{base("upstream", "service/other.ns:80"), `upstream: "service/other.ns:80"; wanted:`},
		{base("upstream", "api:80"), `upstream: "api:80"; wanted:`},
		{base("upstream", "file:///etc/passwd"), `upstream: "file:///etc/passwd"; wanted:`},
		{base("upstream", "http://user:pw@api/"), `upstream: a URL with a user or a password; wanted: one without`},
		{base("upstream", "http://a/m,http://a/m"), `upstream: "http://a/m" is listed twice`},
		{base("upstream", "service/api:80", "upstreamEngine", "nginx"), `upstreamEngine: "nginx" is not known; wanted: one of demand, dynamo, envoy, epp, litellm, redis, vllm-router, or an upstreamQuery instead`},
		{base("upstream", "service/api:80", "upstreamCounts", "all"), `upstreamCounts: "all"; wanted: queued or inflight`},
		{base("upstream", "service/api:80", "upstreamEngine", "epp", "upstreamCounts", "inflight"), `upstreamCounts: "inflight"; epp reports only queued; remove the key, or set an upstreamQuery`},
		{base("upstream", "service/api:80", "upstreamQuery", "sum("), `upstreamQuery: "sum(" is not PromQL`},
		{base("scheme", "ftp"), `scheme: "ftp"; wanted: http or https`},
		{base("endpoints", "a"), `endpoints: "a"; wanted: host:port, separated by commas`},
		{base("endpoints", "a:1,,b:2"), `endpoints: ""; wanted:`},
		{base("endpoints", "a:1,a:1"), `endpoints: "a:1" is listed twice`},
		{base("endpoints", "u@a:1"), `endpoints: "u@a:1"; wanted:`},
		{base("endpoints", "a/b:1"), `endpoints: "a/b:1"; wanted:`},
		{base("endpoints", "a:1", "port", "5"), `port: has no effect with endpoints, which include their ports`},
		{base("endpoints", strings.Repeat("a:1,", 300)+"b:1"), `endpoints: 301 endpoints; at most 256`},
		{base("query", "sum("), `query: "sum(" is not PromQL`},
		{base("query", "rate(x[1h])"), `query: "rate(x[1h])" looks back 1h0m0s; at most 10m0s`},
		{base("saturationTarget", "2"), `saturationTarget: "2"; wanted: a number from 0.001 to 1`},
		{map[string]string{"engine": "lightning-asr", "saturationTarget": "0.5"}, `saturationTarget: has no effect without a saturation; wanted: a saturationQuery`},
		{map[string]string{"engine": "lightning-asr", "saturationQuery": "x"}, `saturationTarget: missing; wanted with a saturationQuery`},
		{base("latencyQuery", "x"), `latencyTarget: missing; wanted with a latencyQuery`},
		{base("latencyTarget", "1"), `latencyTarget: has no effect without a latencyQuery`},
		{base("latencyQuery", "x", "latencyTarget", "0"), `latencyTarget: "0"; wanted: seconds (0.5), or a duration (500ms)`},
		{base("latencyQuery", "x", "latencyTarget", "-1e300"), `latencyTarget: "-1e300"; wanted:`},
		{map[string]string{"engine": "queue-depth"}, `port: missing; wanted: the port of the pods' metrics, or endpoints`},
		{map[string]string{"query": "x", "port": "1"}, `target: missing; wanted: the load per replica`},
		{base("query", strings.Repeat("x", 40<<10)), `metadata of 2 keys and`},
		{base(strings.Repeat("k", 500), "v"), `unknown key "kkkk`},
	} {
		_, err := Parse(tc.metadata)
		require.ErrorContains(t, err, tc.want)
		require.Less(t, len(err.Error()), 9000, "errors shorten long input")
	}
}

func TestParseReportsAllFaultsAtOnce(t *testing.T) {
	_, err := Parse(map[string]string{"engine": "vlm", "targt": "1", "interval": "0", "port": "x"})
	require.Equal(t, []string{
		`unknown key "targt"; did you mean "target"?`,
		`engine: "vlm" is not known; wanted: one of cartesia, deepgram, dynamo, lightning-asr, llamacpp, lmdeploy, nim, queue-depth, ray-serve, sglang, tgi, triton, trtllm, vllm, or a query instead`,
		`port: "x"; wanted: a number from 1 to 65535`,
		`interval: "0"; wanted: a duration from 100ms to 1m0s`,
	}, strings.Split(err.Error(), "\n"))
}

func FuzzParse(f *testing.F) {
	f.Add("engine", "vllm", "target", "5")
	f.Add("query", "sum(rate(x[1m]))", "target", "1")
	f.Add("endpoints", "[::1]:80,a:1", "hold", "1h")
	f.Add("prometheusAddress", "http://a:9090/x", "authSecret", "token")
	f.Add("follow", "Deployment/asr", "ratio", "0.5")
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2 string) {
		defer time.AfterFunc(20*time.Second, func() { panic("hangs") }).Stop()
		for _, base := range []map[string]string{{}, {"engine": "vllm"}, {"query": "x", "target": "1", "port": "1"}} {
			base[k1], base[k2] = v1, v2
			tr, err := Parse(base)
			if err != nil {
				require.Nil(t, tr)
				continue
			}
			require.True(t, tr.Load != nil || tr.Follow != nil)
			require.NotNil(t, tr.Selection)
			require.GreaterOrEqual(t, tr.Target, MinTarget)
			require.GreaterOrEqual(t, tr.Interval, MinInterval)
			require.GreaterOrEqual(t, tr.StaleAfter, 2*tr.Interval)
			require.True(t, tr.Port > 0 || len(tr.Endpoints) > 0 || tr.Prometheus != nil || tr.Load == nil)
		}
	})
}

func TestParseUpstream(t *testing.T) {
	parse := func(metadata ...string) *Upstream {
		all := map[string]string{"engine": "vllm"}
		for i := 0; i < len(metadata); i += 2 {
			all[metadata[i]] = metadata[i+1]
		}
		tr, err := Parse(all)
		require.NoError(t, err)
		return tr.Upstream
	}
	require.False(t, parse().HasAddress())
	require.NotNil(t, parse("upstreamQuery", "sum(mine)").Demand, "a query over pushed demand")

	u := parse("upstream", "service/api-server:http/stats?format=prometheus")
	require.Equal(t, ServicePort{"api-server", "http"}, u.Service)
	require.Equal(t, "/stats?format=prometheus", u.Path)
	require.False(t, u.InFlight)
	require.NotNil(t, u.Arrivals)

	u = parse("upstream", "service/envoy:9901", "upstreamEngine", "envoy")
	require.Equal(t, "/stats/prometheus", u.Path)
	u = parse("upstream", "https://a.example, http://b:81/m", "upstreamEngine", "litellm")
	require.Equal(t, []string{"https://a.example/metrics", "http://b:81/m"}, u.URLs)
	require.True(t, u.InFlight, "LiteLLM reports only work in flight")
	require.Nil(t, u.Arrivals)
	u = parse("upstream", "service/api:80", "upstreamQuery", "sum(mine)")
	require.False(t, u.InFlight)
	require.Nil(t, u.Arrivals, "an upstreamQuery replaces the preset's counter")
	require.True(t, parse("upstream", "service/api:80", "upstreamQuery", "sum(mine)", "upstreamCounts", "inflight").InFlight)
	for _, name := range preset.UpstreamNames() {
		require.NotNil(t, parse("upstream", "service/api:80", "upstreamEngine", name).Selection, name)
	}
}

func TestPrometheus(t *testing.T) {
	parse := func(pairs ...string) *Trigger {
		m := map[string]string{"prometheusAddress": "https://mimir.example:9009/prometheus"}
		for i := 0; i < len(pairs); i += 2 {
			m[pairs[i]] = pairs[i+1]
		}
		tr, err := Parse(m)
		require.NoError(t, err)
		return tr
	}
	own := func(tr *Trigger, q *metricsource.Query) string {
		remote, _ := tr.Prometheus.Remote(q)
		return remote.Name
	}
	tr := parse("engine", "vllm")
	require.Equal(t, "https://mimir.example:9009/prometheus", tr.Prometheus.Address)
	require.Equal(t, 5*time.Second, tr.Interval)
	require.Equal(t, 25*time.Second, tr.StaleAfter)
	for _, q := range []*metricsource.Query{tr.Load, tr.InFlight, tr.Saturation} {
		require.Empty(t, own(tr, q), "an engine's queries are local")
	}
	tr = parse("engine", "vllm", "latencyQuery", "max(lat)", "latencyTarget", "1", "interval", "1s")
	require.Empty(t, own(tr, tr.Load))
	require.Equal(t, "latencyQuery", own(tr, tr.Latency))
	require.Equal(t, time.Second, tr.Interval)
	tr = parse("query", "max_over_time(sum(queue)[1d:1m])", "target", "3", "authSecret", "token", "caSecret", "ca")
	require.Equal(t, "query", own(tr, tr.Load))
	require.Equal(t, "query", own(tr, tr.InFlight))
	require.Equal(t, []string{"token", "ca"}, []string{tr.AuthSecret, tr.CASecret})
	tr, err := Parse(map[string]string{"engine": "vllm"})
	require.NoError(t, err)
	require.Empty(t, own(tr, tr.Load))
}

func TestPrometheusRefuses(t *testing.T) {
	for key, want := range map[string]string{
		"prometheusAddress=prometheus:9090":    `prometheusAddress: "prometheus:9090"; wanted: a URL such as http://prometheus.monitoring.svc:9090, without a query string`,
		"prometheusAddress=ftp://a":            `prometheusAddress: "ftp://a"; wanted:`,
		"prometheusAddress=http://":            `prometheusAddress: "http://"; wanted:`,
		"prometheusAddress=http://a?x=y":       `prometheusAddress: "http://a?x=y"; wanted:`,
		"prometheusAddress=http://me:secret@a": `prometheusAddress: a URL with a user or a password; wanted: one without, and an authSecret`,
		"port=80":                              `port: has no effect with prometheusAddress`,
		"path=/x":                              `path: has no effect with prometheusAddress`,
		"scheme=https":                         `scheme: has no effect with prometheusAddress`,
		"endpoints=a:1":                        `endpoints: has no effect with prometheusAddress`,
		"authSecret=Token":                     `authSecret: "Token"; wanted: the name of a Secret in the namespace`,
		"caSecret=../x":                        `caSecret: "../x"; wanted:`,
		"caSecret=ca":                          `caSecret: has no effect without an upstream or a prometheusAddress that is https`,
		"query=sum(":                           `is not PromQL`,
	} {
		m := map[string]string{"engine": "vllm", "prometheusAddress": "http://a:9090"}
		k, v, _ := strings.Cut(key, "=")
		m[k] = v
		_, err := Parse(m)
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "secret@")
	}
	_, err := Parse(map[string]string{"engine": "vllm", "authSecret": "token"})
	require.EqualError(t, err, "authSecret: has no effect without an upstream or a prometheusAddress")
	_, err = Parse(map[string]string{"engine": "vllm", "upstream": "service/api:http", "caSecret": "ca"})
	require.EqualError(t, err, "caSecret: has no effect without an upstream or a prometheusAddress that is https", "a Service is read over http")
	_, err = Parse(map[string]string{"engine": "vllm", "upstream": "http://a/,https://b/", "caSecret": "ca"})
	require.NoError(t, err)
	_, err = Parse(map[string]string{"engine": "vllm", "prometheusAddress": "prometheus", "caSecret": "ca"})
	require.ErrorContains(t, err, "prometheusAddress")
	require.NotContains(t, err.Error(), "caSecret", "whether it has an effect depends on the invalid address")
	_, err = Parse(map[string]string{"prometheusAddress": "http://a", "query": "sum("})
	require.ErrorContains(t, err, "target: missing")
	require.Equal(t, 1, strings.Count(err.Error(), "is not PromQL"))
}

func TestFollow(t *testing.T) {
	tr, err := Parse(map[string]string{"follow": "lightning-asr", "ratio": "2"})
	require.NoError(t, err)
	require.Equal(t, &Follow{Name: "lightning-asr", Ratio: 2}, tr.Follow)
	require.Equal(t, "follow", tr.MetricName)
	require.Equal(t, 2.0, tr.Target)
	require.Nil(t, tr.Load)
	tr, err = Parse(map[string]string{"follow": "StatefulSet/asr", "query": "sum(connections)", "target": "100", "port": "80"})
	require.NoError(t, err)
	require.Equal(t, &Follow{Kind: "StatefulSet", Name: "asr", Ratio: 1}, tr.Follow)
	require.Equal(t, 100.0, tr.Target)
	require.NotNil(t, tr.Load)
	for _, tc := range []struct {
		metadata map[string]string
		want     string
	}{
		{map[string]string{"engine": "vllm", "ratio": "2"}, "ratio: has no effect without follow"},
		{map[string]string{"follow": "asr", "ratio": "0"}, `ratio: "0"; wanted: a number from 0.001 to 10000`},
		{map[string]string{"follow": "asr", "ratio": "2:1"}, `ratio: "2:1"; wanted:`},
		{map[string]string{"follow": "a/b/c"}, `follow: "a/b/c"; wanted: the name of a workload in the namespace, or kind/name`},
		{map[string]string{"follow": "/asr"}, `follow: "/asr"; wanted:`},
		{map[string]string{"follow": "ASR"}, `follow: "ASR"; wanted:`},
		{map[string]string{"follow": "asr", "target": "5"}, "target: has no effect with follow alone; wanted: an engine or a query too"},
		{map[string]string{"follow": "asr", "upstream": "service/a:80"}, "upstream: has no effect with follow alone"},
	} {
		_, err := Parse(tc.metadata)
		require.ErrorContains(t, err, tc.want)
	}
}
