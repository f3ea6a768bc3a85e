package check

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// Count returns the numbers of errors and warnings.
func (r *Report) Count() (failures, warnings int) {
	for _, f := range r.Findings {
		if f.Severity == Error {
			failures++
		} else {
			warnings++
		}
	}
	return failures, warnings
}

// Text writes one line per finding, in the format of compilers, and a summary.
func (r *Report) Text(w io.Writer) error {
	var b strings.Builder
	for _, f := range r.Findings {
		if f.File != "" {
			fmt.Fprintf(&b, "%s:%d: ", f.File, f.Line)
		}
		fmt.Fprintf(&b, "%s: %s: %s [%s]\n", f.Severity, f.Object, f.Message, f.Rule)
	}
	failures, warnings := r.Count()
	fmt.Fprintf(&b, "%s checked: %s, %s\n", plural(r.ScaledObjects, "ScaledObject"), plural(failures, "error"), plural(warnings, "warning"))
	for _, workload := range r.WithoutWorkload {
		fmt.Fprintf(&b, "not checked, because it is not in the input: %s\n", workload)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// JSON writes the report as one JSON object.
func (r *Report) JSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
