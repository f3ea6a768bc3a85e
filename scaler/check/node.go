package check

import (
	"slices"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// withTolerance is a behavior that acts on every difference.
func withTolerance(behavior yaml.Node) yaml.Node {
	var values map[string]any // with what the aliases stand for
	if aliased(&behavior) && behavior.Decode(&values) == nil {
		_ = behavior.Encode(values) // what was decoded can be
	}
	if behavior.Kind != yaml.MappingNode {
		behavior = yaml.Node{Kind: yaml.MappingNode}
	}
	for _, direction := range []string{"scaleUp", "scaleDown"} {
		rules := child(&behavior, direction)
		if rules == nil {
			rules = &yaml.Node{}
			behavior.Content = append(behavior.Content, scalar(direction), rules)
		}
		if rules.Kind != yaml.MappingNode { // null, or new
			*rules = yaml.Node{Kind: yaml.MappingNode}
		}
		if child(rules, "tolerance") == nil {
			rules.Content = append(rules.Content, scalar("tolerance"), quoted("0"))
		}
	}
	return behavior
}

// aliased reports whether anything in the node stands for what is elsewhere.
func aliased(node *yaml.Node) bool {
	return node.Kind == yaml.AliasNode || node.Anchor != "" || slices.ContainsFunc(node.Content, aliased)
}

func scalar(text string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Value: text} }

// quoted is a string whatever it looks like.
func quoted(text string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Style: yaml.DoubleQuotedStyle, Value: text}
}

// keyed is a trigger's metadata, in this order; pairs of a key and its value.
func keyed(pairs ...string) yaml.Node {
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
