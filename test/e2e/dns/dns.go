// Package dns answers for the headless Services of a cluster, as CoreDNS does:
// the addresses of a Service's ready endpoints, from its EndpointSlices.
package dns

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	discovery "k8s.io/client-go/listers/discovery/v1"
)

// Serve answers over UDP at address until ctx is done. Names are
// SERVICE.NAMESPACE.svc, with or without cluster.local behind them; it knows
// no others.
func Serve(ctx context.Context, address string, slices discovery.EndpointSliceLister) error {
	var lc net.ListenConfig
	conn, err := lc.ListenPacket(ctx, "udp", address)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	buf := make([]byte, 1500)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return err
		}
		if reply, err := answer(buf[:n], slices); err == nil {
			_, _ = conn.WriteTo(reply, from) // UDP: who asked asks again
		}
	}
}

func answer(query []byte, slices discovery.EndpointSliceLister) ([]byte, error) {
	var p dnsmessage.Parser
	header, err := p.Start(query)
	if err != nil {
		return nil, err
	}
	question, err := p.Question()
	if err != nil {
		return nil, err
	}
	ready, found, err := endpoints(question.Name.String(), slices)
	if err != nil {
		return nil, err
	}
	reply := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: header.ID, Response: true, Authoritative: true, RecursionDesired: header.RecursionDesired},
		Questions: []dnsmessage.Question{question},
	}
	if !found {
		reply.RCode = dnsmessage.RCodeNameError
	}
	for _, address := range ready {
		if question.Type == dnsmessage.TypeA {
			reply.Answers = append(reply.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: question.Name, Class: dnsmessage.ClassINET, TTL: 5},
				Body:   &dnsmessage.AResource{A: address.As4()},
			})
		}
	}
	return reply.Pack()
}

// endpoints are the ready ones of the Service of that name.
func endpoints(name string, slices discovery.EndpointSliceLister) (ready []netip.Addr, found bool, err error) {
	name = strings.TrimSuffix(strings.TrimSuffix(name, "."), ".cluster.local")
	service, ok := strings.CutSuffix(name, ".svc")
	if !ok {
		return nil, false, nil
	}
	service, namespace, _ := strings.Cut(service, ".")
	list, err := slices.EndpointSlices(namespace).List(labels.SelectorFromSet(labels.Set{discoveryv1.LabelServiceName: service}))
	if err != nil {
		return nil, false, err
	}
	for _, slice := range list {
		for _, e := range slice.Endpoints {
			if e.Conditions.Ready == nil || !*e.Conditions.Ready {
				continue
			}
			for _, text := range e.Addresses {
				if address, err := netip.ParseAddr(text); err == nil && address.Is4() {
					ready = append(ready, address)
				}
			}
		}
	}
	return ready, len(list) > 0, nil
}
