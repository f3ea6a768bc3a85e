package scrape

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"
)

type dialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

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
func during(life context.Context, most time.Duration, dial dialFunc) dialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, most)
		defer cancel()
		defer context.AfterFunc(life, cancel)()
		return dial(ctx, network, address)
	}
}
