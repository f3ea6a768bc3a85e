// Package access speaks HTTP to addresses that a tenant names. What is dialled is
// what the caller permits, by address and not by name; redirects lead nowhere; and
// credentials go with a request only as the caller says for its URL.
package access
