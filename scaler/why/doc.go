// Package why is what the scaler says of a decision to people and programs: the
// JSON of /api/v1, and the text of `inference-scaler why`.
package why
