package check

import (
	"slices"
	"strconv"
	"strings"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"

	"go.yaml.in/yaml/v3"
)

// The shapes below are what rules look at, and no more: the API server knows the rest.

type targetRef struct {
	APIVersion string `yaml:"apiVersion"`
	Kind, Name string
}

// kind is what KEDA takes for a scale target that does not say.
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
			Behavior behavior
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
	StabilizationWindowSeconds *int   `yaml:"stabilizationWindowSeconds"`
	SelectPolicy               string `yaml:"selectPolicy"`
	Tolerance                  string
	Policies                   []struct {
		Type          string
		Value         int
		PeriodSeconds int `yaml:"periodSeconds"`
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

// serving are the containers that run while the pod serves: sidecars may be among those
// that start first.
func (s *podSpec) serving() []container {
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

// template is the pods' devices: whole numbers, and of containers only, as extended
// resources are; what a container limits it requests.
func (s *podSpec) template() *cluster.PodTemplate {
	sum := cluster.Resources{}
	for _, c := range s.serving() {
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

type hpaSpec struct {
	ScaleTargetRef targetRef `yaml:"scaleTargetRef"`
	MinReplicas    *int      `yaml:"minReplicas"`
	MaxReplicas    int       `yaml:"maxReplicas"`
	Metrics        []hpaMetric
	Behavior       yaml.Node
}

type hpaMetric struct {
	Type              string
	Resource          *resourceMetric
	ContainerResource *resourceMetric `yaml:"containerResource"`
	Pods              *customMetric
	Object            *customMetric
	External          *customMetric
}

type resourceMetric struct {
	Name, Container string
	Target          metricTarget
}

type customMetric struct {
	DescribedObject struct{ Kind, Name string } `yaml:"describedObject"` // of an Object metric alone
	Metric          struct {
		Name     string
		Selector struct {
			MatchLabels      map[string]string `yaml:"matchLabels"`
			MatchExpressions []yaml.Node       `yaml:"matchExpressions"`
		}
	}
	Target metricTarget
}

type metricTarget struct {
	Type               string
	AverageUtilization int    `yaml:"averageUtilization"`
	AverageValue       string `yaml:"averageValue"`
	Value              string
}
