package controlplane

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Authority is a CA of this run's own.
type Authority struct {
	dir  string
	cert *x509.Certificate
	key  crypto.Signer
}

// NewAuthority makes a CA and writes NAME.crt into dir; its key is not kept.
func NewAuthority(dir, name string) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "e2e-" + name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(30 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &Authority{dir, cert, key}, writePEM(filepath.Join(dir, name+".crt"), "CERTIFICATE", der)
}

// Issue writes NAME.crt and NAME.key, for a server and a client.
func (a *Authority) Issue(name, commonName string, hosts ...string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: commonName},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(30 * 24 * time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return err
	}
	return errors.Join(
		writePEM(filepath.Join(a.dir, name+".crt"), "CERTIFICATE", der),
		writeKey(filepath.Join(a.dir, name+".key"), key))
}

func writeKey(path string, key crypto.Signer) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return writePEM(path, "PRIVATE KEY", der)
}

func writePEM(path, kind string, der []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}

// writeCerts makes all that the control plane needs in dir: ca.crt, apiserver,
// front-proxy (with its CA), keda/tls, and the key of service account tokens.
func writeCerts(dir string) error {
	if err := os.MkdirAll(filepath.Join(dir, "keda"), 0o750); err != nil {
		return err
	}
	ca, err := NewAuthority(dir, "ca")
	if err != nil {
		return err
	}
	proxy, err := NewAuthority(dir, "front-proxy-ca")
	if err != nil {
		return err
	}
	tokens, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(tokens.Public())
	if err != nil {
		return err
	}
	return errors.Join(
		ca.Issue("apiserver", "kube-apiserver", "127.0.0.1", "10.96.0.1", "localhost", "kubernetes.default.svc"),
		ca.Issue("keda/tls", "keda", "127.0.0.1", "localhost", "keda-operator.keda.svc", "keda-metrics-apiserver.keda.svc"),
		writePEM(filepath.Join(dir, "keda", "ca.crt"), "CERTIFICATE", ca.cert.Raw),
		proxy.Issue("front-proxy", "front-proxy-client"),
		writeKey(filepath.Join(dir, "tokens.key"), tokens),
		writePEM(filepath.Join(dir, "tokens.pub"), "PUBLIC KEY", public),
	)
}
