package check

import (
	"slices"
	"strconv"
	"strings"

	"github.com/inference-scaler/inference-scaler/scaler/capacity"
	"github.com/inference-scaler/inference-scaler/scaler/manifest"
)

// Rule is one kind of fault.
type Rule struct {
	Name     string
	Severity Severity
	// Doc is the fault and its effect, in one sentence.
	Doc   string
	check func(*subject)
}

// Rules are all rules in the order of their documentation: the trigger, scaling from and to
// zero, scaling up and down, the workload.
var Rules = []Rule{
	shape,
	{"metadata", Error, "the scaler rejects the trigger's metadata: an unknown key, a value out of range or a missing key", metadataRefused},
	{"address", Error, "KEDA rejects a trigger without `scalerAddress` in its metadata; a value from the environment does not count", address},
	{"external", Warning, "`external` opens no stream: a workload at zero replicas wakes up at KEDA's next poll, up to 30 s late; `external-push` opens one", external},
	{"metric-type", Error, "any `metricType` other than `AverageValue` multiplies the value by the number of ready pods, or is rejected", metricType},
	{"cached-metrics", Warning, "with `useCachedMetrics` the HPA uses the value of KEDA's last poll, up to `pollingInterval` old", cachedMetrics},
	{"fallback-zero", Error, "`fallback.replicas: 0` scales the workload to zero while the scaler is unreachable", fallbackZero},
	{"two-autoscalers", Error, "two autoscalers of one workload overwrite each other's replica counts", twoAutoscalers},
	{"bounds", Error, "KEDA rejects a ScaledObject unless `idleReplicaCount` < `minReplicaCount` ≤ `maxReplicaCount`", boundsInOrder},

	{"zero-unseen", Error, "at zero replicas there is no pod to read: without an `upstream`, or an `upstreamEngine` for pushed demand, nothing wakes the workload up", zeroUnseen},
	{"zero-in-flight", Warning, "a workload scales to zero while its work in flight is 0: if that is unknown, it never does; if running requests are not counted, it does so while they run", zeroInFlight},
	{"cooldown", Warning, "with a `cooldownPeriod` shorter than the model's load time, replicas may load for longer than they serve", cooldown},
	{"formula", Error, "with `scalingModifiers.formula` KEDA ignores the work in flight: a workload that may scale to zero does so while requests run", formula},

	{"tolerance", Warning, "without `tolerance: \"0\"` the HPA ignores changes of up to 10 % of the replicas", tolerance},
	{"slow-growth", Warning, "the policies of `scaleUp` are too slow for a burst", slowGrowth},
	{"statefulset-order", Warning, "a StatefulSet starts its pods one at a time, each after the previous one is ready, unless `podManagementPolicy` is `Parallel`", statefulSetOrder},
	{"surge", Warning, "a rollout that starts a pod before it removes one never ends while all GPUs are in use", surge},

	{"workload", Error, "the workload does not exist (checked only with `--cluster`)", workloadExists},
	{"port", Warning, "no container declares the port of the metrics", port},
	{"gpu-request", Warning, "the number of GPUs does not limit pods that request none, unless `gpusPerReplica` is set", gpuRequest},
	{"gpus-per-replica", Warning, "`gpusPerReplica` has no effect on pods that request GPUs", gpusPerReplica},
	{"grace-period", Warning, "a terminating pod is killed after `terminationGracePeriodSeconds`, with its unfinished requests", gracePeriod},
}

func metadataRefused(s *subject) {
	for _, o := range s.triggers {
		for _, f := range o.faults {
			s.at([]any{"triggers", o.index, "metadata", f.Key}, "%s", f)
		}
	}
}

func address(s *subject) {
	for _, o := range s.triggers {
		if resolved(o.Metadata["scalerAddress"]).Value == "" {
			s.at([]any{"triggers", o.index, "metadata"}, "scalerAddress: missing; wanted: HOST:PORT of the scaler's Service, such as inference-scaler.keda.svc:9090")
		}
	}
}

func external(s *subject) {
	for _, o := range s.triggers {
		if o.Type == "external" {
			s.at([]any{"triggers", o.index, "type"}, "type: external; it opens no stream, so the workload wakes up at KEDA's next poll; wanted: external-push")
		}
	}
}

func metricType(s *subject) {
	for _, o := range s.triggers {
		if o.MetricType != "" && o.MetricType != "AverageValue" {
			s.at([]any{"triggers", o.index, "metricType"}, "metricType: %s; wanted: AverageValue, the default, because the value is the load of the whole workload", o.MetricType)
		}
	}
}

func cachedMetrics(s *subject) {
	for _, o := range s.triggers {
		if o.UseCachedMetrics {
			s.at([]any{"triggers", o.index, "useCachedMetrics"}, "useCachedMetrics: true; the HPA uses the value of KEDA's last poll; wanted: false, because the scaler answers from memory")
		}
	}
}

func fallbackZero(s *subject) {
	if f := s.spec.Fallback; f != nil && f.Replicas == 0 && (f.Behavior == "" || f.Behavior == "static") {
		s.at([]any{"fallback", "replicas"}, "fallback.replicas: 0; the workload scales to zero while the scaler is unreachable; wanted: enough replicas for the usual load")
	}
}

func twoAutoscalers(s *subject) {
	for _, other := range s.otherAutoscalers {
		source := " in " + other.File
		switch other.File {
		case "": // an object of the cluster
			source = ""
		case s.doc.File:
			source = " in the same file"
		}
		s.at([]any{"scaleTargetRef"}, "%s%s also scales %s; wanted: one of them%s", other, source, s.spec.ScaleTargetRef, resolution(other))
	}
}

// resolution is how one autoscaler replaces the other.
func resolution(other *manifest.Document) string {
	if other.Kind != "HorizontalPodAutoscaler" {
		return ", with all triggers"
	}
	return `, or the annotation scaledobject.keda.sh/transfer-hpa-ownership: "true" with the HPA's name in advanced.horizontalPodAutoscalerConfig.name`
}

func boundsInOrder(s *subject) {
	least, most, idle := s.bounds()
	switch {
	case least > most || most < 1:
		s.at([]any{"maxReplicaCount"}, "maxReplicaCount: %d, minReplicaCount: %d; wanted: a maxReplicaCount of at least 1, and at least minReplicaCount", most, least)
	case s.spec.IdleReplicaCount != nil && idle >= least:
		s.at([]any{"idleReplicaCount"}, "idleReplicaCount: %d, minReplicaCount: %d; wanted: an idleReplicaCount below minReplicaCount", idle, least)
	}
}

func workloadExists(s *subject) {
	if s.Complete && s.workload == nil && hasPodTemplate(s.spec.ScaleTargetRef.kind()) {
		s.at([]any{"scaleTargetRef"}, "scaleTargetRef: %s does not exist in the namespace; wanted: an existing workload", s.spec.ScaleTargetRef)
	}
}

func port(s *subject) {
	pods := s.pods()
	if pods == nil {
		return
	}
	var declared []string
	for _, c := range pods.running() {
		for _, p := range c.Ports {
			declared = append(declared, strconv.Itoa(p.ContainerPort))
		}
	}
	for _, o := range s.parsed() {
		if p := o.parsed.Port; p != 0 && len(o.parsed.Endpoints) == 0 && o.parsed.Prometheus == nil && len(declared) > 0 && !slices.Contains(declared, strconv.Itoa(p)) {
			s.at([]any{"triggers", o.index, "metadata", "port"}, "port: the scaler reads port %d of each pod, and the containers declare %s; wanted: the port that serves metrics", p, strings.Join(declared, ", "))
		}
	}
}

func gpuRequest(s *subject) {
	s.gpus(func(o ownTrigger, device capacity.Device) {
		if o.parsed.Engine != "" && device.PerReplica == 0 {
			s.onWorkload([]any{"template", "spec", "containers"}, "no container requests a GPU, so the number of GPUs does not limit the replicas; wanted: resources.limits with a GPU resource such as nvidia.com/gpu (gpuResource names any other), gpusPerReplica in the trigger, or gpuCapacity: \"off\" for pods without GPUs")
		}
	})
}

func gpusPerReplica(s *subject) {
	s.gpus(func(o ownTrigger, device capacity.Device) {
		if n := o.parsed.Capacity.PerReplica; n > 0 && device.Requested && n != device.PerReplica {
			s.at([]any{"triggers", o.index, "metadata", "gpusPerReplica"}, "gpusPerReplica: %d has no effect, because the pods request %s; wanted: no gpusPerReplica", n, device)
		}
	})
}

// gpus calls f for each trigger that limits the replicas by the number of GPUs.
func (s *subject) gpus(f func(ownTrigger, capacity.Device)) {
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
	seconds, origin := or(pods.TerminationGracePeriodSeconds, 30), ""
	if pods.TerminationGracePeriodSeconds == nil {
		origin = " (the default)"
	}
	if float64(seconds) < s.LongestRequest.Seconds() {
		s.onWorkload([]any{"template", "spec", "terminationGracePeriodSeconds"},
			"terminationGracePeriodSeconds: %d%s; a request may take %s (--longest-request) and is then cut off; wanted: %g or more", seconds, origin, s.LongestRequest, s.LongestRequest.Seconds())
	}
}

// onWorkload adds a finding about the value at the path within the workload's spec.
func (s *subject) onWorkload(path []any, format string, args ...any) {
	s.add(s.workload.doc, s.workload.doc.Line(append([]any{"spec"}, path...)...), format, args...)
}
