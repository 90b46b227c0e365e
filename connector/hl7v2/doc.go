// Package hl7v2 is the intake of HL7 version 2: MLLP framing, a parser by position, acknowledgements, and the maps that turn
// messages into FHIR R4 resources shaped as UK Core. Which field fills which element is data, under maps/; a feed's dialect is a file over
// it (docs/hl7v2-mapping.md).
//
// A message is acknowledged (AA, CA) only after the Door has taken it durably. What is the sender's fault is answered AE or AR
// with a code and a place and never a patient's data, and kept; what is our fault is not answered at all, so that it comes again.
// Maps are pure: the same bytes give the same resources under the same ids, which are the source's own (MRN, visit number,
// filler order number). Nothing here knows of stores, people's rights or other connectors.
package hl7v2
