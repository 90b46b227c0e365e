// Package edifact reads the laboratory and radiology reports that British practices have received since the 1990s: EDIFACT
// messages MEDRPT (NHS002, NHS003 pathology; NHS004 screening) and NHSRSR (NHS002 radiology), as resources of FHIR R4.
//
// An interchange (UNB … UNZ) holds messages (UNH … UNT), each about one patient: each is one delivery. What is wrong with one
// message rejects that message, is said with its place, and leaves the others. Nothing here listens: files come by import.
package edifact
