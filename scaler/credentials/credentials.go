// Package credentials supplies the credentials that a trigger names: Secrets of its
// namespace. The author of a Secret says in an annotation towards which hosts the
// author of a ScaledObject may use it.
package credentials

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"
	"github.com/inference-scaler/inference-scaler/metricsource/httpclient"
)

const (
	// refreshEvery is how often Secrets are read again, and retryEvery how often after a
	// failure.
	refreshEvery = time.Minute
	retryEvery   = 5 * time.Second
	readTimeout  = 5 * time.Second
)

// errSecret: a Secret cannot be used as it is, whatever the cluster answers next.
var errSecret = errors.New("Secret")

// Secrets reads Secrets from the API server. The error of a Secret that does not exist is
// cluster.ErrNotFound, and of one that may not be read cluster.ErrForbidden.
type Secrets interface {
	Secret(ctx context.Context, namespace, name string) (cluster.Secret, error)
}

// Source holds the Secrets of one trigger. Its methods are safe for concurrent use, and
// on nil.
type Source struct {
	secrets   Secrets
	namespace string
	auth, ca  string // names; empty for none

	mu      sync.Mutex
	readAt  time.Time
	reading chan struct{} // closed at the end of the one under way; nil: none is
	loaded  *loaded
	err     error // of the last reading
}

// loaded is one reading of the Secrets.
type loaded struct {
	secrets     []cluster.Secret // in the order of the names
	credentials httpclient.Credentials
	hosts       map[string][]string // that may be sent them, by the name of the Secret
}

// Open returns the Source of the Secrets auth and ca of the namespace, either of which
// may be empty. It returns nil if both are. Without Kubernetes secrets is nil.
func Open(secrets Secrets, namespace, auth, ca string) *Source {
	if auth == "" && ca == "" {
		return nil
	}
	return &Source{secrets: secrets, namespace: namespace, auth: auth, ca: ca}
}

// For returns a function that supplies the credentials of a request by its URL. The
// annotation is compared with named(URL): a Service is read at the addresses of its
// endpoints, and allowed by its name. On nil it returns nil: no credentials.
func (s *Source) For(named func(*url.URL) *url.URL) func(context.Context, *url.URL) (*httpclient.Credentials, error) {
	if s == nil {
		return nil
	}
	return func(ctx context.Context, at *url.URL) (*httpclient.Credentials, error) {
		loaded, err := s.load(ctx)
		if err != nil {
			return nil, err
		}
		to := named(at)
		for name, hosts := range loaded.hosts {
			if !slices.ContainsFunc(hosts, func(h string) bool { return allows(h, to) }) {
				return nil, fmt.Errorf("%w %s may not be used towards %s://%s: its annotation %s is %q", errSecret, name, to.Scheme, to.Host, AllowHost, strings.Join(hosts, ","))
			}
		}
		return &loaded.credentials, nil
	}
}

// load returns the last good reading. A request waits only while there has been none:
// Secrets are read beside the requests, so that a slow API server delays none.
func (s *Source) load(ctx context.Context) (*loaded, error) {
	loaded, reading, err := s.last(ctx)
	if loaded == nil && reading != nil {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-reading:
			loaded, _, err = s.last(ctx)
		}
	}
	if loaded == nil {
		return nil, err
	}
	return loaded, nil
}

// last returns the last good reading, the end of the one under way (nil if there is none),
// and the error of the last one. It starts one that is due.
func (s *Source) last(ctx context.Context) (*loaded, <-chan struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	age := time.Since(s.readAt)
	if s.reading == nil && (age >= refreshEvery || s.err != nil && age >= retryEvery) {
		s.reading = make(chan struct{})
		go s.refresh(context.WithoutCancel(ctx))
	}
	return s.loaded, s.reading, s.err
}

func (s *Source) refresh(ctx context.Context) {
	loaded, err := s.read(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.take(loaded, err)
	close(s.reading)
	s.reading = nil
}

// take keeps a reading. The last good one survives an API server that does not answer. It
// does not survive a Secret that was deleted, made useless or forbidden. The caller holds
// the lock.
func (s *Source) take(l *loaded, err error) {
	s.readAt, s.err = time.Now(), err
	switch {
	case err == nil && (s.loaded == nil || !slices.EqualFunc(s.loaded.secrets, l.secrets, equal)):
		s.loaded = l
	case errors.Is(err, errSecret) || errors.Is(err, cluster.ErrNotFound) || errors.Is(err, cluster.ErrForbidden):
		s.loaded = nil
	}
}

func equal(a, b cluster.Secret) bool {
	return maps.EqualFunc(a.Data, b.Data, bytes.Equal) && a.Annotations[AllowHost] == b.Annotations[AllowHost]
}

func (s *Source) read(ctx context.Context) (*loaded, error) {
	if s.secrets == nil {
		return nil, fmt.Errorf("%w: this scaler runs without Kubernetes", errSecret)
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	out := &loaded{hosts: map[string][]string{}}
	for _, from := range []struct {
		name  string
		parse func(*httpclient.Credentials, map[string][]byte) error
	}{
		{s.auth, parseAuth},
		{s.ca, parseCA},
	} {
		if from.name == "" {
			continue
		}
		secret, err := s.secrets.Secret(ctx, s.namespace, from.name)
		if err != nil {
			return nil, fmt.Errorf("secret %s: %w", from.name, err)
		}
		if err := from.parse(&out.credentials, secret.Data); err != nil {
			return nil, fmt.Errorf("%w %s: %w", errSecret, from.name, err)
		}
		out.secrets = append(out.secrets, secret)
		out.hosts[from.name] = hostsOf(secret.Annotations[AllowHost])
	}
	return out, nil
}
