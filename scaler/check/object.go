package check

import (
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"
)

// The types below are the parts of the objects that the rules read.

type targetRef struct {
	APIVersion string `yaml:"apiVersion"`
	Kind, Name string
}

// kind returns the kind, with KEDA's default.
func (r targetRef) kind() string {
	if r.Kind == "" {
		return "Deployment"
	}
	return r.Kind
}

func (r targetRef) String() string { return r.kind() + " " + r.Name }

type scaledObjectSpec struct {
	ScaleTargetRef   targetRef `yaml:"scaleTargetRef"`
	CooldownPeriod   *int      `yaml:"cooldownPeriod"`
	MinReplicaCount  *int      `yaml:"minReplicaCount"`
	MaxReplicaCount  *int      `yaml:"maxReplicaCount"`
	IdleReplicaCount *int      `yaml:"idleReplicaCount"`
	Fallback         *struct {
		Replicas int
		Behavior string
	}
	Advanced struct {
		HPA struct {
			Name     string
			Behavior *behavior
		} `yaml:"horizontalPodAutoscalerConfig"`
		ScalingModifiers struct{ Formula string } `yaml:"scalingModifiers"`
	}
	Triggers []triggerSpec
}

type triggerSpec struct {
	Type             string
	Metadata         map[string]yaml.Node
	MetricType       string `yaml:"metricType"`
	UseCachedMetrics bool   `yaml:"useCachedMetrics"`
}

type behavior struct {
	ScaleUp   *scalingRules `yaml:"scaleUp"`
	ScaleDown *scalingRules `yaml:"scaleDown"`
}

type scalingRules struct {
	StabilizationWindowSeconds *int32 `yaml:"stabilizationWindowSeconds"`
	SelectPolicy               string `yaml:"selectPolicy"`
	Tolerance                  string
	Policies                   []struct {
		Type          string
		Value         int32
		PeriodSeconds int32 `yaml:"periodSeconds"`
	}
}

type workloadSpec struct {
	PodManagementPolicy string `yaml:"podManagementPolicy"`
	Strategy            struct {
		Type          string
		RollingUpdate struct {
			MaxSurge       string `yaml:"maxSurge"`
			MaxUnavailable string `yaml:"maxUnavailable"`
		} `yaml:"rollingUpdate"`
	}
	Template struct{ Spec podSpec }
}

type podSpec struct {
	TerminationGracePeriodSeconds *int `yaml:"terminationGracePeriodSeconds"`
	Containers                    []container
	InitContainers                []container `yaml:"initContainers"`
}

// running returns the containers that run at the same time: the regular ones and the
// sidecars, which are init containers with restartPolicy Always.
func (s *podSpec) running() []container {
	all := slices.Clone(s.Containers)
	for _, c := range s.InitContainers {
		if c.RestartPolicy == "Always" {
			all = append(all, c)
		}
	}
	return all
}

type container struct {
	Name          string
	RestartPolicy string `yaml:"restartPolicy"`
	Ports         []struct {
		ContainerPort int `yaml:"containerPort"`
	}
	StartupProbe *struct {
		InitialDelaySeconds int  `yaml:"initialDelaySeconds"`
		PeriodSeconds       *int `yaml:"periodSeconds"`
		FailureThreshold    *int `yaml:"failureThreshold"`
	} `yaml:"startupProbe"`
	Resources struct{ Limits, Requests map[string]string }
}

// template returns the devices that a pod requests. Extended resources are whole numbers, and
// a limit is also a request.
func (s *podSpec) template() *cluster.PodTemplate {
	sum := cluster.Resources{}
	for _, c := range s.running() {
		for name, text := range c.Resources.Limits {
			if n, err := strconv.ParseInt(text, 10, 64); err == nil && strings.Contains(name, "/") {
				sum[name] += n
			}
		}
		for name, text := range c.Resources.Requests {
			_, limited := c.Resources.Limits[name]
			if n, err := strconv.ParseInt(text, 10, 64); err == nil && strings.Contains(name, "/") && !limited {
				sum[name] += n
			}
		}
	}
	return &cluster.PodTemplate{Requests: sum}
}
