package kubernetes

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource/kubernetes/logtest"

	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"
)

func TestConfig(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	_, err := Config("")
	require.ErrorIs(t, err, ErrNoCluster)
	_, err = Config(t.TempDir() + "/none")
	require.ErrorContains(t, err, "/none")
}

// An API server that refuses connections is logged, and does not keep Run from ending.
func TestNoServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())

	log := &logtest.Buffer{}
	cfg := &rest.Config{Host: "http://" + l.Addr().String()}
	c, err := New(cfg, Options{Logger: slog.New(slog.NewTextHandler(log, nil))})
	require.NoError(t, err)
	require.Nil(t, cfg.WrapTransport, "the caller's config stays as it was")

	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx, nil, nil) }()
	require.Eventually(t, func() bool {
		return strings.Count(log.String(), "reading this resource failed") == 10
	}, 30*time.Second, 10*time.Millisecond)
	require.Contains(t, log.String(), "connection refused")
	require.False(t, c.Synced())
	cancel()
	select {
	case err := <-done:
		require.NoError(t, err)
	case <-time.After(10 * time.Second):
		require.Fail(t, "Run does not end")
	}
}
