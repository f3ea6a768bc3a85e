package httpclient

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// secure is an HTTPS server that returns the credentials of a request and counts
// connections.
type secure struct {
	*httptest.Server
	connections atomic.Int32
}

func newSecure(t *testing.T) *secure {
	s := &secure{}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/redirect" {
			http.Redirect(w, req, "/", http.StatusFound)
			return
		}
		_, _ = io.WriteString(w, req.Header.Get("Authorization"))
		if len(req.TLS.PeerCertificates) > 0 {
			_, _ = io.WriteString(w, " and a certificate")
		}
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			s.connections.Add(1)
		}
	}
	s.TLS = &tls.Config{ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS12}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func (s *secure) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	return pool
}

// transport returns a Transport that verifies the server as host, with the credentials
// that the function returns for each request.
func (s *secure) transport(t *testing.T, host string, credentials func() (*Credentials, error)) *Transport {
	opts := Options{URL: "https://" + host + ":443/", Timeout: 10 * time.Second, Interval: time.Minute, Verify: host != "", Connections: 1}
	if credentials != nil {
		opts.Credentials = func(_ context.Context, at *url.URL) (*Credentials, error) {
			require.Equal(t, s.URL, at.Scheme+"://"+at.Host)
			return credentials()
		}
	}
	tr := NewTransport(opts)
	t.Cleanup(tr.Close)
	return tr
}

func get(t *testing.T, tr *Transport, at string) (string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, at, nil)
	require.NoError(t, err)
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return strings.TrimSpace(http.StatusText(resp.StatusCode) + " " + string(body)), nil
}

func TestServerIsVerifiedAgainstTheRootsOfTheCredentials(t *testing.T) {
	s := newSecure(t)
	current := &Credentials{}
	credentials := func() (*Credentials, error) { return current, nil }
	for _, verify := range []string{"127.0.0.1", "example.com"} { // the names in the certificate of httptest
		current = &Credentials{}
		tr := s.transport(t, verify, credentials)
		_, err := get(t, tr, s.URL)
		var unverified *tls.CertificateVerificationError
		require.ErrorAs(t, err, &unverified, "the system does not trust the root")
		current = &Credentials{Roots: s.roots()}
		got, err := get(t, tr, s.URL)
		require.NoError(t, err)
		require.Equal(t, "OK", got)
	}
	_, err := get(t, s.transport(t, "another.name", credentials), s.URL)
	require.ErrorContains(t, err, "another.name")
	_, err = get(t, s.transport(t, "127.0.0.1", nil), s.URL)
	require.ErrorContains(t, err, "certificate")
	_, err = get(t, s.transport(t, "", credentials), s.URL)
	require.NoError(t, err, "not verified")
	_, err = get(t, s.transport(t, "", nil), s.URL)
	require.NoError(t, err, "not verified")
}

func TestRequestsUseTheCurrentCredentials(t *testing.T) {
	s := newSecure(t)
	var current *Credentials
	var failure error
	tr := s.transport(t, "127.0.0.1", func() (*Credentials, error) { return current, failure })
	send := func() string {
		got, err := get(t, tr, s.URL)
		require.NoError(t, err)
		return got
	}
	current = &Credentials{Roots: s.roots(), Header: http.Header{"Authorization": {"Bearer one"}}}
	require.Equal(t, "OK Bearer one", send())
	require.Equal(t, "OK Bearer one", send())
	require.EqualValues(t, 1, s.connections.Load(), "the connection is reused")

	current = &Credentials{Roots: s.roots(), Header: http.Header{"Authorization": {"Bearer two"}}, Certificate: &s.TLS.Certificates[0]}
	require.Equal(t, "OK Bearer two and a certificate", send(), "over a new connection")
	require.EqualValues(t, 2, s.connections.Load())

	current = &Credentials{}
	_, err := get(t, tr, s.URL)
	require.Error(t, err, "the root is no longer trusted, and the open connection is not reused")

	failure = errors.New("not permitted for this host")
	_, err = get(t, tr, s.URL)
	require.ErrorIs(t, err, failure)
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	s := newSecure(t)
	got, err := get(t, s.transport(t, "", nil), s.URL+"/redirect")
	require.NoError(t, err)
	require.Contains(t, got, "Found")
}

func TestCloseCancelsADial(t *testing.T) {
	dialling := make(chan struct{})
	tr := NewTransport(Options{Timeout: time.Minute, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		close(dialling)
		<-ctx.Done()
		return nil, ctx.Err()
	}})
	go func() {
		<-dialling
		tr.Close()
	}()
	_, err := get(t, tr, "http://192.0.2.1/")
	require.ErrorIs(t, err, context.Canceled)
}
