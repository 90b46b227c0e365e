package audit

import (
	"encoding/csv"
	"io"
	"iter"
	"strconv"
	"strings"
	"time"
)

var csvHeader = []string{"entry", "when", "who", "user", "role", "organisation", "ods", "purpose", "event", "outcome", "person", "what", "device", "address"}

// WriteCSV writes entries for a spreadsheet. No cell can become a formula there: what others typed stands in some of them.
func WriteCSV(w io.Writer, entries iter.Seq2[Entry, error]) error {
	out := csv.NewWriter(w)
	out.UseCRLF = true // RFC 4180 §2
	if err := out.Write(csvHeader); err != nil {
		return err
	}
	for e, err := range entries {
		if err != nil {
			return err
		}
		s, err := e.Summary()
		if err != nil {
			return err
		}
		row := []string{strconv.FormatUint(uint64(s.Seq), 10), s.At.UTC().Format(time.RFC3339), s.Who, s.User, s.Role, s.Organisation, s.ODS, s.Purpose, string(s.Kind), s.Outcome,
			s.PersonID, strings.Join(s.What, "; "), s.Device, s.Address}
		for i := range row {
			row[i] = Cell(row[i])
		}
		if err := out.Write(row); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}

// Cell makes a text that no spreadsheet takes for a formula: one that begins with a sign that starts one, also a wide one or behind
// blanks, gets an apostrophe before it; line breaks and tabs become blanks. OWASP, CSV injection
func Cell(s string) string {
	s = strings.Map(func(c rune) rune {
		switch {
		case c == '\n', c == '\r', c == '\t', c == '\u2028', c == '\u2029', c == '\u0085':
			return ' '
		case c < ' ', c == 0x7f, c == '\ufeff', c == '\u200b':
			return -1
		}
		return c
	}, s)
	first := strings.TrimLeft(s, " \u00a0\u3000")
	if first != "" && strings.ContainsRune("=+-@＝＋－＠|%", []rune(first)[0]) {
		return "'" + s
	}
	return s
}
