package manifest

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRead(t *testing.T) {
	_, err := Read("f.yaml", strings.NewReader("kind: ScaledObject\nspec: {"))
	require.ErrorContains(t, err, "f.yaml: yaml: line 2")
	docs, err := Read("f.json", strings.NewReader(`{"kind": "List", "items": [{"kind": "Pod", "metadata": {"name": "a"}}, {"kind": "Pod"}]}`))
	require.NoError(t, err)
	require.Len(t, docs, 2)
	require.Equal(t, "Pod a", docs[0].String())
	docs, err = Read("f.json", strings.NewReader(`{"kind": "Pod", "metadata": {"name": "\ud83d\ude00 \\ud83d\\ude00 \u00e9 \/"}}`))
	require.NoError(t, err)
	require.Equal(t, `Pod 😀 \ud83d\ude00 é /`, docs[0].String(), "YAML does not have surrogate pairs")
	docs, err = Read("f.yaml", strings.NewReader(`{kind: Pod, metadata: {name: '\ud83d\ude00\/'}}`))
	require.NoError(t, err)
	require.Equal(t, `Pod \ud83d\ude00\/`, docs[0].String(), "escapes of text that is not JSON stay")
	docs, err = Read("f.yaml", strings.NewReader("kind: Pod\n---\nkind: {"))
	require.ErrorContains(t, err, "f.yaml: yaml: line")
	require.Len(t, docs, 1, "the objects before the error")
	for _, text := range []string{"", "---\n---\n", "# a comment", "- a\n- list", "text", "a: {kind: b}"} {
		docs, err := Read("f", strings.NewReader(text))
		require.NoError(t, err)
		require.Empty(t, docs, text)
	}
	_, err = Read("f", strings.NewReader("kind: List\nitems: &a\n- kind: List\n  items: *a\n"))
	require.ErrorContains(t, err, "too many nested Lists; wanted: at most 4 levels", "a List that contains itself")
}
