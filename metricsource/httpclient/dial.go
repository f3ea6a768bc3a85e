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

// newDialer returns a Dialer that makes the check of an address part of dialling
// it; nil permits all.
func newDialer(permit func(netip.Addr) error) Dialer {
	d := &net.Dialer{KeepAlive: -1, ControlContext: control(permit)}
	return d.DialContext
}

// control makes the check of an address part of dialling it, where a name has
// become the address that the connection goes to.
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

// during bounds a dial by time, and by the life of the target: net/http lets one
// go on after the request it was for has given up.
func during(life context.Context, most time.Duration, dial Dialer) Dialer {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, most)
		defer cancel()
		defer context.AfterFunc(life, cancel)()
		return dial(ctx, network, address)
	}
}
