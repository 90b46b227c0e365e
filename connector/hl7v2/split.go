package hl7v2

import (
	"bytes"
	"iter"
)

// Split yields the messages in a file or frame: one, or many that follow each other, with or without blank lines, MLLP framing
// or the batch envelopes FHS, BHS, BTS and FTS around them. Text in which no message begins is yielded too, so that reading it
// reports it instead of passing it over. Nothing is copied.
//
// HL7 v2.4 §2.15.3
func Split(data []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		if utf16Order(data) != nil { // one message: whoever writes UTF-16 does not write batches of it
			yield(data)
			return
		}
		start := 0 // of the message or loose text being gathered
		give := func(end int) bool {
			chunk := bytes.Trim(data[start:end], " \t\r\n\v\x1c\ufeff")
			return len(chunk) == 0 || yield(chunk)
		}
		for at := 0; at < len(data); {
			end := at + bytes.IndexAny(data[at:], "\r\n")
			if end < at {
				end = len(data)
			}
			line := bytes.TrimLeft(data[at:end], "\v\x1c\ufeff ")
			if begins(line, "MSH") {
				if !give(at) {
					return
				}
				start = at
			} else if begins(line, "FHS") || begins(line, "BHS") || begins(line, "BTS") || begins(line, "FTS") {
				if !give(at) {
					return
				}
				start = min(end+1, len(data))
			}
			at = end + 1
		}
		give(len(data))
	}
}

func begins(line []byte, name string) bool {
	return len(line) > 3 && string(line[:3]) == name && isDelim(line[3])
}
