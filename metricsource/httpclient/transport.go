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

// maxHeader bounds the header of an answer.
const maxHeader = 64 << 10

// Credentials are what a server is shown, and what it is known by. The zero
// Credentials show nothing. They are immutable.
type Credentials struct {
	Header      http.Header      // sent with each request
	Certificate *tls.Certificate // shown to a server that asks for one; nil: none
	Roots       *x509.CertPool   // that the server's certificate must chain to; nil: this machine's
}

// Options of a Transport.
type Options struct {
	// URL of the server.
	URL string
	// Dial opens its connections; nil is a net.Dialer, for which Permit refuses
	// addresses that must not be dialled (nil permits all).
	Dial   Dialer
	Permit func(netip.Addr) error
	// Timeout of a dial, and of a handshake.
	Timeout time.Duration
	// Interval between two requests, by which a connection is kept though nothing uses it.
	Interval time.Duration
	// Verify that the certificate of the server is for the host of its URL.
	Verify bool
	// Credentials for a request to the URL; nil: none. It is called for each
	// request and must be quick. The same Credentials are the same pointer.
	Credentials func(context.Context, *url.URL) (*Credentials, error)
	// Connections at most to a host; 0: no limit.
	Connections int
}

// Transport is an http.RoundTripper. It follows no redirects and uses no proxy.
type Transport struct {
	base    *http.Transport
	ask     func(context.Context, *url.URL) (*Credentials, error)
	present atomic.Pointer[Credentials]
	end     context.CancelFunc // of what it dials
}

// NewTransport returns a Transport to one server; it must be closed.
func NewTransport(opts Options) *Transport {
	life, end := context.WithCancel(context.Background())
	t := &Transport{ask: opts.Credentials, end: end}
	dial := opts.Dial
	if dial == nil {
		dial = newDialer(opts.Permit)
	}
	t.base = &http.Transport{
		DialContext:            during(life, opts.Timeout, dial),
		TLSHandshakeTimeout:    opts.Timeout,
		DisableCompression:     true,
		MaxIdleConns:           max(1, opts.Connections),
		MaxIdleConnsPerHost:    max(1, opts.Connections),
		MaxConnsPerHost:        opts.Connections,
		IdleConnTimeout:        2*opts.Interval + 30*time.Second,
		MaxResponseHeaderBytes: maxHeader,
		WriteBufferSize:        1 << 10,                                                                     // requests are short, and there is a connection for each target
		TLSClientConfig:        &tls.Config{InsecureSkipVerify: !opts.Verify, MinVersion: tls.VersionTLS12}, //nolint:gosec // see Options.Verify
	}
	if opts.Credentials != nil {
		t.base.TLSClientConfig = t.tls(opts)
	}
	return t
}

// tls looks at the present credentials in each handshake, for they change.
func (t *Transport) tls(opts Options) *tls.Config {
	cfg := &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if c := t.present.Load(); c != nil && c.Certificate != nil {
				return c.Certificate, nil
			}
			return &tls.Certificate{}, nil
		},
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection does it, by roots that may change
	}
	if opts.Verify {
		name := ""
		if u, err := url.Parse(opts.URL); err == nil { // no request is made to what is no URL
			name = u.Hostname()
		}
		cfg.VerifyConnection = func(state tls.ConnectionState) error { return t.verify(name, state) }
	}
	return cfg
}

func (t *Transport) verify(name string, state tls.ConnectionState) error {
	opts := x509.VerifyOptions{DNSName: name, Intermediates: x509.NewCertPool()}
	if c := t.present.Load(); c != nil {
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

// RoundTrip sends the request with the credentials for its URL. Connections made
// with former ones are not used any more.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if t.ask == nil {
		return t.base.RoundTrip(req)
	}
	c, err := t.ask(req.Context(), req.URL)
	if err != nil {
		if req.Body != nil {
			err = errors.Join(err, req.Body.Close())
		}
		return nil, fmt.Errorf("credentials: %w", err)
	}
	if t.present.Swap(c) != c {
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

// CloseIdleConnections closes those that no request uses.
func (t *Transport) CloseIdleConnections() { t.base.CloseIdleConnections() }

// Close ends its connections, and what is being dialled.
func (t *Transport) Close() {
	t.end()
	t.CloseIdleConnections()
}
