// Package e2e holds only tests: they run the real inference-scaler binary on a real
// Kubernetes control plane with a real KEDA. They drive it as a user would, by
// ScaledObjects in YAML.
//
//	load generator ─► gateway ─► inference servers (simulated, one for every pod IP)
//	                                 │ /metrics
//	ScaledObject ─► KEDA ◄─ gRPC ─ inference-scaler (the binary, run for the pods of its Deployment)
//	                 │
//	                 └─► HPA ─► Deployment, StatefulSet ─► scheduler ─► pods (kwok)
//
// TestMain makes what is needed (package build), enters a sandbox of
// network, process and mount namespaces (package sandbox), and starts the control
// plane there. Each scenario is one test with a namespace of its own; most run in
// parallel, those that break what all share run alone. They wait for states, with
// bounds that only end a hang, and print how long things took: a slow machine
// makes them slow, never red.
//
// A scenario that fails leaves its timeline, and all logs, in a folder that is
// named at the end. `make e2e` runs all, `make e2e-smoke` those that every change
// has to pass; `make e2e RUN=TestSpike` one.
package e2e
