package check

import (
	"slices"
	"strconv"
	"strings"

	"github.com/inference-scaler/inference-scaler/scaler/capacity"
	"github.com/inference-scaler/inference-scaler/scaler/manifest"
)

// Rule is one thing that is looked for.
type Rule struct {
	Name     string
	Severity Severity
	// Doc says what is wrong, and why it matters, in one sentence.
	Doc   string
	check func(*subject)
}

// Rules are all of them, in the order of their documentation: about the trigger,
// about zero, about growing and shrinking, about the workload.
var Rules = []Rule{
	shape,
	{"metadata", Error, "the scaler refuses the trigger's metadata: an unknown key, a value out of range, a key that is missing", metadataRefused},
	{"address", Error, "KEDA refuses a trigger without a `scalerAddress`, which it takes from the metadata alone, and from no environment", address},
	{"external", Warning, "`external` opens no stream: the workload wakes at KEDA's next poll, up to 30 s late; `external-push` opens one", external},
	{"metric-type", Error, "any `metricType` but `AverageValue` multiplies the answer by the ready pods, or is refused", metricType},
	{"cached-metrics", Warning, "with `useCachedMetrics` the HPA sees what KEDA polled, up to `pollingInterval` ago", cachedMetrics},
	{"fallback-zero", Error, "`fallback.replicas: 0` takes a fleet to nothing when its scaler cannot be reached", fallbackZero},
	{"two-autoscalers", Error, "two autoscalers on one workload undo each other's writes", twoAutoscalers},
	{"bounds", Error, "`idleReplicaCount` < `minReplicaCount` ≤ `maxReplicaCount`, or KEDA refuses the ScaledObject", boundsInOrder},

	{"zero-unseen", Error, "at zero replicas there is no pod to read: without an `upstream`, or an `upstreamEngine` that says that demand is pushed, nothing wakes the workload", zeroUnseen},
	{"zero-in-flight", Warning, "a workload may sleep while its work in flight is 0: where nothing tells that, it never does, or it is taken apart while it works", zeroInFlight},
	{"cooldown", Warning, "a `cooldownPeriod` shorter than a model takes to load makes a fleet load more than it serves", cooldown},
	{"formula", Error, "with `scalingModifiers.formula` KEDA goes by the formula's value and no longer by what is in flight: a workload that may sleep does so while it works", formula},

	{"tolerance", Warning, "without `tolerance: \"0\"` the HPA keeps the replicas whenever the answer is within 10 % of them", tolerance},
	{"slow-growth", Warning, "the policies of `scaleUp` do not let a burst through", slowGrowth},
	{"statefulset-order", Warning, "a StatefulSet starts its pods one by one, each after the last is ready, unless `podManagementPolicy` is `Parallel`", statefulSetOrder},
	{"surge", Warning, "a rollout that starts a pod before it ends one waits for ever where all GPUs are taken", surge},

	{"workload", Error, "the workload does not exist (only looked for in a cluster)", workloadExists},
	{"port", Warning, "no container declares the port that is read", port},
	{"gpu-request", Warning, "pods that request no GPU are not counted against those there are, unless `gpusPerReplica` says what they hold", gpuRequest},
	{"gpus-per-replica", Warning, "what pods request goes before `gpusPerReplica`, which then says nothing", gpusPerReplica},
	{"grace-period", Warning, "a pod is killed `terminationGracePeriodSeconds` after it was told to end, with the requests that it still serves", gracePeriod},
}

func metadataRefused(s *subject) {
	for _, o := range s.ours {
		for _, f := range o.faults {
			s.at([]any{"triggers", o.at, "metadata", f.Key}, "%s", f)
		}
	}
}

func address(s *subject) {
	for _, o := range s.ours {
		if resolved(o.Metadata["scalerAddress"]).Value == "" {
			s.at([]any{"triggers", o.at, "metadata"}, "scalerAddress: missing; wanted: HOST:PORT of the scaler's Service, such as inference-scaler.keda.svc:9090")
		}
	}
}

func external(s *subject) {
	for _, o := range s.ours {
		if o.Type == "external" {
			s.at([]any{"triggers", o.at, "type"}, "external opens no stream, and the workload wakes at KEDA's next poll; wanted: external-push")
		}
	}
}

func metricType(s *subject) {
	for _, o := range s.ours {
		if o.MetricType != "" && o.MetricType != "AverageValue" {
			s.at([]any{"triggers", o.at, "metricType"}, "metricType: %s; wanted: AverageValue, which is the default: the answer is the load of the whole fleet", o.MetricType)
		}
	}
}

func cachedMetrics(s *subject) {
	for _, o := range s.ours {
		if o.UseCachedMetrics {
			s.at([]any{"triggers", o.at, "useCachedMetrics"}, "useCachedMetrics: true; the HPA sees what KEDA polled last; wanted: false, as an answer costs the scaler nothing")
		}
	}
}

func fallbackZero(s *subject) {
	if f := s.spec.Fallback; f != nil && f.Replicas == 0 && (f.Behavior == "" || f.Behavior == "static") {
		s.at([]any{"fallback", "replicas"}, "fallback.replicas: 0 takes the fleet to nothing when the scaler cannot be reached; wanted: what serves its usual load")
	}
}

func twoAutoscalers(s *subject) {
	for _, rival := range s.rivals {
		where := " of " + rival.File
		switch rival.File {
		case "": // all is in the cluster
			where = ""
		case s.doc.File:
			where = " of the same file"
		}
		s.at([]any{"scaleTargetRef"}, "%s%s sizes %s too; wanted: one of them%s", rival, where, s.spec.ScaleTargetRef, handOver(rival))
	}
}

// handOver says how KEDA takes an HPA over.
func handOver(rival *manifest.Document) string {
	if rival.Kind != "HorizontalPodAutoscaler" {
		return ", with all triggers"
	}
	return `, or the annotation scaledobject.keda.sh/transfer-hpa-ownership: "true" with its name in advanced.horizontalPodAutoscalerConfig.name`
}

func boundsInOrder(s *subject) {
	least, most, idle := s.bounds()
	switch {
	case least > most || most < 1:
		s.at([]any{"maxReplicaCount"}, "%d replicas at most and %d at least; wanted: a maxReplicaCount of 1 or more, and no smaller than minReplicaCount", most, least)
	case s.spec.IdleReplicaCount != nil && idle >= least:
		s.at([]any{"idleReplicaCount"}, "%d when idle and %d at least; wanted: an idleReplicaCount below minReplicaCount", idle, least)
	}
}

func workloadExists(s *subject) {
	if s.Complete && s.workload == nil && known(s.spec.ScaleTargetRef.kind()) {
		s.at([]any{"scaleTargetRef"}, "there is no %s in the namespace", s.spec.ScaleTargetRef)
	}
}

func port(s *subject) {
	pods := s.pods()
	if pods == nil {
		return
	}
	var declared []string
	for _, c := range pods.serving() {
		for _, p := range c.Ports {
			declared = append(declared, strconv.Itoa(p.ContainerPort))
		}
	}
	for _, o := range s.parsed() {
		if p := o.parsed.Port; p != 0 && len(o.parsed.Endpoints) == 0 && o.parsed.Prometheus == nil && len(declared) > 0 && !slices.Contains(declared, strconv.Itoa(p)) {
			s.at([]any{"triggers", o.at, "metadata", "port"}, "port %d is read of each pod, and its containers declare %s; wanted: the one that serves metrics", p, strings.Join(declared, ", "))
		}
	}
}

func gpuRequest(s *subject) {
	s.gpus(func(o ours, device capacity.Device) {
		if o.parsed.Engine != "" && device.PerReplica == 0 {
			s.onWorkload([]any{"template", "spec", "containers"}, "no container requests a GPU, so the GPUs there are do not bound the fleet; wanted: resources.limits with nvidia.com/gpu or another (what is called otherwise, gpuResource names), gpusPerReplica in the trigger, or gpuCapacity: \"off\" for pods that need none")
		}
	})
}

func gpusPerReplica(s *subject) {
	s.gpus(func(o ours, device capacity.Device) {
		if n := o.parsed.Capacity.PerReplica; n > 0 && device.Requested && n != device.PerReplica {
			s.at([]any{"triggers", o.at, "metadata", "gpusPerReplica"}, "gpusPerReplica: %d, and the pods request %s, which counts; wanted: the key left out", n, device)
		}
	})
}

// gpus calls f for each trigger that looks at GPUs.
func (s *subject) gpus(f func(ours, capacity.Device)) {
	pods := s.pods()
	if pods == nil {
		return
	}
	for _, o := range s.parsed() {
		if c := o.parsed.Capacity; c.Mode != "off" {
			f(o, capacity.DeviceOf(pods.template(), c.Resource, c.PerReplica))
		}
	}
}

func gracePeriod(s *subject) {
	pods := s.pods()
	if pods == nil {
		return
	}
	seconds, said := or(pods.TerminationGracePeriodSeconds, 30), ""
	if pods.TerminationGracePeriodSeconds == nil {
		said = " (the default)"
	}
	if float64(seconds) < s.LongestRequest.Seconds() {
		s.onWorkload([]any{"template", "spec", "terminationGracePeriodSeconds"},
			"terminationGracePeriodSeconds: %d%s, and a request may last %s: what a pod still serves then is cut off; wanted: %g at least (--longest-request says how long)", seconds, said, s.LongestRequest, s.LongestRequest.Seconds())
	}
}

// onWorkload adds a finding about the workload, where the path leads within its spec.
func (s *subject) onWorkload(path []any, format string, args ...any) {
	s.add(s.workload.doc, s.workload.doc.Line(append([]any{"spec"}, path...)...), format, args...)
}
