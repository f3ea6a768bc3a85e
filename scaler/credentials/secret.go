package credentials

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/inference-scaler/inference-scaler/metricsource/httpclient"
)

// AllowHost is the annotation of a Secret that lists the hosts it may be used towards,
// separated by commas. A scheme and a port are optional.
const AllowHost = "inference-scaler/allow-host"

// headerKey begins the keys of a Secret that are HTTP headers.
const headerKey = "header."

// forbiddenHeaders describe the request itself.
var forbiddenHeaders = []string{"Host", "Content-Length", "Content-Type", "Transfer-Encoding", "Connection", "Accept-Encoding"}

func hostsOf(annotation string) []string {
	return strings.FieldsFunc(strings.ToLower(annotation), func(r rune) bool { return r == ',' || r == ' ' })
}

// allows reports whether an entry of the annotation matches the URL. A scheme or a port
// that the entry leaves out matches any.
func allows(entry string, to *url.URL) bool {
	if scheme, rest, ok := strings.Cut(entry, "://"); ok {
		if scheme != to.Scheme {
			return false
		}
		entry = rest
	}
	host, hostPort := strings.ToLower(to.Hostname()), strings.ToLower(to.Host)
	return entry == host || entry == hostPort || entry == "["+host+"]"
}

// parseAuth reads what a server is shown: a token, a user with a password, headers, a
// client certificate. White space around a value is dropped: files often end in a line
// break.
func parseAuth(c *httpclient.Credentials, data map[string][]byte) error {
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
	if err := parseHeaders(c.Header, data); err != nil {
		return err
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

// parseHeaders adds the keys header.NAME. Its errors do not repeat a value.
func parseHeaders(to http.Header, data map[string][]byte) error {
	for key, value := range data {
		name, ok := strings.CutPrefix(key, headerKey)
		if !ok {
			continue
		}
		if !httpguts.ValidHeaderFieldName(name) || slices.Contains(forbiddenHeaders, http.CanonicalHeaderKey(name)) {
			return fmt.Errorf("%s: not a header that may be set", key)
		}
		to.Set(name, strings.TrimSpace(string(value)))
	}
	for name := range to {
		if !httpguts.ValidHeaderFieldValue(to.Get(name)) {
			return fmt.Errorf("the value for %s is not valid in a header", name)
		}
	}
	return nil
}

// parseCA reads the certificates that servers are verified by.
func parseCA(c *httpclient.Credentials, data map[string][]byte) error {
	c.Roots = x509.NewCertPool()
	if !c.Roots.AppendCertsFromPEM(data["ca.crt"]) {
		return errors.New("holds no certificate under ca.crt")
	}
	return nil
}
