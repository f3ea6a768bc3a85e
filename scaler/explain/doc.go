// Package explain describes a decision to people and programs: the JSON of /api/v1,
// and the text of `inference-scaler why`.
package explain
