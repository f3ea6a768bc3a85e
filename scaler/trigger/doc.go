// Package trigger turns the metadata of a KEDA trigger into a Trigger. It is
// strict: a key it does not know, a value out of its range or a combination that
// means nothing is an error that names the key, the value and what is allowed,
// and all errors are reported at once. Metadata comes from tenants; nothing in
// it is guessed at, and nothing that is wrong becomes a default.
package trigger
