// Package explain describes a decision: as the JSON of /api/v1, and as the text of
// `inference-scaler why`.
package explain
