package e2e

import (
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The steps of a new user who has the README alone: install the chart, apply the
// examples, send load and ask why. The ASR comes from zero and its API servers from one,
// within the GPUs. Then the same over mutual TLS.
func TestNewUser(t *testing.T) {
	t.Run("plaintext", func(t *testing.T) {
		s := begin(t)
		c := s.install("e2e-plaintext.yaml")
		s.trial(c, func(example string) string { return example })
	})
	t.Run("mtls", func(t *testing.T) {
		s := begin(t)
		c := s.install("e2e.yaml")
		// As examples/mtls has it.
		c.secret(s.namespace, "inference-scaler-keda", "keda")
		authentication, scaledObject, found := strings.Cut(example(t, "mtls"), "---\n")
		require.True(t, found)
		s.apply(authentication)
		require.Contains(t, scaledObject, "        enableTLS: \"true\"\n")
		require.Contains(t, scaledObject, "      authenticationRef:\n        name: inference-scaler\n")
		s.trial(c, func(example string) string {
			return regexp.MustCompile(`(?m)^      metadata:$`).ReplaceAllString(example,
				"      authenticationRef:\n        name: inference-scaler\n      metadata:\n        enableTLS: \"true\"")
		})
	})
}

// example is the YAML of one, for whatever namespace it is applied to.
func example(t *testing.T, name string) string {
	text, err := os.ReadFile("../../examples/" + name + "/scaledobject.yaml")
	require.NoError(t, err)
	require.Contains(t, string(text), exampleAddress)
	return regexp.MustCompile(`(?m)^  namespace: .*\n`).ReplaceAllString(string(text), "")
}

// exampleAddress is where examples find the scaler, and where the run has its own.
const exampleAddress = "inference-scaler.keda.svc:9090"

// there has an example find the chart's installation.
func there(example string) string {
	return strings.ReplaceAll(example, exampleAddress, chartHost+":9090")
}

func (s *scenario) trial(c *chart, edited func(example string) string) {
	s.provide(4, 2)
	asr := s.fleet(workload{Replicas: 0, Nodes: s.namespace, Startup: 2 * time.Second})
	asr.front("api-server")
	api := s.newFleet(workload{Kind: "Deployment", Name: "api-server"})
	api.timeline = newTimeline(s.Context(), api)
	s.fleets = append(s.fleets, api)

	asr.object = there(edited(example(s.T, "scale-to-zero")))
	_, api.object, _ = strings.Cut(there(edited(example(s.T, "lightning-asr"))), "---\n")
	require.Contains(s, api.object, "follow: lightning-asr")
	for _, f := range []*fleet{asr, api} {
		s.apply(f.object)
		s.wait("KEDA has made the HPA of "+f.Name, func() error {
			_, err := f.hpa()
			return err
		})
	}
	checked := s.product("check", "--cluster", "--kubeconfig", s.cluster.Kubeconfig, "--namespace", s.namespace, "--fail-on", "error")
	require.Contains(s, checked, "2 ScaledObjects checked: 0 errors")

	settle := asr.allPlaced()
	asr.stays(0, 5*time.Second)
	api.stays(1, time.Second)
	begun := time.Now()
	asr.burst(150)
	woken := asr.until("awake", func(m moment) bool { return m.Replicas > 0 })
	asr.atReplicas(6)
	api.atReplicas(3)
	asr.figure("0 → 1 after %.2f s", woken.Sub(begun).Seconds())
	asr.ready(6)
	asr.stays(6, 10*time.Second)
	settle()

	said := s.product("why", "--address", "http://"+c.pods[0].Status.PodIP+":8080", s.namespace)
	require.Contains(s, said, "capacity  6 replicas fit")
	require.Regexp(s, `load +0 → 150 +0 → 30 `, said)
	require.Regexp(s, `capacity +150 → 30 +30 → 6 `, said)
	require.Regexp(s, `follow +0 → 6 +0 → 3 +lightning-asr: 6 desired, 6 current`, said)
	s.Log(said)
	c.allowed()
	asr.finish()
}

// Examples, unchanged, scale the fleets that they name. Of 20 requests a pod serves 9 at
// once. The queue of 11 at a target of 5 is exactly 3 replicas.
func TestExamplesScale(t *testing.T) {
	t.Parallel()
	for name, w := range map[string]workload{
		"vllm":        {Kind: "StatefulSet", Engine: "vllm"},
		"sglang":      {Kind: "StatefulSet", Engine: "sglang"},
		"dynamo":      {Kind: "StatefulSet", Engine: "dynamo", Name: "dynamo-frontend"},
		"queue-depth": {Engine: "queue-depth", Name: "inference-api"},
		"prometheus":  {Kind: "StatefulSet", Engine: "vllm"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := begin(t)
			w.Slots, w.Replicas = 9, 1
			f := s.fleet(w)
			f.object = example(t, name)
			if edit := itsPrometheus[name]; edit != nil {
				f.object = edit(f, f.object)
			}
			s.apply(f.object)
			f.until("the scaler answers", func(m moment) bool { return m.Wanted >= 0 })
			settle := f.never("more than 3 replicas", func(m moment) bool { return m.Replicas > 3 })
			f.burst(20)
			f.atReplicas(3)
			f.ready(3)
			settle()
			f.finish()
		})
	}
	// What two fleets are short of they share.
	t.Run("gpu-shared", func(t *testing.T) {
		t.Parallel()
		s := begin(t)
		s.provide(4, 2)
		s.apply(example(t, "gpu-shared"))
		var fleets []*fleet
		for _, name := range []string{"llama", "whisper"} {
			f := s.fleet(workload{Name: name, Engine: "vllm", Nodes: s.namespace, Replicas: 1})
			fleets = append(fleets, f)
			f.until("the scaler answers", func(m moment) bool { return m.Wanted >= 0 })
		}
		var settle []func()
		for _, f := range fleets {
			settle = append(settle, f.allPlaced())
			f.burst(300)
		}
		for _, f := range fleets {
			f.atReplicas(3)
			f.ready(3)
		}
		for _, f := range fleets {
			f.stays(3, 10*time.Second)
		}
		for _, none := range settle {
			none()
		}
	})
}

// itsPrometheus starts what an example asks, and says there where it is.
var itsPrometheus = map[string]func(f *fleet, example string) string{
	// The control plane has no metrics of CPUs: the HPA goes without them, and grows.
	"queue-depth": func(f *fleet, example string) string {
		p := f.startPrometheus(map[string]string{"dcgm": "1s"})
		exporter := httptest.NewServer(f.gateway.DCGM(f.namespace))
		f.Cleanup(exporter.Close)
		p.discovers("dcgm", f, func() map[string]string { return map[string]string{"dcgm": exporter.Listener.Addr().String()} })
		return f.edited(example, "http://prometheus.monitoring.svc:9090", p.url, `namespace="ai"`, fmt.Sprintf("namespace=%q", f.namespace))
	},
	"prometheus": func(f *fleet, example string) string {
		p, ca := f.startSecure(map[string]string{"pods": "1s"}, "tenant", "change-me")
		p.reads("pods", f)
		f.apply(caSecret("ca", ca))
		return f.edited(example, "https://mimir.example.com/prometheus", p.url,
			"https://mimir.example.com", "https://127.0.0.1", "authSecret: mimir", "authSecret: mimir\n        caSecret: ca")
	},
}

// edited replaces what has to be there, pair by pair.
func (f *fleet) edited(example string, pairs ...string) string {
	for i := 0; i+1 < len(pairs); i += 2 {
		require.Contains(f, example, pairs[i])
		example = strings.ReplaceAll(example, pairs[i], pairs[i+1])
	}
	return example
}

// product runs a command of the real binary, and returns what it prints.
func (s *scenario) product(args ...string) string {
	s.Helper()
	out, err := exec.CommandContext(s.Context(), os.Getenv(scalerEnv), args...).CombinedOutput()
	require.NoError(s, err, string(out))
	return string(out)
}
