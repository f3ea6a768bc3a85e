package listen

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// TLS is the TLS configuration of servers. Each handshake reloads changed files. A renewed
// certificate applies to new connections, and open connections stay open.
//
// While the files are invalid, the last valid configuration applies. This happens for example
// between the renewal of a certificate and that of its key. A nil TLS is plaintext.
type TLS struct {
	cert, key, clientCA string
	logger              *slog.Logger

	mu    sync.Mutex
	files []os.FileInfo // from before last was read
	last  *tls.Config
}

// NewTLS reads the files of --tls-cert, --tls-key and --tls-client-ca. With a client CA, clients
// need a certificate. NewTLS returns nil without any file.
func NewTLS(cert, key, clientCA string, logger *slog.Logger) (*TLS, error) {
	if cert == "" && key == "" && clientCA == "" {
		return nil, nil
	}
	if cert == "" || key == "" {
		return nil, errors.New("--tls-cert and --tls-key; wanted: both, or neither; --tls-client-ca needs both")
	}
	t := &TLS{cert: cert, key: key, clientCA: clientCA, logger: logger}
	err := t.reload()
	return t, err
}

// Mutual reports whether clients need a certificate.
func (t *TLS) Mutual() bool { return t != nil && t.clientCA != "" }

// current returns the configuration of the files, or the last valid one if they are invalid.
func (t *TLS) current() *tls.Config {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.reload(); err != nil {
		t.logger.Error("invalid TLS files; the last valid configuration still applies", "err", err)
	}
	return t.last
}

// reload reads the files if one of them has changed.
func (t *TLS) reload() error {
	files, err := t.stat()
	if err != nil {
		return err
	}
	if slices.EqualFunc(files, t.files, unchanged) {
		return nil
	}
	cfg, err := t.load()
	if err != nil {
		return err
	}
	t.files, t.last = files, cfg
	return nil
}

// stat describes the files. The caller has to read them afterwards, so that the next handshake
// detects a change in between.
func (t *TLS) stat() ([]os.FileInfo, error) {
	var files []os.FileInfo
	for _, f := range []struct{ flag, name string }{{"tls-cert", t.cert}, {"tls-key", t.key}, {"tls-client-ca", t.clientCA}} {
		if f.name == "" {
			continue
		}
		file, err := os.Stat(f.name)
		if err != nil {
			return nil, fmt.Errorf("--%s: %w", f.flag, err)
		}
		files = append(files, file)
	}
	return files, nil
}

// unchanged also compares the identity, because a mounted Secret changes by a symbolic link.
func unchanged(a, b os.FileInfo) bool {
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

func (t *TLS) load() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(t.cert, t.key)
	if err != nil {
		return nil, fmt.Errorf("--tls-cert, --tls-key: %w", err)
	}
	cfg := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	if !t.Mutual() {
		return cfg, nil
	}
	pem, err := os.ReadFile(t.clientCA)
	if err != nil {
		return nil, fmt.Errorf("--tls-client-ca: %w", err)
	}
	cfg.ClientAuth, cfg.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
	if !cfg.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("--tls-client-ca: %s; wanted: a file with PEM certificates", t.clientCA)
	}
	return cfg, nil
}

// config returns the configuration of a listener with the protocols; nil for plaintext.
func (t *TLS) config(protocols ...string) *tls.Config {
	if t == nil {
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

// server returns the credentials of a gRPC server.
func (t *TLS) server() credentials.TransportCredentials {
	if cfg := t.config("h2"); cfg != nil {
		return credentials.NewTLS(cfg)
	}
	return insecure.NewCredentials()
}

// Replica returns the client credentials for another replica of the scaler, behind the Service of
// that name. Each connection uses the current files.
func (t *TLS) Replica(service string) credentials.TransportCredentials {
	if t == nil {
		return insecure.NewCredentials()
	}
	return credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS12, ServerName: service,
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection verifies, with the current roots, and accepts this replica's own certificate
		VerifyConnection: func(state tls.ConnectionState) error {
			return t.verifyReplica(state.PeerCertificates, service)
		},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &t.current().Certificates[0], nil
		},
	})
}

// verifyReplica accepts this replica's own certificate from any issuer, because all replicas mount
// the same Secret. Any other certificate, as during a renewal, has to contain the name of the
// Service. Its issuer has to be the client CA or, without one, a system root.
func (t *TLS) verifyReplica(chain []*x509.Certificate, service string) error {
	cfg := t.current()
	if chain[0].Equal(cfg.Certificates[0].Leaf) {
		return nil
	}
	intermediates := x509.NewCertPool()
	for _, c := range chain[1:] {
		intermediates.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{DNSName: service, Roots: cfg.ClientCAs, Intermediates: intermediates})
	return err
}
