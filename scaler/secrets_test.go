package scaler

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"
	"github.com/inference-scaler/inference-scaler/scaler/credentials"

	"github.com/stretchr/testify/require"
)

// secretsOf is the Secrets of a cluster, by namespace/name.
type secretsOf map[string]cluster.Secret

func (s secretsOf) Secret(_ context.Context, namespace, name string) (cluster.Secret, error) {
	secretsMu.Lock()
	defer secretsMu.Unlock()
	if secret, ok := s[namespace+"/"+name]; ok {
		return secret, nil
	}
	return cluster.Secret{}, cluster.ErrNotFound
}

var secretsMu sync.Mutex

func (s secretsOf) put(name, allow string, data map[string]string) {
	secretsMu.Lock()
	defer secretsMu.Unlock()
	secret := cluster.Secret{Annotations: map[string]string{credentials.AllowHost: allow}, Data: map[string][]byte{}}
	for k, v := range data {
		secret.Data[k] = []byte(v)
	}
	s["asr/"+name] = secret
}

func TestSecretsGoWhereTheirAnnotationSays(t *testing.T) {
	metadata := map[string]string{"query": "sum(queue)", "target": "5", "prometheusAddress": "http://" + promAddress, "interval": "1s", "authSecret": "token"}
	inBubble(t, true, func(t *testing.T, w *world) {
		p := w.prometheus()
		p.has("", map[string]float64{"queue": 3})
		w.cluster.declare(metadata)
		w.has(1, pod("a", "10.0.0.1", true))
		why := func() string {
			w.pass(70 * time.Second) // Secrets are read once a minute
			for _, e := range w.evaluator.Explanations(func(string, string) bool { return true }) {
				if len(e.Faults) > 0 {
					return e.Faults[0]
				}
			}
			return ""
		}
		require.Contains(t, why(), "secret token: not found")
		w.secrets.put("token", "", map[string]string{"bearerToken": "confidential"})
		require.Contains(t, why(), `token may not be used towards http://10.0.9.9:9090: its annotation inference-scaler/allow-host is ""`)
		w.secrets.put("token", "https://10.0.9.9,other.example", map[string]string{"bearerToken": "confidential"})
		require.Contains(t, why(), "may not be used towards", "not in the clear")
		require.Empty(t, p.cameWith(), "no request is made without what it needs")
		w.secrets.put("token", "other.example, 10.0.9.9:9090", map[string]string{"bearerToken": "confidential\n", "header.X-Scope-OrgID": "team-a"})
		require.Empty(t, why())
		require.Contains(t, p.cameWith(), "Bearer confidentialteam-a")
		require.Equal(t, 3.0, w.value(metadata))

		w.secrets.put("token", "10.0.9.9", map[string]string{"bearerToken": "rotated"})
		require.Empty(t, why())
		require.Equal(t, "Bearer rotated", p.cameWith()[len(p.cameWith())-1])
		w.secrets.put("token", "10.0.9.9", map[string]string{"bearer-token": "misspelt"})
		fault := why()
		require.Contains(t, fault, "Secret token: holds none of bearerToken")
		require.NotContains(t, fault, "misspelt")
		require.Equal(t, 3.0, w.value(metadata), "the last known load stands")
	})
}

// A Service's endpoints are addresses; what the annotation allows is its name.
func TestSecretsTowardsAnUpstream(t *testing.T) {
	metadata := map[string]string{"engine": "lightning-asr", "upstream": "service/api:http", "hold": "0s", "authSecret": "token"}
	inBubble(t, true, func(t *testing.T, w *world) {
		w.network.add(apiServer, queue(6, 100))
		w.secrets.put("token", "10.0.1.1", map[string]string{"bearerToken": "a"})
		w.asleep(metadata)
		w.pass(70 * time.Second)
		require.False(t, w.active(metadata))
		require.True(t, w.recorder.has("UpstreamFault"))
		w.secrets.put("token", "http://api.asr.svc", map[string]string{"bearerToken": "a"})
		w.pass(70 * time.Second)
		require.True(t, w.active(metadata))
	})
}
