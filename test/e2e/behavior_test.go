package e2e

import (
	"fmt"
	"strings"
	"time"

	"github.com/stretchr/testify/require"
)

// quick is how fast a ScaledObject follows where a scenario is not about that: up at
// once, down after a window, KEDA polling every second.
type quick struct {
	min, max int
	window   time.Duration // of scale-down; 0 is one of 5 s
	more     string        // further lines of the spec
	triggers string        // a YAML list
}

func (q quick) String() string {
	if q.window == 0 {
		q.window = 5 * time.Second
	}
	return fmt.Sprintf(`
minReplicaCount: %d
maxReplicaCount: %d
pollingInterval: 1
cooldownPeriod: 5
%s
advanced:
  horizontalPodAutoscalerConfig:
    behavior:
      scaleUp:
        tolerance: "0"
        stabilizationWindowSeconds: 0
        policies: [{type: Pods, value: 100, periodSeconds: 1}]
      scaleDown:
        tolerance: "0"
        stabilizationWindowSeconds: %d
        policies: [{type: Pods, value: 100, periodSeconds: 1}]
triggers:
%s`, q.min, q.max, q.more, int(q.window.Seconds()), q.triggers)
}

// push is one external-push trigger with these metadata, "KEY: VALUE" each.
func push(metadata ...string) string {
	return `  - type: external-push
    metadata:
      ` + strings.Join(append([]string{"scalerAddress: $SCALER"}, metadata...), "\n      ") + "\n"
}

// withinPolicy checks that no period saw a larger change than the policy allows
// from the replicas at its begin. A change is seen some time after it was made, so
// the periods looked at are half as long.
func withinPolicy(f *fleet, changes []change, period time.Duration, allowed func(from int) int) {
	f.Helper()
	period /= 2
	for i, first := range changes {
		moved := 0
		for _, c := range changes[i:] {
			if c.at.Sub(first.at) >= period {
				break
			}
			moved += max(c.to-c.from, c.from-c.to)
		}
		require.LessOrEqual(f, moved, allowed(first.from), "replicas moved within %s of the change from %d to %d", period, first.from, first.to)
	}
}
