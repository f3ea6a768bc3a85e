package trigger

import (
	"fmt"
	"slices"
	"strings"
)

// Key documents one key of the metadata.
type Key struct {
	Name    string
	Default string // as a person would say it; empty where there is none
	Doc     string
}

// Keys are all keys of the metadata, in the order of their documentation.
var Keys = []Key{
	{"engine", "", "the preset, one of the table of engines; required unless `query` or `follow` is given"},
	{"query", "the preset's", "the load: PromQL over this workload's samples; looks back at most 10 minutes"},
	{"target", "the preset's", "the load that one replica should carry, from 0.001 to 1000000"},
	{"inflightQuery", "the preset's, else `query`", "work in flight, waiting and running: PromQL"},
	{"activation", "`0`", "active while the work in flight, or at zero replicas the demand upstream, is above it"},
	{"saturationQuery", "the preset's", "PromQL, 0 to 1 per replica (without a label `pod`: their average)"},
	{"saturationTarget", "the preset's", "a fleet does not shrink below what would be filled to this; given in the trigger, it also grows"},
	{"latencyQuery", "", "PromQL in seconds; of several elements the largest counts"},
	{"latencyTarget", "", "the objective: seconds (`0.5`) or a duration (`500ms`)"},
	{"port", "the preset's", "where a pod serves its metrics"},
	{"path", "the preset's, else `/metrics`", "where a pod serves its metrics"},
	{"scheme", "`http`", "`http` or `https` (the certificate of a pod is not verified, as the kubelet's probes do not)"},
	{"interval", "`1s`; `5s` with `prometheusAddress`", "between two readings of a pod, or two rounds of queries, from 100ms to 1m"},
	{"endpoints", "", "`host:port,…`, read instead of the workload's pods; needs no Kubernetes"},
	{"upstream", "", "where demand shows before it reaches a pod, and so at zero replicas: `service/NAME:PORT[/PATH]` of the namespace (every endpoint, over http; the Service's port by name or number, else the pods' own), or URLs separated by commas"},
	{"upstreamEngine", "`demand`", "what is read there, or reported (README, Pushing demand): `demand` (`demand_queued_requests`, `demand_inflight_requests`, `demand_requests_total`), `dynamo`, `envoy`, `epp`, `litellm`, `redis` or `vllm-router`"},
	{"upstreamQuery", "the engine's", "the demand there: PromQL over the upstream's samples alone (`job=\"upstream\"`)"},
	{"upstreamCounts", "the engine's, else `queued`", "`queued`: work not yet handed to a pod, and added to the pods' load; `inflight`: work that pods have too, and only what exceeds theirs is added"},
	{"prometheusAddress", "", "the URL of a Prometheus, Thanos, Mimir or VictoriaMetrics, which answers the queries in place of readings of the pods: an engine's, narrowed to the pods of this workload (labels `namespace` and `pod`), or your own as they stand, which may wake the workload from zero; needs Kubernetes"},
	{"authSecret", "", "a Secret of the namespace for the upstream and Prometheus: `bearerToken` (or `token`), `username` and `password`, `tls.crt` and `tls.key`, and `header.NAME` for further headers; its annotation `inference-scaler/allow-host` names the hosts that it may be used towards"},
	{"caSecret", "", "a Secret of the namespace, with the same annotation: the `ca.crt` by which their certificates are verified"},
	{"follow", "", "the leader, `[kind/]name` of a workload in the namespace: its replicas size this one, at the same instant; beside a `query` or an `engine` the larger answer wins"},
	{"ratio", "`1`", "how many replicas of the leader one of this workload serves, from 0.001 to 10000"},
	{"gpuCapacity", "`auto`", "`clamp`: no more replicas than the GPUs have room for; `auto`: so too, where no node autoscaler may add any, or as many as it may; `observe`: say what there is room for; `off`"},
	{"gpuResource", "the pod template's", "the resource that a replica holds, such as `nvidia.com/gpu`, `amd.com/gpu` or `nvidia.com/mig-1g.10gb`"},
	{"gpusPerReplica", "the pod template's", "how many a replica holds whose pods request none: room that is taken from workloads of the same namespace alone"},
	{"gpuHeadroom", "`0`", "how many GPUs a node autoscaler may still add for this workload, where it does not say so itself"},
	{"hold", "`20s`", "for how long the largest answer stands, so that no burst between two syncs of the HPA is missed"},
	{"staleAfter", "5 × `interval`, at least `5s`", "how long after its last answer a pod is unknown"},
}

// kedaKeys are KEDA's own keys of an external trigger. KEDA passes them on with the
// others; the scaler ignores them.
var kedaKeys = []string{"scalerAddress", "enableTLS", "unsafeSsl", "tlsCertFile"}

// envSuffix ends the names of keys whose values KEDA looks up in the environment of the
// workload's pods.
const envSuffix = "FromEnv"

func find(name string) (Key, bool) {
	i := slices.IndexFunc(Keys, func(k Key) bool { return k.Name == name })
	if i < 0 {
		return Key{}, false
	}
	return Keys[i], true
}

// suggest names the key that an unknown one was probably meant to be.
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

// distance is the number of single-letter edits between a and b.
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
