package evaluator

import (
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"
)

// permit decides which addresses a trigger's sources may dial: nothing that the author
// of its metadata could not reach. Link-local, multicast and unspecified addresses are
// never dialled; without Kubernetes, all others are. It is safe for concurrent use.
type permit struct {
	cluster Cluster // nil without Kubernetes
	allow   []netip.Prefix
	tenant  string
	ownPods atomic.Pointer[map[netip.Addr]bool] // of the workload
}

func newPermit(opts Options, namespace string) *permit {
	return &permit{cluster: opts.Cluster, allow: opts.Allow, tenant: namespace}
}

// allowOnly makes the pods those that workload permits.
func (p *permit) allowOnly(pods []cluster.Pod) {
	own := addresses(pods)
	p.ownPods.Store(&own)
}

// workload permits the workload's own pods, and what the operator of this scaler allows.
func (p *permit) workload(addr netip.Addr) error {
	if err := never(addr); err != nil {
		return err
	}
	if own := p.ownPods.Load(); p.cluster == nil || own != nil && (*own)[addr] || p.allowed(addr) {
		return nil
	}
	return fmt.Errorf("address %s is refused: it is no pod of this workload, and --upstream-allow does not name it", addr)
}

// namespace permits all pods of the namespace, and what the operator of this scaler
// allows.
func (p *permit) namespace(addr netip.Addr) error {
	if err := never(addr); err != nil {
		return err
	}
	if p.cluster == nil || p.cluster.HasPod(p.tenant, addr) || p.allowed(addr) {
		return nil
	}
	return fmt.Errorf("address %s is refused: it is no pod of namespace %s, and --upstream-allow does not name it", addr, p.tenant)
}

func (p *permit) allowed(addr netip.Addr) bool {
	return slices.ContainsFunc(p.allow, func(allow netip.Prefix) bool { return allow.Contains(addr) })
}

func never(addr netip.Addr) error {
	if addr.IsLinkLocalUnicast() || addr.IsMulticast() || addr.IsUnspecified() {
		return fmt.Errorf("address %s is refused: link-local, multicast and unspecified addresses are never read", addr)
	}
	return nil
}
