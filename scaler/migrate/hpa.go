package migrate

import "go.yaml.in/yaml/v3"

// The types below are the parts of an HPA of autoscaling/v2 that are converted.

type hpaSpec struct {
	ScaleTargetRef target `yaml:"scaleTargetRef"`
	MinReplicas    *int   `yaml:"minReplicas"`
	MaxReplicas    int    `yaml:"maxReplicas"`
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
	DescribedObject struct{ Kind, Name string } `yaml:"describedObject"` // only in an Object metric
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

// target is the scale target of an HPA or a ScaledObject.
type target struct {
	APIVersion string `yaml:"apiVersion,omitempty"`
	Kind, Name string
}
