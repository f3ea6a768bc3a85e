// Package manifest reads Kubernetes objects from YAML and JSON and keeps the line of each
// value. It is pure: the text is an argument.
package manifest
