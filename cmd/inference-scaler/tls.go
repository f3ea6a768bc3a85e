package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// serverCredentials returns those of KEDA's listener: plaintext without a
// certificate, mutual TLS with a CA for callers. The files are read for every new
// connection, so that a renewed certificate counts from the next one on and
// nothing that is open is dropped.
func serverCredentials(cert, key, clientCA string) (credentials.TransportCredentials, error) {
	if cert == "" && key == "" && clientCA == "" {
		return insecure.NewCredentials(), nil
	}
	if cert == "" || key == "" {
		return nil, errors.New("--tls-cert and --tls-key: wanted: both, or neither; --tls-client-ca needs them")
	}
	load := func() (*tls.Config, error) {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("--tls-cert, --tls-key: %w", err)
		}
		cfg := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2"}}
		if clientCA == "" {
			return cfg, nil
		}
		pem, err := os.ReadFile(clientCA)
		if err != nil {
			return nil, fmt.Errorf("--tls-client-ca: %w", err)
		}
		cfg.ClientAuth, cfg.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
		if !cfg.ClientCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--tls-client-ca: %s holds no PEM certificate", clientCA)
		}
		return cfg, nil
	}
	if _, err := load(); err != nil {
		return nil, err
	}
	return credentials.NewTLS(&tls.Config{
		MinVersion:         tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return load() },
	}), nil
}
