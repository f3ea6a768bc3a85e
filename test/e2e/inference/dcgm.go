package inference

import (
	"fmt"
	"math"
	"net/http"
)

// DCGM is the DCGM exporter of the fleet's nodes: how busy the GPU of each pod is, in
// percent.
func (f *Fleet) DCGM(namespace string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		_, _ = fmt.Fprintf(w, "# HELP DCGM_FI_DEV_GPU_UTIL GPU utilization (in %%).\n# TYPE DCGM_FI_DEV_GPU_UTIL gauge\n")
		for i, s := range f.byName() {
			_, _ = fmt.Fprintf(w, "DCGM_FI_DEV_GPU_UTIL{gpu=\"%d\",UUID=\"GPU-%s\",modelName=\"NVIDIA L4\",container=\"server\",namespace=%q,pod=%q} %d\n",
				i%8, s.pod, namespace, s.pod, int(math.Round(100*s.state().filled())))
		}
	}
}
