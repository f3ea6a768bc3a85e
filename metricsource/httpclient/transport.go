package httpclient

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"sync/atomic"
	"time"
)

// maxHeader limits the header of a response, in bytes.
const maxHeader = 64 << 10

// Credentials authenticate the client, and verify the server. The zero Credentials send
// nothing. They are immutable.
type Credentials struct {
	Header      http.Header      // added to each request
	Certificate *tls.Certificate // the client certificate; nil if there is none
	Roots       *x509.CertPool   // roots of the server's certificate; nil for the system's roots
}

// Options of a Transport.
type Options struct {
	// URL of the server.
	URL string
	// Dial opens connections. If it is nil, a net.Dialer does, and Permit can reject
	// addresses. A nil Permit allows all addresses.
	Dial   Dialer
	Permit func(netip.Addr) error
	// Timeout of a dial, and of a TLS handshake.
	Timeout time.Duration
	// Interval between two requests. An idle connection is kept for longer than this.
	Interval time.Duration
	// Verify that the certificate of the server is valid for the host of its URL.
	Verify bool
	// Credentials returns the credentials for a request to the URL; nil if there are none.
	// It is called for each request, so it must be fast. While the credentials do not
	// change, it must return the same pointer.
	Credentials func(context.Context, *url.URL) (*Credentials, error)
	// Connections limits the connections to a host. 0 means no limit.
	Connections int
}

// Transport is an http.RoundTripper to one server. It follows no redirects and uses no
// proxy.
type Transport struct {
	base        *http.Transport
	credentials func(context.Context, *url.URL) (*Credentials, error)
	current     atomic.Pointer[Credentials]
	cancelDials context.CancelFunc
}

// NewTransport returns a Transport. The caller must close it.
func NewTransport(opts Options) *Transport {
	lifetime, cancel := context.WithCancel(context.Background())
	t := &Transport{credentials: opts.Credentials, cancelDials: cancel}
	dial := opts.Dial
	if dial == nil {
		dial = newDialer(opts.Permit)
	}
	t.base = &http.Transport{
		DialContext:            limited(lifetime, opts.Timeout, dial),
		TLSHandshakeTimeout:    opts.Timeout,
		DisableCompression:     true,
		MaxIdleConns:           max(1, opts.Connections),
		MaxIdleConnsPerHost:    max(1, opts.Connections),
		MaxConnsPerHost:        opts.Connections,
		IdleConnTimeout:        2*opts.Interval + 30*time.Second,
		MaxResponseHeaderBytes: maxHeader,
		WriteBufferSize:        1 << 10,                                                                     // requests are short, and every target has a connection
		TLSClientConfig:        &tls.Config{InsecureSkipVerify: !opts.Verify, MinVersion: tls.VersionTLS12}, //nolint:gosec // see Options.Verify
	}
	if opts.Credentials != nil {
		t.base.TLSClientConfig = t.tls(opts)
	}
	return t
}

// tls returns a configuration that reads the current credentials in each handshake,
// because they can change.
func (t *Transport) tls(opts Options) *tls.Config {
	cfg := &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if c := t.current.Load(); c != nil && c.Certificate != nil {
				return c.Certificate, nil
			}
			return &tls.Certificate{}, nil
		},
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection verifies, with roots that can change
	}
	if opts.Verify {
		name := ""
		if u, err := url.Parse(opts.URL); err == nil { // an invalid URL fails each request
			name = u.Hostname()
		}
		cfg.VerifyConnection = func(state tls.ConnectionState) error { return t.verify(name, state) }
	}
	return cfg
}

func (t *Transport) verify(name string, state tls.ConnectionState) error {
	opts := x509.VerifyOptions{DNSName: name, Intermediates: x509.NewCertPool()}
	if c := t.current.Load(); c != nil {
		opts.Roots = c.Roots
	}
	for _, cert := range state.PeerCertificates[1:] {
		opts.Intermediates.AddCert(cert)
	}
	if _, err := state.PeerCertificates[0].Verify(opts); err != nil {
		return &tls.CertificateVerificationError{UnverifiedCertificates: state.PeerCertificates, Err: err}
	}
	return nil
}

// RoundTrip sends the request with the credentials for its URL. It does not reuse
// connections that were opened with previous credentials.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if t.credentials == nil {
		return t.base.RoundTrip(req)
	}
	c, err := t.credentials(req.Context(), req.URL)
	if err != nil {
		if req.Body != nil {
			err = errors.Join(err, req.Body.Close())
		}
		return nil, fmt.Errorf("credentials: %w", err)
	}
	if t.current.Swap(c) != c {
		t.CloseIdleConnections()
	}
	if len(c.Header) > 0 {
		req = req.Clone(req.Context())
		for name, values := range c.Header {
			req.Header[name] = values
		}
	}
	return t.base.RoundTrip(req)
}

// CloseIdleConnections closes the connections that no request uses.
func (t *Transport) CloseIdleConnections() { t.base.CloseIdleConnections() }

// Close closes the idle connections and cancels dials.
func (t *Transport) Close() {
	t.cancelDials()
	t.CloseIdleConnections()
}
