// Package httpclient sends HTTP requests to addresses that a tenant names. The caller
// permits an address before it is dialled, by IP and not by name. Redirects are not
// followed. Credentials are sent only to URLs for which the caller supplies them.
package httpclient
