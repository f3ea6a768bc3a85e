// Package sandbox gives a process and its children network, process and mount
// namespaces of their own. Every port on loopback is free in there, and every pod IP
// is an address of this machine. Nothing leaves the sandbox, and nothing outlives it.
package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// inside is set in the environment of what runs within.
const inside = "E2E_SANDBOX"

// Inside reports whether this process runs within a sandbox.
func Inside() bool { return os.Getenv(inside) != "" }

// Run runs this program again, with its arguments and the variables given, as
// the first process of a sandbox, waits for its end, and returns its exit code.
// When this process dies so does that one, and with it everything it started.
// As root it needs nothing; other users need user namespaces.
func Run(ctx context.Context, env ...string) (code int, err error) {
	// The kernel ties the child's life to the thread that starts it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(append(unproxied(), inside+"=1"), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWNS,
		Pdeathsig:  syscall.SIGKILL,
	}
	if uid := os.Getuid(); uid != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, nil
	case errors.As(err, &exit):
		return max(1, exit.ExitCode()), nil // -1 after a signal
	default:
		return 1, fmt.Errorf("start a sandbox (needs root, or user namespaces): %w", err)
	}
}

// unproxied is this process's environment without proxies, which are out of reach
// from within.
func unproxied() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(strings.ToUpper(v), "=")
		return strings.HasSuffix(name, "_PROXY")
	})
}

// Options of Enter.
type Options struct {
	// Pods is the network whose addresses all are this machine's.
	Pods net.IPNet
	// Nameserver is the IP that names are asked of, at port 53.
	Nameserver net.IP
	// Dir is a folder for what the sandbox mounts.
	Dir string
}

// Enter prepares the sandbox that this process is the first one of.
func Enter(opts Options) error {
	if os.Getpid() != 1 {
		return fmt.Errorf("%s is set, but this is no sandbox: it would change the machine", inside)
	}
	// Nothing that is mounted from here on shows outside.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	// Processes have other numbers here than outside.
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if err := nameserver(opts); err != nil {
		return fmt.Errorf("replace /etc/resolv.conf: %w", err)
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	route := &netlink.Route{
		LinkIndex: lo.Attrs().Index, Dst: &opts.Pods,
		Type: unix.RTN_LOCAL, Table: unix.RT_TABLE_LOCAL, Scope: netlink.SCOPE_HOST,
	}
	if err := netlink.RouteAdd(route); err != nil {
		return fmt.Errorf("route %s to lo: %w", opts.Pods.String(), err)
	}
	return nil
}

func nameserver(opts Options) error {
	f, err := os.CreateTemp(opts.Dir, "resolv.conf-")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "nameserver %s\noptions ndots:1 timeout:1\n", opts.Nameserver)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return unix.Mount(f.Name(), "/etc/resolv.conf", "", unix.MS_BIND, "")
}
