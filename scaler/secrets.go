package scaler

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/inference-scaler/inference-scaler/metricsource/cluster"

	"golang.org/x/net/http/httpguts"

	"github.com/inference-scaler/inference-scaler/metricsource/httpclient"
)

const (
	// allowHost is the annotation by which whoever may write a Secret says where
	// whoever may write a ScaledObject can have it sent to: hosts, separated by
	// commas, each with a port and a scheme or without.
	allowHost = "inference-scaler/allow-host"
	// refreshSecrets is how often Secrets are read again.
	refreshSecrets = time.Minute
	retrySecrets   = 5 * time.Second // after a failure
	secretTimeout  = 5 * time.Second

	headerKey = "header."
)

var errSecret = errors.New("Secret")

// secrets gives the credentials of a trigger, from Secrets of its namespace.
type secrets struct {
	live  *live
	named func(*url.URL) *url.URL // what the annotation is to allow for a URL

	mu      sync.Mutex
	read    time.Time // when the Secrets were read last
	loaded  *loadedSecrets
	failure error // of that reading
}

// loadedSecrets are the credentials, and where they may go.
type loadedSecrets struct {
	read        []cluster.Secret // in the order of the names
	credentials httpclient.Credentials
	hosts       map[string][]string // by the name of the Secret
}

// credentials are for requests to URLs that named makes those that annotations
// are compared with. It returns nil where the trigger names no Secret.
func (l *live) credentials(named func(*url.URL) *url.URL) func(context.Context, *url.URL) (*httpclient.Credentials, error) {
	if l.trigger.AuthSecret == "" && l.trigger.CASecret == "" {
		return nil
	}
	return (&secrets{live: l, named: named}).towards
}

// towards returns the credentials for a request to the URL. While the cluster
// does not answer, those it told last stand.
func (s *secrets) towards(ctx context.Context, at *url.URL) (*httpclient.Credentials, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if age := time.Since(s.read); age >= refreshSecrets || s.failure != nil && age >= retrySecrets {
		s.refresh(ctx)
	}
	if s.loaded == nil {
		return nil, s.failure
	}
	to := s.named(at)
	for name, hosts := range s.loaded.hosts {
		if !slices.ContainsFunc(hosts, func(h string) bool { return allows(h, to) }) {
			return nil, fmt.Errorf("%w %s may not be used towards %s://%s: its annotation %s is %q", errSecret, name, to.Scheme, to.Host, allowHost, strings.Join(hosts, ","))
		}
	}
	return &s.loaded.credentials, nil
}

func (s *secrets) refresh(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, secretTimeout)
	defer cancel()
	loaded, err := s.load(ctx)
	s.read, s.failure = time.Now(), err
	switch {
	case err == nil && (s.loaded == nil || !slices.EqualFunc(s.loaded.read, loaded.read, sameSecret)):
		s.loaded = loaded
	case errors.Is(err, errSecret) || errors.Is(err, cluster.ErrNotFound):
		s.loaded = nil
	}
}

func sameSecret(a, b cluster.Secret) bool {
	return maps.EqualFunc(a.Data, b.Data, bytes.Equal) && a.Annotations[allowHost] == b.Annotations[allowHost]
}

func (s *secrets) load(ctx context.Context) (*loadedSecrets, error) {
	cluster, t := s.live.scaler.opts.Secrets, s.live.trigger
	if cluster == nil {
		return nil, fmt.Errorf("%w: this scaler runs without Kubernetes", errSecret)
	}
	out := &loadedSecrets{hosts: map[string][]string{}}
	for _, from := range []struct {
		name string
		take func(*httpclient.Credentials, map[string][]byte) error
	}{
		{t.AuthSecret, takeAuth},
		{t.CASecret, takeCA},
	} {
		if from.name == "" {
			continue
		}
		secret, err := cluster.Secret(ctx, s.live.namespace, from.name)
		if err != nil {
			return nil, fmt.Errorf("secret %s: %w", from.name, err)
		}
		if err := from.take(&out.credentials, secret.Data); err != nil {
			return nil, fmt.Errorf("%w %s: %w", errSecret, from.name, err)
		}
		out.read = append(out.read, secret)
		out.hosts[from.name] = hostsOf(secret.Annotations[allowHost])
	}
	return out, nil
}

func hostsOf(annotation string) []string {
	return strings.FieldsFunc(strings.ToLower(annotation), func(r rune) bool { return r == ',' || r == ' ' })
}

// allows reports whether an entry of the annotation is for the URL: what it says
// of scheme, host and port.
func allows(entry string, to *url.URL) bool {
	if scheme, rest, ok := strings.Cut(entry, "://"); ok {
		if scheme != to.Scheme {
			return false
		}
		entry = rest
	}
	host, whole := strings.ToLower(to.Hostname()), strings.ToLower(to.Host)
	return entry == host || entry == whole || entry == "["+host+"]"
}

// takeAuth takes what a server is shown. A Secret's values often end in a line
// break that is no part of them.
func takeAuth(c *httpclient.Credentials, data map[string][]byte) error {
	value := func(key string) string { return strings.TrimSpace(string(data[key])) }
	c.Header = http.Header{}
	token, user, password := cmp.Or(value("bearerToken"), value("token")), value("username"), value("password")
	switch {
	case value("bearerToken") != "" && value("token") != "":
		return errors.New("holds both a bearerToken and a token; wanted: one of them")
	case token != "" && user != "":
		return errors.New("holds both a bearerToken and a username; wanted: one of them")
	case user != "" && password == "":
		return errors.New("holds a username without a password")
	case token != "":
		c.Header.Set("Authorization", "Bearer "+token)
	case user != "":
		c.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(user+":"+password)))
	}
	for key := range data {
		name, ok := strings.CutPrefix(key, headerKey)
		if !ok {
			continue
		}
		if !httpguts.ValidHeaderFieldName(name) || slices.Contains(notToSet, http.CanonicalHeaderKey(name)) {
			return fmt.Errorf("%s: that is no header to be set", key)
		}
		c.Header.Set(name, value(key))
	}
	for name := range c.Header {
		if !httpguts.ValidHeaderFieldValue(c.Header.Get(name)) {
			return fmt.Errorf("the value for %s is none that a header can have", name) // and not repeated
		}
	}
	if len(data["tls.crt"]) > 0 || len(data["tls.key"]) > 0 {
		pair, err := tls.X509KeyPair(data["tls.crt"], data["tls.key"])
		if err != nil {
			return fmt.Errorf("tls.crt and tls.key: %w", err)
		}
		c.Certificate = &pair
	}
	if len(c.Header) == 0 && c.Certificate == nil {
		return errors.New("holds none of bearerToken, token, username, tls.crt and header.NAME")
	}
	return nil
}

// notToSet are headers that say what the request is.
var notToSet = []string{"Host", "Content-Length", "Content-Type", "Transfer-Encoding", "Connection", "Accept-Encoding"}

func takeCA(c *httpclient.Credentials, data map[string][]byte) error {
	c.Roots = x509.NewCertPool()
	if !c.Roots.AppendCertsFromPEM(data["ca.crt"]) {
		return errors.New("holds no certificate under ca.crt")
	}
	return nil
}
