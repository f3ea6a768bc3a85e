package httpclient

import (
	"context"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestControl(t *testing.T) {
	require.Nil(t, control(nil))
	var got []string
	check := control(func(a netip.Addr) error { got = append(got, a.String()); return nil })
	for _, address := range []string{"10.0.0.1:80", "[::ffff:10.0.0.1]:80", "[fe80::1%eth0]:80", "[2001:db8::1]:443"} {
		require.NoError(t, check(context.Background(), "tcp", address, nil))
	}
	require.Equal(t, []string{"10.0.0.1", "10.0.0.1", "fe80::1%eth0", "2001:db8::1"}, got)
	for _, address := range []string{"", "localhost:80", "/run/socket", "10.0.0.1"} {
		require.ErrorContains(t, check(context.Background(), "unix", address, nil), "address", address)
	}
}
