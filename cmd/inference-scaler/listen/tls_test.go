package listen

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// authority is a CA.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	der  []byte
}

func newAuthority(t *testing.T) *authority {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return &authority{t, cert, key, der}
}

// issue writes a certificate and its key as PEM files.
func (a *authority) issue(cert, key string, serial int64) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(a.t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &k.PublicKey, a.key)
	require.NoError(a.t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(k)
	require.NoError(a.t, err)
	a.write(cert, "CERTIFICATE", der)
	a.write(key, "PRIVATE KEY", pkcs8)
}

func (a *authority) write(path, kind string, der []byte) {
	require.NoError(a.t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
}

func TestMutualTLS(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	ca, otherCA := newAuthority(t), newAuthority(t)
	ca.write(file("ca.pem"), "CERTIFICATE", ca.der)
	ca.issue(file("server.pem"), file("server.key"), 2)
	ca.issue(file("client.pem"), file("client.key"), 3)
	otherCA.issue(file("other.pem"), file("other.key"), 4)

	o := options(t)
	var err error
	o.TLS, err = NewTLS(file("server.pem"), file("server.key"), file("ca.pem"), o.Logger)
	require.NoError(t, err)
	healthServer := health.NewServer()
	server := NewGRPC(o, 1<<10)
	healthpb.RegisterHealthServer(server.GRPC, healthServer)
	start(t, server)

	call := func(creds credentials.TransportCredentials) error {
		conn, err := grpc.NewClient(server.Addr().String(), grpc.WithTransportCredentials(creds))
		require.NoError(t, err)
		defer conn.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		_, err = healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
		return err
	}
	var seen *big.Int
	as := func(name string) credentials.TransportCredentials {
		roots := x509.NewCertPool()
		roots.AddCert(ca.cert)
		cfg := &tls.Config{RootCAs: roots, VerifyConnection: func(state tls.ConnectionState) error {
			seen = state.PeerCertificates[0].SerialNumber
			return nil
		}}
		if name != "" {
			pair, err := tls.LoadX509KeyPair(file(name+".pem"), file(name+".key"))
			require.NoError(t, err)
			cfg.Certificates = []tls.Certificate{pair}
		}
		return credentials.NewTLS(cfg)
	}
	require.NoError(t, call(as("client")))
	require.Equal(t, big.NewInt(2), seen)
	require.Error(t, call(as("")), "no certificate")
	require.Error(t, call(as("other")), "the certificate of another CA")
	require.Error(t, call(insecure.NewCredentials()), "plaintext")

	// A stream stays open during all changes of the files.
	conn, err := grpc.NewClient(server.Addr().String(), grpc.WithTransportCredentials(as("client")))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	stream, err := healthpb.NewHealthClient(conn).Watch(t.Context(), &healthpb.HealthCheckRequest{})
	require.NoError(t, err)
	_, err = stream.Recv()
	require.NoError(t, err)

	ca.issue(file("server.pem"), file("server.key"), 5)
	require.NoError(t, call(as("client")))
	before := o.TLS.current()
	require.Same(t, before, o.TLS.current(), "unchanged files are not reloaded")
	require.Equal(t, big.NewInt(5), seen, "a renewed certificate applies to new connections")

	ca.issue(file("server.pem"), file("unrelated.key"), 6)
	require.NoError(t, call(as("client")))
	require.Equal(t, big.NewInt(5), seen, "a certificate without its key does not apply")
	require.NoError(t, os.Remove(file("ca.pem")))
	require.Error(t, call(as("")), "clients still need a certificate")
	require.NoError(t, call(as("client")))

	healthServer.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
	update, err := stream.Recv()
	require.NoError(t, err)
	require.Equal(t, healthpb.HealthCheckResponse_NOT_SERVING, update.Status)
}

// Replicas accept their shared certificate, and during its renewal another certificate of the same
// issuer with the name of the Service.
func TestReplicaTLS(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	ca, otherCA := newAuthority(t), newAuthority(t)
	ca.write(file("ca.pem"), "CERTIFICATE", ca.der)
	ca.issue(file("own.pem"), file("own.key"), 2)
	ca.issue(file("renewed.pem"), file("renewed.key"), 3)
	otherCA.issue(file("other.pem"), file("other.key"), 4)
	of := func(name, clientCA string) *TLS {
		loaded, err := NewTLS(file(name+".pem"), file(name+".key"), clientCA, slog.New(slog.DiscardHandler))
		require.NoError(t, err)
		return loaded
	}
	// dial is a handshake of two replicas, each with its certificate.
	dial := func(from, to, clientCA, service string) error {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer listener.Close()
		go func() {
			if conn, err := listener.Accept(); err == nil {
				_, _, _ = of(to, clientCA).server().ServerHandshake(conn)
				_ = conn.Close()
			}
		}()
		conn, err := net.Dial("tcp", listener.Addr().String())
		require.NoError(t, err)
		defer conn.Close()
		_, _, err = of(from, clientCA).Replica(service).ClientHandshake(t.Context(), service, conn)
		return err
	}
	require.NoError(t, dial("own", "own", "", "127.0.0.1"), "a certificate of an unknown issuer")
	require.NoError(t, dial("own", "own", file("ca.pem"), "127.0.0.1"))
	require.NoError(t, dial("own", "renewed", file("ca.pem"), "127.0.0.1"))
	require.ErrorContains(t, dial("own", "renewed", file("ca.pem"), "elsewhere.svc"), "elsewhere.svc")
	require.ErrorContains(t, dial("own", "renewed", "", "127.0.0.1"), "unknown authority")
	require.ErrorContains(t, dial("own", "other", file("ca.pem"), "127.0.0.1"), "unknown authority")
}

func TestInvalidFiles(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	ca := newAuthority(t)
	ca.issue(file("server.pem"), file("server.key"), 2)
	require.NoError(t, os.WriteFile(file("empty.pem"), nil, 0o600))
	for _, tc := range []struct{ cert, key, clientCA, want string }{
		{file("server.pem"), "", "", "--tls-cert and --tls-key; wanted: both"},
		{"", "", file("empty.pem"), "--tls-client-ca needs both"},
		{file("missing.pem"), file("server.key"), "", "no such file"},
		{file("server.pem"), file("server.key"), file("missing.pem"), "--tls-client-ca"},
		{file("server.pem"), file("server.key"), file("empty.pem"), "empty.pem; wanted: a file with PEM certificates"},
	} {
		_, err := NewTLS(tc.cert, tc.key, tc.clientCA, slog.New(slog.DiscardHandler))
		require.ErrorContains(t, err, tc.want)
	}
}
