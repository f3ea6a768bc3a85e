package credentials

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inference-scaler/inference-scaler/metricsource/httpclient"
)

func TestParseAuth(t *testing.T) {
	for name, tc := range map[string]struct {
		data map[string][]byte
		want http.Header
		err  string
	}{
		"bearer":           {map[string][]byte{"bearerToken": []byte(" a\n")}, http.Header{"Authorization": {"Bearer a"}}, ""},
		"of an account":    {map[string][]byte{"token": []byte("a"), "ca.crt": nil, "namespace": []byte("x")}, http.Header{"Authorization": {"Bearer a"}}, ""},
		"basic":            {map[string][]byte{"username": []byte("me"), "password": []byte("pass:word")}, http.Header{"Authorization": {"Basic bWU6cGFzczp3b3Jk"}}, ""},
		"headers":          {map[string][]byte{"header.x-scope-orgid": []byte("team")}, http.Header{"X-Scope-Orgid": {"team"}}, ""},
		"both":             {map[string][]byte{"token": []byte("a"), "username": []byte("b")}, nil, "holds both"},
		"two tokens":       {map[string][]byte{"token": []byte("a"), "bearerToken": []byte("b")}, nil, "holds both a bearerToken and a token"},
		"half a login":     {map[string][]byte{"username": []byte("a"), "pasword": []byte("b")}, nil, "holds a username without a password"},
		"nothing":          {map[string][]byte{"password": []byte("a")}, nil, "holds none of"},
		"a header's name":  {map[string][]byte{"header.a b": []byte("a")}, nil, "header.a b: not a header that may be set"},
		"a request's own":  {map[string][]byte{"header.host": []byte("a")}, nil, "header.host: not a header that may be set"},
		"a header's value": {map[string][]byte{"header.x": []byte("secret\r\nHost: evil")}, nil, "the value for X is not valid in a header"},
		"half a pair":      {map[string][]byte{"tls.crt": []byte("secret")}, nil, "tls.crt and tls.key"},
	} {
		c := &httpclient.Credentials{}
		err := parseAuth(c, tc.data)
		if tc.err != "" {
			require.ErrorContains(t, err, tc.err, name)
			require.NotContains(t, err.Error(), "secret", name)
			continue
		}
		require.NoError(t, err, name)
		require.Equal(t, tc.want, c.Header, name)
	}
	require.ErrorContains(t, parseCA(&httpclient.Credentials{}, map[string][]byte{"ca.crt": []byte("secret")}), "holds no certificate under ca.crt")
}

func TestAllows(t *testing.T) {
	for _, tc := range []struct {
		entry, at string
		want      bool
	}{
		{"prom.example", "http://prom.example", true},
		{"prom.example", "https://PROM.example:9090/x", true},
		{"prom.example:9090", "http://prom.example:9090", true},
		{"prom.example:9090", "http://prom.example", false},
		{"https://prom.example", "https://prom.example:9090/x", true},
		{"https://prom.example", "http://prom.example", false},
		{"https://prom.example:9090", "https://prom.example:9091", false},
		{"[::1]", "http://[::1]:80", true},
		{"prom.example", "http://prom.example.evil", false},
		{"prom.example", "http://evil.prom.example", false},
		{".example", "http://prom.example", false},
		{"*", "http://prom.example", false},
	} {
		u, err := url.Parse(tc.at)
		require.NoError(t, err)
		require.Equal(t, tc.want, allows(tc.entry, u), "%s towards %s", tc.entry, tc.at)
	}
	require.Equal(t, []string{"a", "b:1", "https://c"}, hostsOf("A, b:1 ,https://c,"))
	require.Empty(t, hostsOf(""))
}
