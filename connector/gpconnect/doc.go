// Package gpconnect asks a GP practice for a person's record over GP Connect and makes R4 UK Core of the answer: Access Record Structured,
// the pages of Access Record HTML where the structured record has nothing to say, documents, and appointments.
//
// Client is the asking: what the practice's system says it can do is read first, every request carries the Spine headers and the audit token
// of the real user, everything about the answer is mistrusted, each Spine error is told in words. Directory finds where a practice answers.
// Convert is the conversion from STU3 (CareConnect-GPC) and Return the way back: pure, one table of members a type (forms.go, clinical.go,
// medication.go …), with an account of whatever has no place on the other side. GP Connect knows people by NHS number only.
package gpconnect
