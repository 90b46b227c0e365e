// Package fhir is the language the whole program speaks: HL7 FHIR R4 resources kept as the JSON
// that arrived, small typed views over them, references, identifiers and issues.
//
// A Resource is bytes plus a read-only tree over those bytes; nothing a source sent is lost because
// we did not know it. Failures carry a FHIR issue type (Issue), so that every face can answer with an
// OperationOutcome. This room does no input or output and knows nothing of storage or people's rights.
package fhir
