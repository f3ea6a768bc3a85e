package migrate

import (
	"slices"
	"strconv"

	"go.yaml.in/yaml/v3"

	"github.com/inference-scaler/inference-scaler/scaler/manifest"
)

// withTolerance returns the behavior with a tolerance of 0 in each direction without one.
func withTolerance(behavior yaml.Node) yaml.Node {
	var values map[string]any // with aliases resolved
	if aliased(&behavior) && behavior.Decode(&values) == nil {
		_ = behavior.Encode(values) // a decoded value can be encoded
	}
	if behavior.Kind != yaml.MappingNode {
		behavior = yaml.Node{Kind: yaml.MappingNode}
	}
	for _, direction := range []string{"scaleUp", "scaleDown"} {
		rules := manifest.Child(&behavior, direction)
		if rules == nil {
			rules = &yaml.Node{}
			behavior.Content = append(behavior.Content, scalar(direction), rules)
		}
		if rules.Kind != yaml.MappingNode { // null or new
			*rules = yaml.Node{Kind: yaml.MappingNode}
		}
		if manifest.Child(rules, "tolerance") == nil {
			rules.Content = append(rules.Content, scalar("tolerance"), quoted("0"))
		}
	}
	return behavior
}

// aliased reports whether the node contains an alias or an anchor.
func aliased(node *yaml.Node) bool {
	return node.Kind == yaml.AliasNode || node.Anchor != "" || slices.ContainsFunc(node.Content, aliased)
}

func scalar(text string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Value: text} }

// quoted returns a node that stays a string if the text is a number.
func quoted(text string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Style: yaml.DoubleQuotedStyle, Value: text}
}

// metadata returns the metadata of a trigger from pairs of a key and a value, in their order.
func metadata(pairs ...string) yaml.Node {
	node := yaml.Node{Kind: yaml.MappingNode}
	for i := 0; i+1 < len(pairs); i += 2 {
		value := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: pairs[i+1]}
		if _, err := strconv.ParseFloat(pairs[i+1], 64); err == nil {
			value.Style = yaml.DoubleQuotedStyle
		}
		node.Content = append(node.Content, scalar(pairs[i]), value)
	}
	return node
}
