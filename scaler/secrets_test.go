package scaler

import (
	"context"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"

	"github.com/stretchr/testify/require"

	"github.com/inference-scaler/inference-scaler/metricsource/httpclient"
)

// secretsOf stands for the Secrets of a cluster, by namespace/name.
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
	secret := cluster.Secret{Annotations: map[string]string{allowHost: allow}, Data: map[string][]byte{}}
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
			for _, l := range w.scaler.all() {
				if e := l.explain(time.Now()); len(e.Faults) > 0 {
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

func TestTakeAuth(t *testing.T) {
	for name, tc := range map[string]struct {
		data map[string][]byte
		want http.Header
		err  string
	}{
		"bearer":           {map[string][]byte{"bearerToken": []byte(" a\n")}, http.Header{"Authorization": {"Bearer a"}}, ""},
		"of an account":    {map[string][]byte{"token": []byte("a"), "ca.crt": nil, "namespace": []byte("x")}, http.Header{"Authorization": {"Bearer a"}}, ""},
		"basic":            {map[string][]byte{"username": []byte("me"), "password": []byte("pass:word")}, http.Header{"Authorization": {"Basic bWU6cGFzczp3b3Jk"}}, ""},
		"headers":          {map[string][]byte{"header.x-scope-orgid": []byte("team")}, http.Header{"X-Scope-Orgid": {"team"}}, ""},
		"both":             {map[string][]byte{"token": []byte("a"), "username": []byte("b")}, nil, "holds both"},
		"two tokens":       {map[string][]byte{"token": []byte("a"), "bearerToken": []byte("b")}, nil, "holds both a bearerToken and a token"},
		"half a login":     {map[string][]byte{"username": []byte("a"), "pasword": []byte("b")}, nil, "holds a username without a password"},
		"nothing":          {map[string][]byte{"password": []byte("a")}, nil, "holds none of"},
		"a header's name":  {map[string][]byte{"header.a b": []byte("a")}, nil, "header.a b: that is no header to be set"},
		"a request's own":  {map[string][]byte{"header.host": []byte("a")}, nil, "header.host: that is no header to be set"},
		"a header's value": {map[string][]byte{"header.x": []byte("secret\r\nHost: evil")}, nil, "the value for X is none that a header can have"},
		"half a pair":      {map[string][]byte{"tls.crt": []byte("secret")}, nil, "tls.crt and tls.key"},
	} {
		c := &httpclient.Credentials{}
		err := takeAuth(c, tc.data)
		if tc.err != "" {
			require.ErrorContains(t, err, tc.err, name)
			require.NotContains(t, err.Error(), "secret", name)
			continue
		}
		require.NoError(t, err, name)
		require.Equal(t, tc.want, c.Header, name)
	}
	require.ErrorContains(t, takeCA(&httpclient.Credentials{}, map[string][]byte{"ca.crt": []byte("secret")}), "holds no certificate under ca.crt")
}

func TestAllows(t *testing.T) {
	for _, tc := range []struct {
		entry, at string
		want      bool
	}{
		{"prom.example", "http://prom.example", true},
		{"prom.example", "https://PROM.example:9090/x", true},
		{"prom.example:9090", "http://prom.example:9090", true},
		{"prom.example:9090", "http://prom.example", false},
		{"https://prom.example", "https://prom.example:9090/x", true},
		{"https://prom.example", "http://prom.example", false},
		{"https://prom.example:9090", "https://prom.example:9091", false},
		{"[::1]", "http://[::1]:80", true},
		{"prom.example", "http://prom.example.evil", false},
		{"prom.example", "http://evil.prom.example", false},
		{".example", "http://prom.example", false},
		{"*", "http://prom.example", false},
	} {
		u, err := url.Parse(tc.at)
		require.NoError(t, err)
		require.Equal(t, tc.want, allows(tc.entry, u), "%s towards %s", tc.entry, tc.at)
	}
	require.Equal(t, []string{"a", "b:1", "https://c"}, hostsOf("A, b:1 ,https://c,"))
	require.Empty(t, hostsOf(""))
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
