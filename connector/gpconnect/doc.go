// Package gpconnect asks a GP practice for a person's record over GP Connect Access Record Structured and makes R4 UK Core of
// the answer.
//
// Client is the asking: one POST with the Spine headers and the audit token of the real user, everything about the answer
// mistrusted, each Spine error told in words. Convert is the conversion from STU3 (CareConnect-GPC): pure, one table of members a
// type (admin.go, clinical.go, medication.go …), with an account of whatever has no place in R4. GP Connect knows people by NHS
// number only. Access Record HTML, documents and appointments are not spoken here.
package gpconnect
