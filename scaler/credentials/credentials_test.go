package credentials

import (
	"context"
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"
)

// hangs is an API server that answers once, and then no more.
type hangs struct{ asked int }

func (h *hangs) Secret(ctx context.Context, _, _ string) (cluster.Secret, error) {
	if h.asked++; h.asked > 1 {
		<-ctx.Done()
		return cluster.Secret{}, ctx.Err()
	}
	return cluster.Secret{Annotations: map[string]string{AllowHost: "10.0.0.1"}, Data: map[string][]byte{"bearerToken": []byte("a")}}, nil
}

// An API server that hangs delays no request: the last reading applies meanwhile.
func TestSlowRefreshDelaysNoRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &hangs{}
		at, err := url.Parse("http://10.0.0.1:80")
		require.NoError(t, err)
		credentials := Open(api, "asr", "token", "").For(func(u *url.URL) *url.URL { return u })
		for range 100 {
			begun := time.Now()
			c, err := credentials(t.Context(), at)
			require.NoError(t, err)
			require.Equal(t, "Bearer a", c.Header.Get("Authorization"))
			require.Zero(t, time.Since(begun))
			time.Sleep(2 * time.Second)
		}
		time.Sleep(2 * readTimeout)
		require.Greater(t, api.asked, 10, "it was asked again")
	})
}

func TestNoNamesNoCredentials(t *testing.T) {
	require.Nil(t, Open(nil, "asr", "", "").For(nil))
}
