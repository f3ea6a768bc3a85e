// Package trigger parses the metadata of a KEDA trigger into a Trigger. It is strict:
// unknown keys, values out of range and combinations without effect are errors. An error
// names the key, the value and what is allowed. All errors are reported at once. Invalid
// values never become defaults.
package trigger
