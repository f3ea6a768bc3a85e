package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// serverTLS is that of the listeners for KEDA and for reports: plaintext without a
// certificate, mutual TLS with a CA for callers. The files are read for every new
// connection, so that a renewed certificate counts from the next one on and
// nothing that is open is dropped. While they cannot be read, as between the
// renewal of the certificate and that of its key, what was read last stands. The
// zero serverTLS is plaintext.
type serverTLS struct {
	cert, key, clientCA string
	last                *atomic.Pointer[tls.Config]
	logger              *slog.Logger
}

func newServerTLS(cert, key, clientCA string, logger *slog.Logger) (serverTLS, error) {
	if cert == "" && key == "" && clientCA == "" {
		return serverTLS{}, nil
	}
	t := serverTLS{cert, key, clientCA, &atomic.Pointer[tls.Config]{}, logger}
	if cert == "" || key == "" {
		return t, errors.New("--tls-cert and --tls-key: wanted: both, or neither; --tls-client-ca needs them")
	}
	cfg, err := t.load()
	t.last.Store(cfg)
	return t, err
}

// current is what the files say now, or else said last.
func (t serverTLS) current() *tls.Config {
	cfg, err := t.load()
	if err != nil {
		t.logger.Error("TLS as it was read last stands", "err", err)
		return t.last.Load()
	}
	t.last.Store(cfg)
	return cfg
}

// mutual reports whether callers show a certificate.
func (t serverTLS) mutual() bool { return t.clientCA != "" }

func (t serverTLS) load() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(t.cert, t.key)
	if err != nil {
		return nil, fmt.Errorf("--tls-cert, --tls-key: %w", err)
	}
	cfg := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	if !t.mutual() {
		return cfg, nil
	}
	pem, err := os.ReadFile(t.clientCA)
	if err != nil {
		return nil, fmt.Errorf("--tls-client-ca: %w", err)
	}
	cfg.ClientAuth, cfg.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
	if !cfg.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("--tls-client-ca: %s holds no PEM certificate", t.clientCA)
	}
	return cfg, nil
}

// config is that of a listener for the given protocols; nil for plaintext.
func (t serverTLS) config(protocols ...string) *tls.Config {
	if t == (serverTLS{}) {
		return nil
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: protocols,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			cfg := t.current().Clone()
			cfg.NextProtos = protocols
			return cfg, nil
		},
	}
}

// server are the credentials of a gRPC listener.
func (t serverTLS) server() credentials.TransportCredentials {
	if cfg := t.config("h2"); cfg != nil {
		return credentials.NewTLS(cfg)
	}
	return insecure.NewCredentials()
}

// replica are the credentials towards another replica of this scaler, by what the files
// say at each connection.
func (t serverTLS) replica(service string) credentials.TransportCredentials {
	if t == (serverTLS{}) {
		return insecure.NewCredentials()
	}
	return credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS12, ServerName: service,
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection does: the roots are read anew, and its own certificate is one
		VerifyConnection: func(state tls.ConnectionState) error {
			return t.verifyReplica(state.PeerCertificates, service)
		},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &t.current().Certificates[0], nil
		},
	})
}

// verifyReplica takes who shows this replica's own certificate, as they all have the same
// Secret, whoever issued it. While one is renewed two are about: then it shall name the
// Service, and be of the client CA or, without one, of an issuer that this machine trusts.
func (t serverTLS) verifyReplica(chain []*x509.Certificate, service string) error {
	now := t.current()
	if chain[0].Equal(now.Certificates[0].Leaf) {
		return nil
	}
	intermediates := x509.NewCertPool()
	for _, c := range chain[1:] {
		intermediates.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{DNSName: service, Roots: now.ClientCAs, Intermediates: intermediates})
	return err
}
