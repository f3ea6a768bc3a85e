package kubernetes

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"
	"github.com/inference-scaler/inference-scaler/metricsource/kubernetes/informer"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// service is what is kept of a corev1.Service: its ports by number.
type service struct {
	metav1.ObjectMeta
	ports map[int]string // names
}

// endpointSlice is what is kept of a discoveryv1.EndpointSlice: the endpoints that serve,
// terminating ones included.
type endpointSlice struct {
	metav1.ObjectMeta
	service   string
	ports     map[string]int // by name
	endpoints []cluster.Endpoint
}

func trimService(obj any) (any, error) {
	s, ok := obj.(*corev1.Service)
	if !ok {
		return obj, nil
	}
	out := &service{ObjectMeta: informer.Identify(s), ports: map[int]string{}}
	for _, p := range s.Spec.Ports {
		if p.Protocol == corev1.ProtocolTCP || p.Protocol == "" {
			out.ports[int(p.Port)] = p.Name
		}
	}
	return out, nil
}

func trimEndpointSlice(obj any) (any, error) {
	s, ok := obj.(*discoveryv1.EndpointSlice)
	if !ok {
		return obj, nil
	}
	out := &endpointSlice{ObjectMeta: informer.Identify(s), service: s.Labels[discoveryv1.LabelServiceName], ports: map[string]int{}}
	for _, p := range s.Ports {
		if p.Port != nil && (p.Protocol == nil || *p.Protocol == corev1.ProtocolTCP) {
			name := ""
			if p.Name != nil {
				name = *p.Name
			}
			out.ports[name] = int(*p.Port)
		}
	}
	for _, e := range s.Endpoints {
		// A terminating endpoint that still serves may have requests in flight. Nil means true.
		c := e.Conditions
		serving := c.Serving
		if serving == nil {
			serving = c.Ready
		}
		if serving != nil && !*serving || len(e.Addresses) == 0 {
			continue
		}
		kept := cluster.Endpoint{IP: e.Addresses[0]}
		if ref := e.TargetRef; ref != nil && ref.Kind == "Pod" {
			kept.Pod, kept.UID = ref.Name, string(ref.UID)
		}
		out.endpoints = append(out.endpoints, kept)
	}
	return out, nil
}

func (ix *index) setService(s *service) {
	ix.change(s.Namespace, func(n *namespace) []string {
		n.services[s.Name] = s
		return n.readers(s.Name)
	})
}

func (ix *index) deleteService(ns, name string) {
	ix.change(ns, func(n *namespace) []string {
		delete(n.services, name)
		return n.readers(name)
	})
}

func (ix *index) setEndpointSlice(s *endpointSlice) {
	ix.change(s.Namespace, func(n *namespace) []string {
		n.slices[s.Name] = s
		return n.readers(s.service)
	})
}

func (ix *index) deleteEndpointSlice(ns, name string) {
	ix.change(ns, func(n *namespace) []string {
		s := n.slices[name]
		if s == nil {
			return nil
		}
		delete(n.slices, name)
		return n.readers(s.service)
	})
}

// readers returns the ScaledObjects with a trigger that names the Service.
func (n *namespace) readers(service string) (all []string) {
	for so, v := range n.views {
		if slices.ContainsFunc(v.object.spec.triggers, func(t cluster.ScaledObjectTrigger) bool {
			return strings.HasPrefix(strings.TrimSpace(t.Metadata["upstream"]), "service/"+service+":")
		}) {
			all = append(all, so)
		}
	}
	return all
}

// Endpoints returns the serving endpoints of a Service's port, by address. The port is a
// name or number of the Service's ports; any other number is a port of the pods. Only
// addresses of pods of the namespace are returned: an EndpointSlice may contain others. The
// error wraps cluster.ErrNotSynced or cluster.ErrNotFound.
func (c *Cluster) Endpoints(ns, name, port string) ([]cluster.Endpoint, error) {
	ix := c.index
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	if err := ix.checkNamespace("service", ns, name); err != nil {
		return nil, err
	}
	n := ix.namespaces[ns]
	if n == nil || n.services[name] == nil {
		return nil, fmt.Errorf("service %s/%s: %w", ns, name, cluster.ErrNotFound)
	}
	number, err := strconv.Atoi(port)
	portName, of := n.services[name].ports[number]
	if err != nil {
		portName, of = port, true
	}
	var all []cluster.Endpoint
	for _, s := range n.slices {
		target, ok := number, true
		if of {
			target, ok = s.ports[portName]
		}
		if s.service != name || !ok {
			continue
		}
		for _, e := range s.endpoints {
			if n.hasPod(e.IP) {
				e.Port = target
				all = append(all, e)
			}
		}
	}
	slices.SortFunc(all, func(a, b cluster.Endpoint) int {
		return cmp.Or(cmp.Compare(a.IP, b.IP), cmp.Compare(a.Port, b.Port))
	})
	// A dual-stack Service has two addresses per pod.
	seen := map[string]bool{}
	return slices.DeleteFunc(all, func(e cluster.Endpoint) bool {
		known := seen[e.IP] || e.UID != "" && seen[e.UID]
		seen[e.IP], seen[e.UID] = true, true
		return known
	}), nil
}

// HasPod reports whether the address is one of an unfinished pod of the namespace.
func (c *Cluster) HasPod(ns string, addr netip.Addr) bool {
	c.index.mu.RLock()
	defer c.index.mu.RUnlock()
	n := c.index.namespaces[ns]
	return n != nil && n.hasPod(addr.String())
}

func (n *namespace) hasPod(ip string) bool { return n.ips[ip] > 0 }

// readdressed records the changed addresses of a pod, nil before its creation or after its
// deletion. It returns the ScaledObjects that read a Service with an endpoint at such an
// address: Endpoints returns the addresses of existing pods only.
func (n *namespace) readdressed(from, to *pod) (all []string) {
	before, after := from.addresses(), to.addresses()
	if slices.Equal(before, after) {
		return nil
	}
	for _, ip := range before {
		if n.ips[ip]--; n.ips[ip] <= 0 {
			delete(n.ips, ip)
		}
	}
	for _, ip := range after {
		n.ips[ip]++
	}
	for _, s := range n.slices {
		if slices.ContainsFunc(s.endpoints, func(e cluster.Endpoint) bool {
			return slices.Contains(before, e.IP) || slices.Contains(after, e.IP)
		}) {
			all = append(all, n.readers(s.service)...)
		}
	}
	return all
}

// addresses returns those of both families, and none of a finished pod.
func (p *pod) addresses() []string {
	if p == nil || p.state.Finished() {
		return nil
	}
	return p.ips
}
