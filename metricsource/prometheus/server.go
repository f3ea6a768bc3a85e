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
	// maxConnections to the server of one group: its queries are asked together.
	maxConnections = 4
	maxMessage     = 300 // bytes of a server's own error text
)

// complete makes a server whose data are distributed refuse a partial answer
// (Thanos, VictoriaMetrics; others ignore it): a missing value is not zero.
var complete = url.Values{"partial_response": {"false"}, "deny_partial_response": {"1"}}.Encode()

var errTimeout = errors.New("no answer in time")

// server is one Prometheus, with the connections of one group.
type server struct {
	poller    *Poller
	address   string
	timeout   time.Duration
	transport *httpclient.Transport
	api       v1.API
	broken    error // why there is no api
}

// connect returns the server of a group. An address that is no URL is the error of
// every query.
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
	client, err := api.NewClient(api.Config{Address: cfg.Address + "?" + complete, Client: &http.Client{
		Transport:     bounded{s.transport},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}})
	if err != nil {
		s.broken = err
		return s
	}
	s.api = v1.NewAPI(client)
	return s
}

// query asks one instant query, at the server's own present: its clock dates its
// samples. A scalar is a vector of one element without labels.
func (s *server) query(ctx context.Context, promQL string) (model.Vector, []string, error) {
	if s.broken != nil {
		return nil, nil, s.broken
	}
	begun := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, s.timeout, errTimeout)
	defer cancel()
	large := &turn{slots: s.poller.large}
	defer large.end()
	ctx = context.WithValue(ctx, turnOf{}, large)
	value, warnings, infos, err := s.api.Query(ctx, promQL, time.Time{})
	var v model.Vector
	if err == nil {
		v, err = vector(value)
	}
	s.poller.took.Observe(time.Since(begun).Seconds())
	s.poller.queries.WithLabelValues(class(err)).Inc()
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", s.address, plain(ctx, err))
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

// plain shortens an error: the address is known, and a body that is not of the API
// may hold anything.
func plain(ctx context.Context, err error) error {
	var refused *v1.Error
	var op *net.OpError
	var at *url.Error
	switch {
	case errors.Is(context.Cause(ctx), errTimeout):
		return errTimeout
	case errors.As(err, &refused) && refused.Type == v1.ErrBadResponse && strings.Contains(refused.Msg, "bad response code 3"):
		return fmt.Errorf("redirects are not followed (%s)", refused.Msg)
	case errors.As(err, &refused) && refused.Type == v1.ErrBadResponse:
		return fmt.Errorf("the response is not one of Prometheus' API: %s", clip(refused.Msg))
	case refused != nil:
		return fmt.Errorf("the server answers: %s", clip(refused.Msg))
	case errors.As(err, &op):
		return op.Err
	case errors.As(err, &at):
		return at.Err
	}
	return err
}

// clip shortens the text of a server, which may be invalid UTF-8.
func clip(s string) string { return excerpt.Of(strings.ToValidUTF8(s, "�"), maxMessage) }

// class is the error's, for a metric label.
func class(err error) string {
	var refused *v1.Error
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &refused) && (refused.Type == v1.ErrBadData || refused.Type == v1.ErrExec):
		return "refused"
	default:
		return "failed"
	}
}
