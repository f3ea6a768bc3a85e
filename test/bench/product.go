package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"path/filepath"
	"strings"

	"github.com/kedacore/keda/v2/pkg/scalers/externalscaler"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// product is the real binary at work, called as KEDA calls it.
type product struct {
	*process
	http   string
	conn   *grpc.ClientConn
	client externalscaler.ExternalScalerClient
}

func (b *bench) product() (*product, error) {
	p, err := b.start("inference-scaler", nil, b.binary, "serve", "--kubernetes=off",
		"--grpc-address=127.0.0.1:0", "--http-address=127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &product{process: p}
	address, err := p.logged(b, "address", "msg=listening", "listener=grpc")
	if err == nil {
		s.http, err = p.logged(b, "address", "msg=listening", "listener=http")
	}
	if err == nil {
		s.conn, err = grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	}
	if err != nil {
		p.stop()
		return nil, err
	}
	s.client = externalscaler.NewExternalScalerClient(s.conn)
	return s, nil
}

// productOf is one with so many servers that it may read, and filter.
func (b *bench) productOf(n int) (s *product, f *fleet, stop func(), err error) {
	path, err := filepath.Abs(body)
	if err != nil {
		return nil, nil, nil, err
	}
	if f, err = b.serve(n, path, "filter"); err != nil {
		return nil, nil, nil, err
	}
	if s, err = b.product(); err != nil {
		f.stop()
		return nil, nil, nil, err
	}
	return s, f, func() { s.stop(); f.stop() }, nil
}

func (s *product) stop() {
	_ = s.conn.Close()
	s.process.stop()
}

func get(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, resp.Status)
	}
	return string(text), err
}

// metric is the sum of a metric's series, those whose labels have all of the words.
func (s *product) metric(ctx context.Context, name string, words ...string) (sum float64, err error) {
	text, err := get(ctx, "http://"+s.http+"/metrics")
	if err != nil {
		return 0, err
	}
	found := false
	for line := range strings.Lines(text) {
		series, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if series != name && !strings.HasPrefix(series, name+"{") {
			continue
		}
		has := true
		for _, w := range words {
			has = has && strings.Contains(series, w)
		}
		var v float64
		if _, err := fmt.Sscan(value, &v); has && err == nil {
			sum += v
			found = true
		}
	}
	if !found {
		return 0, fmt.Errorf("no series of %s with %q", name, words)
	}
	return sum, nil
}

// ref is a ScaledObject's trigger, of the i-th of many.
func ref(i int, metadata map[string]string) *externalscaler.ScaledObjectRef {
	all := map[string]string{"scalerAddress": "inference-scaler.keda.svc:9090"}
	maps.Copy(all, metadata)
	return &externalscaler.ScaledObjectRef{Namespace: "bench", Name: fmt.Sprintf("fleet-%d", i), ScalerMetadata: all}
}

// reads opens triggers that read all of the fleet, with a stream of each, as KEDA has.
func (s *product) reads(b *bench, f *fleet, interval string) error {
	const perTrigger = 100
	for i := 0; i < f.n; i += perTrigger {
		stream, err := s.client.StreamIsActive(b, ref(i, map[string]string{
			"engine": "vllm", "interval": interval, "endpoints": strings.Join(f.addresses(i, perTrigger), ","),
		}))
		if err != nil {
			return err
		}
		go func() {
			for err := error(nil); err == nil; { // until it is stopped
				_, err = stream.Recv()
			}
		}()
	}
	return nil
}
