package trigger

import (
	"fmt"
	"slices"
	"strings"
)

// Key documents one key of the metadata.
type Key struct {
	Name    string
	Default string // as text; empty if there is none
	Doc     string
}

// Keys lists all keys of the metadata, in the order of their documentation.
var Keys = []Key{
	{"engine", "", "the preset, one of the table of engines; required without `query` and `follow`"},
	{"query", "the preset's", "the load: PromQL over this workload's samples; looks back at most 10 minutes"},
	{"target", "the preset's", "the load per replica, from 0.001 to 1000000"},
	{"inflightQuery", "the preset's, else `query`", "the work in flight, waiting and running: PromQL"},
	{"activation", "`0`", "the workload is active while its work in flight, or at zero replicas the upstream demand, exceeds this"},
	{"saturationQuery", "the preset's", "the saturation: PromQL, 0 to 1 per replica (without a label `pod`: their average)"},
	{"saturationTarget", "the preset's", "the fleet does not shrink below the replicas that the saturation fills to this; set in the trigger, it also grows to that number"},
	{"latencyQuery", "", "the latency in seconds: PromQL; the largest element applies"},
	{"latencyTarget", "", "the objective: seconds (`0.5`) or a duration (`500ms`)"},
	{"port", "the preset's", "the port of a pod's metrics"},
	{"path", "the preset's, else `/metrics`", "the path of a pod's metrics"},
	{"scheme", "`http`", "`http` or `https` (the certificates of pods are not verified, as in the kubelet's probes)"},
	{"interval", "`1s`; `5s` with `prometheusAddress`", "the time between two readings of a pod, or two rounds of queries, from 100ms to 1m"},
	{"endpoints", "", "`host:port,…`, read instead of the workload's pods; works without Kubernetes"},
	{"upstream", "", "the source of demand that has not reached a pod, and so of demand at zero replicas: `service/NAME:PORT[/PATH]` in the namespace (every endpoint, over http; the Service's port by name or number, or a port of its pods), or URLs separated by commas"},
	{"upstreamEngine", "`demand`", "the preset of the upstream or of pushed demand (README, Pushing demand): `demand` (`demand_queued_requests`, `demand_inflight_requests`, `demand_requests_total`), `dynamo`, `envoy`, `epp`, `litellm`, `redis` or `vllm-router`"},
	{"upstreamQuery", "the engine's", "the upstream demand: PromQL over the upstream's samples only (`job=\"upstream\"`)"},
	{"upstreamCounts", "the engine's, else `queued`", "`queued`: the demand is work that waits for a pod, and is added to the pods' load; `inflight`: it includes work on pods, and only its excess over the pods' own work is added"},
	{"prometheusAddress", "", "the URL of a Prometheus, Thanos, Mimir or VictoriaMetrics that answers the queries instead of the pods; an engine's queries are narrowed to the pods of this workload (labels `namespace` and `pod`); your own are sent unchanged, and may activate the workload at zero; needs Kubernetes"},
	{"authSecret", "", "a Secret in the namespace for the upstream and Prometheus: `bearerToken` (or `token`), `username` and `password`, `tls.crt` and `tls.key`, and `header.NAME` for other headers; its annotation `inference-scaler/allow-host` lists the hosts that may receive it"},
	{"caSecret", "", "a Secret in the namespace, with the same annotation: its `ca.crt` verifies their certificates"},
	{"follow", "", "the leader, `[kind/]name` of a workload in the namespace: its replicas size this workload, without delay; with a `query` or an `engine` the larger result applies"},
	{"ratio", "`1`", "how many replicas of the leader one replica of this workload serves, from 0.001 to 10000"},
	{"gpuCapacity", "`auto`", "`clamp`: at most the replicas that fit on the GPUs; `auto`: the same, if no node autoscaler adds GPUs or its limit is known; `observe`: only report the capacity; `off`"},
	{"gpuResource", "the pod template's", "the resource that a replica holds, such as `nvidia.com/gpu`, `amd.com/gpu` or `nvidia.com/mig-1g.10gb`"},
	{"gpusPerReplica", "the pod template's", "the GPUs of a replica whose pods request none; only workloads of the same namespace count them as used"},
	{"gpuHeadroom", "`0`", "how many GPUs a node autoscaler may add for this workload, if its own limits do not show it"},
	{"hold", "`20s`", "how long the largest value is kept, so that the HPA does not miss a burst between two syncs"},
	{"staleAfter", "5 × `interval`, at least `5s`", "how long after its last response a pod becomes unknown"},
}

// kedaKeys are KEDA's own keys of an external trigger. KEDA passes them on, and the scaler
// ignores them.
var kedaKeys = []string{"scalerAddress", "enableTLS", "unsafeSsl", "tlsCertFile"}

// envSuffix is the suffix of keys whose values KEDA reads from the environment of the
// workload's pods.
const envSuffix = "FromEnv"

func find(name string) (Key, bool) {
	i := slices.IndexFunc(Keys, func(k Key) bool { return k.Name == name })
	if i < 0 {
		return Key{}, false
	}
	return Keys[i], true
}

// suggest returns the key that an unknown name probably means.
func suggest(name string) string {
	best, least := "", max(2, len(name)/3)
	for _, k := range Keys {
		if d := distance(strings.ToLower(clip(name)), strings.ToLower(k.Name)); d <= least {
			best, least = k.Name, d-1
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

// distance is the Levenshtein distance of a and b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := diagonal
			if a[i-1] != b[j-1] {
				cost++
			}
			diagonal = row[j]
			row[j] = min(cost, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}
