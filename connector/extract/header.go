package extract

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"tombolo/fhir"
)

// begin reads as far as the header and checks that the file can be read with the mapping.
func (x *extraction) begin(base string, r io.Reader) *fhir.Issue {
	s := newScanner(r)
	x.head = bytes.Clone(s.peek(4096))
	if x.file = x.mapping.fileFor(base); x.file == nil {
		return fhir.Errorf(fhir.NotSupported, "the mapping %s reads no file of this name; it reads %s", x.mapping.Name, strings.Join(x.mapping.Globs(), ", "))
	}
	switch {
	case len(x.head) == 0 && s.err != nil:
		return fhir.Errorf(fhir.Transient, "read %s: %w", x.name, s.err)
	case len(x.head) == 0:
		return fhir.Errorf(fhir.Structure, "the file is empty, without even a header row: was it cut off?")
	case bytes.HasPrefix(x.head, []byte("PK\x03\x04")), bytes.HasPrefix(x.head, []byte("\xd0\xcf\x11\xe0")):
		return fhir.Errorf(fhir.Structure, "the file is a workbook or archive, not CSV: save it as CSV")
	}
	x.scanner = x.cells.decoder.open(s, x.file.encoding)
	x.delimiter()
	row, err := x.scanner.next()
	switch {
	case errors.Is(err, io.EOF):
		return fhir.Errorf(fhir.Structure, "the file has no header row")
	case err != nil:
		return fhir.Errorf(fhir.Transient, "read %s: %w", x.name, err)
	case row.bad != nil:
		return row.bad.At("header")
	}
	if issue := x.cells.decoder.check(row.raw); issue != nil {
		return issue.At("header")
	}
	if controls(row.raw) {
		return fhir.Errorf(fhir.Structure, "the first row has control characters: this is not a CSV file").At("header")
	}
	return x.match(row)
}

// delimiter settles what parts the cells: what the mapping says, what a line "sep=;" says, or whatever shows most of the columns.
func (x *extraction) delimiter() {
	s := x.scanner
	s.delimiter = x.file.delimiter
	window := s.peek(64 << 10)
	if first := string(bytes.TrimRight(window[:lineEnd(window)], "\r\n")); len(first) == 5 && strings.EqualFold(first[:4], "sep=") {
		if s.delimiter == 0 {
			s.delimiter = first[4]
		}
		s.skip(lineEnd(window))
		s.number++
		window = s.peek(64 << 10)
	}
	if s.delimiter != 0 {
		return
	}
	best := -1
	for _, d := range []byte{',', ';', '\t', '|'} {
		spans, _, state := cut(window, d, true, nil)
		if state != cutWhole {
			continue
		}
		known := 0
		for _, c := range spans {
			name := string(window[c.start:c.end])
			if slices.ContainsFunc(x.file.columns, func(k column) bool { return sameColumn(k.name, name) }) {
				known++
			}
		}
		if known > best {
			best, s.delimiter = known, d
		}
	}
	if s.delimiter == 0 {
		s.delimiter = ','
	}
}

// match finds the mapping's columns in the header. A missing one refuses the file, with all that are missing; an extra one is told once.
func (x *extraction) match(row *row) *fhir.Issue {
	c := x.cells
	for _, cell := range row.spans {
		x.columns = append(x.columns, strings.TrimSpace(c.decoder.text(row.raw[cell.start:cell.end], cell.escaped)))
	}
	for n := len(x.columns); n > 0 && x.columns[n-1] == ""; n-- { // a spreadsheet's trailing commas
		x.columns = x.columns[:n-1]
	}
	if len(x.columns) > maxCells {
		return fhir.Errorf(fhir.TooCostly, "the header has more than %d columns", maxCells).At("header")
	}
	known := make([]bool, len(x.columns))
	var missing []string
	for _, want := range x.file.columns {
		at := slices.IndexFunc(x.columns, func(s string) bool { return sameColumn(s, want.name) })
		if at >= 0 {
			known[at] = true
			if slices.ContainsFunc(x.columns[at+1:], func(s string) bool { return sameColumn(s, want.name) }) {
				return fhir.Errorf(fhir.Structure, "the header has the column %q twice: which one is meant?", want.name).At("header")
			}
		} else if want.required {
			missing = append(missing, fmt.Sprintf("%q", want.name)+nearest(want.name, x.columns))
		}
		c.at = append(c.at, at)
	}
	if len(missing) > 0 {
		hint := "have the extract send it, or make it optional in the mapping"
		if !slices.Contains(known, true) {
			hint = "is the first row the header, and the delimiter what the mapping says?"
		}
		return fhir.Errorf(fhir.Required, "the header lacks %s %s: %s", plural(len(missing), "the column", "the columns"), strings.Join(missing, ", "), hint).At("header")
	}
	var extra []string
	for i, name := range x.columns {
		if !known[i] && name != "" && !slices.ContainsFunc(x.file.ignore, func(s string) bool { return sameColumn(s, name) }) {
			extra = append(extra, fmt.Sprintf("%.60q", name))
		}
	}
	if len(extra) > 0 {
		shown := strings.Join(extra[:min(len(extra), 20)], ", ")
		x.warning = append(x.warning, &fhir.Issue{Type: fhir.NotSupported, Severity: fhir.Warning, Expression: "header",
			Text: fmt.Sprintf("%s not in the mapping and not taken: %s; map them, or list them under columns: ignore", plural(len(extra), "a column is", "columns are"), shown)})
	}
	c.now, c.seen = make([]string, len(x.file.columns)), make([]bool, len(x.file.columns))
	x.header = bytes.Clone(row.raw)
	x.head = nil
	return nil
}

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}
