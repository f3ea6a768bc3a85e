package chart

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// TestReadme holds the chart's README to its values: a row for each, by the comment
// above it.
func TestReadme(t *testing.T) {
	text, err := os.ReadFile(dir + "/values.yaml")
	require.NoError(t, err)
	var doc yaml.Node
	require.NoError(t, yaml.Unmarshal(text, &doc))
	var b strings.Builder
	b.WriteString("| value | default | meaning |\n|---|---|---|\n")
	rows(t, &b, "", doc.Content[0])

	path := dir + "/README.md"
	readme, err := os.ReadFile(path)
	require.NoError(t, err)
	const begin, end = "<!-- begin values -->\n", "<!-- end values -->"
	before, rest, ok := strings.Cut(string(readme), begin)
	require.True(t, ok)
	_, after, ok := strings.Cut(rest, end)
	require.True(t, ok)
	golden(t, path, before+begin+b.String()+end+after)
}

func rows(t *testing.T, b *strings.Builder, prefix string, n *yaml.Node) {
	for i := 0; i < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		name := prefix + key.Value
		_, says, documented := strings.Cut(key.HeadComment, "# -- ")
		if value.Kind == yaml.MappingNode && len(value.Content) > 0 && !documented {
			rows(t, b, name+".", value)
			continue
		}
		var v any
		require.NoError(t, value.Decode(&v))
		shown, err := json.Marshal(v)
		require.NoError(t, err)
		fmt.Fprintf(b, "| `%s` | `%s` | %s |\n", name, shown, strings.ReplaceAll(says, "\n# ", " "))
	}
}
