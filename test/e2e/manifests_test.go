package e2e

import (
	"bytes"
	_ "embed"
	"text/template"
)

var (
	//go:embed testdata/inference-scaler.yaml
	scalerYAML string
	//go:embed testdata/workload.yaml
	workloadYAML string
	//go:embed testdata/front.yaml
	frontYAML string

	scalerManifest   = template.Must(template.New("inference-scaler.yaml").Parse(scalerYAML))
	workloadManifest = template.Must(template.New("workload.yaml").Parse(workloadYAML))
	frontManifest    = template.Must(template.New("front.yaml").Parse(frontYAML))
)

// render panics where a template and its data do not fit: the author's mistake.
func render(t *template.Template, data any) string {
	var b bytes.Buffer
	if err := t.Execute(&b, data); err != nil {
		panic(err)
	}
	return b.String()
}
