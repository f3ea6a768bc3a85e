// Package httpclient sends HTTP requests to addresses from a tenant's configuration. The
// caller permits each IP address before it is dialled, after name resolution. Redirects
// are not followed. Credentials are sent only to URLs for which the caller supplies them.
package httpclient
