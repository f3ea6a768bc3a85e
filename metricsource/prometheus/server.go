package prometheus

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/client_golang/api"
	v1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"

	"github.com/inference-scaler/inference-scaler/metricsource/excerpt"
	"github.com/inference-scaler/inference-scaler/metricsource/httpclient"
)

const (
	// maxConnections limits the connections, and so the parallel queries, of one group.
	maxConnections = 4
	maxMessage     = 300 // bytes of the server's error text
)

// completeOnly makes a distributed server (Thanos, VictoriaMetrics) reject partial results,
// because a missing value is not 0. Other servers ignore the parameters.
var completeOnly = url.Values{"partial_response": {"false"}, "deny_partial_response": {"1"}}.Encode()

var errTimeout = errors.New("no response within the timeout")

// server is the client of one server, with the connections of one group.
type server struct {
	poller    *Poller
	address   string
	timeout   time.Duration
	transport *httpclient.Transport
	api       v1.API
	configErr error // the error of every query if the address is not a URL
}

// connect returns the client of a group. It does not connect before the first query.
func (p *Poller) connect(cfg Config) *server {
	s := &server{
		poller:  p,
		address: cfg.Address,
		timeout: cfg.Timeout,
		transport: httpclient.NewTransport(httpclient.Options{
			URL:         cfg.Address,
			Dial:        p.dial,
			Permit:      cfg.Permit,
			Timeout:     cfg.Timeout,
			Interval:    cfg.Interval,
			Verify:      true,
			Credentials: cfg.Credentials,
			Connections: maxConnections,
		}),
	}
	client, err := api.NewClient(api.Config{Address: cfg.Address + "?" + completeOnly, Client: &http.Client{
		Transport:     limitedTransport{s.transport},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}})
	if err != nil {
		s.configErr = err
		return s
	}
	s.api = v1.NewAPI(client)
	return s
}

// query sends one instant query without a time: the server then uses its own clock, which
// matches its samples. A scalar becomes a vector of one element without labels.
func (s *server) query(ctx context.Context, promQL string) (model.Vector, []string, error) {
	if s.configErr != nil {
		return nil, nil, s.configErr
	}
	begun := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, s.timeout, errTimeout)
	defer cancel()
	slot := &largeSlot{slots: s.poller.large}
	defer slot.release()
	ctx = context.WithValue(ctx, largeSlotKey{}, slot)
	value, warnings, infos, err := s.api.Query(ctx, promQL, time.Time{})
	var v model.Vector
	if err == nil {
		v, err = vector(value)
	}
	s.poller.duration.Observe(time.Since(begun).Seconds())
	s.poller.queries.WithLabelValues(class(err)).Inc()
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", s.address, simplify(ctx, err))
	}
	return v, append(warnings, infos...), nil
}

// vector returns the elements of a result.
func vector(value model.Value) (model.Vector, error) {
	switch v := value.(type) {
	case *model.Scalar:
		return model.Vector{{Value: v.Value}}, nil
	case model.Vector:
		if len(v) > maxElements {
			return nil, errTooMany
		}
		return v, nil
	case nil:
		return nil, errors.New("the response holds no result")
	default:
		return nil, fmt.Errorf("the query yields a %T; wanted: an instant vector or a scalar", value)
	}
}

// simplify shortens an error. The message has the address already, and a body that is not
// from the API can contain any text.
func simplify(ctx context.Context, err error) error {
	var apiErr *v1.Error
	var op *net.OpError
	var at *url.Error
	switch {
	case errors.Is(context.Cause(ctx), errTimeout):
		return errTimeout
	case errors.As(err, &apiErr) && apiErr.Type == v1.ErrBadResponse && strings.Contains(apiErr.Msg, "bad response code 3"):
		return fmt.Errorf("redirects are not followed (%s)", apiErr.Msg)
	case errors.As(err, &apiErr) && apiErr.Type == v1.ErrBadResponse:
		return fmt.Errorf("the response is not from a Prometheus API: %s", clip(apiErr.Msg))
	case apiErr != nil:
		return fmt.Errorf("the server responds: %s", clip(apiErr.Msg))
	case errors.As(err, &op):
		return op.Err
	case errors.As(err, &at):
		return at.Err
	}
	return err
}

// clip shortens the text of a server, which can contain invalid UTF-8.
func clip(s string) string { return excerpt.Of(strings.ToValidUTF8(s, "�"), maxMessage) }

// class returns the class of the error, for a metric label.
func class(err error) string {
	var apiErr *v1.Error
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &apiErr) && (apiErr.Type == v1.ErrBadData || apiErr.Type == v1.ErrExec):
		return "refused"
	default:
		return "failed"
	}
}
