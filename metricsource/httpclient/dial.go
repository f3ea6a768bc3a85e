package httpclient

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// Dialer opens a connection, as net.Dialer.DialContext does.
type Dialer = func(ctx context.Context, network, address string) (net.Conn, error)

// newDialer returns a Dialer that checks each address before it connects. A nil permit
// allows all addresses.
func newDialer(permit func(netip.Addr) error) Dialer {
	d := &net.Dialer{KeepAlive: -1, ControlContext: control(permit)}
	return d.DialContext
}

// control returns a net.Dialer.ControlContext that checks the address. At this point the
// name is resolved, so a DNS server cannot bypass the check.
func control(permit func(netip.Addr) error) func(context.Context, string, string, syscall.RawConn) error {
	if permit == nil {
		return nil
	}
	return func(_ context.Context, _, address string, _ syscall.RawConn) error {
		addr, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("address %q: %w", address, err)
		}
		return permit(addr.Addr().Unmap())
	}
}

// limited returns a Dialer with a timeout that also ends with the given lifetime. A dial
// of net/http continues after its request has ended.
func limited(lifetime context.Context, timeout time.Duration, dial Dialer) Dialer {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		defer context.AfterFunc(lifetime, cancel)()
		return dial(ctx, network, address)
	}
}
