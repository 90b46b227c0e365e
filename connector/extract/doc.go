// Package extract takes in the nightly files of systems that can do no better: CSV extracts, and documents listed in a CSV
// manifest, left in a drop folder or sent by HTTP.
//
// What a file's columns mean is said in a mapping file (docs/extract-mapping.md), which is data: a new system is connected by writing
// one, not by writing Go. Each row becomes one delivery, so that a bad row goes to quarantine alone and the rest go on, and memory
// stays bounded however long the file is. What this room does not do: it never takes a row's absence to mean that the thing is gone.
package extract
