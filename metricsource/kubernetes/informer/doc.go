// Package informer prepares client-go informers for the packages above it: each keeps
// trimmed objects, passes them to a typed handler and logs its failures at a bounded rate.
//
// It reads nothing of its own: the RBAC verbs of an informer are list and watch on its
// resource, which the package that prepares it documents.
package informer
