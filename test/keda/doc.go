// Package keda holds no code, only tests: the real inference-scaler binary,
// driven by KEDA's own code. They pin how KEDA calls an external scaler and how it
// uses the answers: neither an upgrade of KEDA nor a change of ours can break that
// contract unseen.
//
// TestMain builds the binary from the repository's root, or takes the one that
// the environment variable INFERENCE_SCALER names. Every test starts a process
// of its own on loopback and lets it read real HTTP servers. KEDA's side is
// its client (pkg/scalers) or its whole executor (pkg/scaling) over a fake API
// server. Nothing leaves 127.0.0.1.
//
// It is a module of its own because pkg/scaling pulls in some 3300 packages. The
// first compilation takes many minutes on two cores; -vet=off spares vetting
// KEDA's dependencies as well.
package keda
