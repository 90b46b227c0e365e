package extract

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tombolo/fhir"
)

// shared finds the folder of real test data beside the checkout; TOMBOLO_DATA overrides it.
func shared(t *testing.T, path string) string {
	t.Helper()
	dir := os.Getenv("TOMBOLO_DATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "data")
	}
	dir = filepath.Join(dir, path)
	if _, err := os.Stat(dir); err != nil {
		t.Skip("no shared test data here; set TOMBOLO_DATA to its folder to run this test")
	}
	return dir
}

// table reads a whole file of text cells the way Deliveries does.
func tableOf(t *testing.T, r io.Reader) (rows [][]string) {
	t.Helper()
	s, d := newScanner(r), new(decoder)
	s = d.open(s, Auto)
	s.delimiter = ','
	for {
		row, err := s.next()
		if errors.Is(err, io.EOF) {
			return rows
		}
		if err != nil {
			t.Fatal(err)
		}
		issue := row.bad
		if issue == nil {
			issue = d.check(row.raw)
		}
		if issue != nil {
			t.Fatal(issue)
		}
		var cells []string
		for _, c := range row.spans {
			cells = append(cells, d.text(row.raw[c.start:c.end], c.escaped))
		}
		rows = append(rows, cells)
	}
}

// csv-spectrum: each CSV has a JSON file beside it that says what it means. One of those, location_coordinates, is of another file.
func TestCSVSpectrum(t *testing.T) {
	dir := shared(t, "10-bad-input/csv-spectrum")
	files, err := filepath.Glob(filepath.Join(dir, "csvs", "*.csv"))
	if err != nil || len(files) < 12 {
		t.Fatalf("%d files: %v", len(files), err)
	}
	for _, name := range files {
		base := strings.TrimSuffix(filepath.Base(name), ".csv")
		t.Run(base, func(t *testing.T) {
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			rows := tableOf(t, bytes.NewReader(data))
			if base == "location_coordinates" {
				if len(rows) != 2 || len(rows[1]) != 4 || rows[1][2] != "Modesto" || !strings.Contains(rows[1][1], `36'37.8"N`) {
					t.Errorf("got %q", rows)
				}
				return
			}
			expected, err := os.ReadFile(filepath.Join(dir, "json", base+".json"))
			if err != nil {
				t.Fatal(err)
			}
			var want []map[string]string
			if err := json.Unmarshal(expected, &want); err != nil {
				t.Fatal(err)
			}
			if len(rows) != len(want)+1 {
				t.Fatalf("%d rows, want %d and a header", len(rows), len(want))
			}
			for i, w := range want {
				for j, column := range rows[0] {
					if !bytes.Contains(data, []byte("\r")) { // a copy of the file may have had its line ends changed
						w[column] = strings.ReplaceAll(w[column], "\r\n", "\n")
					}
					if rows[i+1][j] != w[column] {
						t.Errorf("row %d, %s: %q, want %q", i+2, column, rows[i+1][j], w[column])
					}
				}
			}
		})
	}
}

// Text that a spreadsheet would run as a formula stays text on its way in.
func TestFormulasStayText(t *testing.T) {
	for _, cell := range []string{`=cmd|' /C calc'!A0`, "+1+1", "-2", "@SUM(1)"} {
		all, err := read(mapping(t, small), "visits.csv", []byte(header+"\nV1,P1,,Ann,01/02/1950,02/07/2026,"+cell+"\n"))
		if err != nil || len(good(all)) != 1 || all[0].Content[1].Text("reasonCode.text") != cell {
			t.Errorf("%s: %v %v", cell, err, bad(all))
		}
	}
}

func FuzzDeliveries(f *testing.F) {
	m := mapping(f, small)
	for _, s := range []string{header + "\nV1,P1,9990000107,Ann,01/02/1950,02/07/2026 09:30,ok\n", "\xff\xfev\x00i\x00", "\ufeff" + header + "\r\n\"a\"\"\r\n\",b", "sep=;\nvisit;patient\n1;2",
		header + "\nV1,P1,,\x80\x99,01/02/1950,02/07/2026,\xa35\n", header + "\n\"\n\"\n\"a\"b\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		n := 0
		for d, err := range Deliveries("clinic", m, "visits.csv", bytes.NewReader(data), nil) {
			if n++; n > len(data)+2 {
				t.Fatal("more rows than bytes")
			}
			if err != nil && fhir.IssueOf(err) == nil {
				t.Fatalf("an error that is no issue: %v", err)
			}
			if d.Rejected == nil && err == nil && (len(d.Content) != 2 || d.Patient == "" || d.Content[1].Text("subject.reference") != "Patient/"+d.Patient) {
				t.Fatalf("half a delivery: %+v", d)
			}
			if err == nil && len(d.Raw) == 0 {
				t.Fatal("a delivery without its bytes")
			}
		}
	})
}

func FuzzMapping(f *testing.F) {
	f.Add([]byte(small), []byte(header+"\nV1,P1,9990000107,Ann,01/02/1950,02/07/2026 09:30,ok\n"))
	f.Add([]byte("mapping: a/1\npatient: {id: a}\nfiles: [{name: visits.csv, key: b, make: [{type: Flag, fields: {code: concept('x', a, b)}}]}]"), []byte("a,b\n1,2\n"))
	for _, name := range Builtin() {
		data, err := builtin.ReadFile("mappings/" + name + ".yaml")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, []byte("patient_id\n1\n"))
	}
	f.Fuzz(func(t *testing.T, src, data []byte) {
		m, err := Parse(src)
		if err != nil {
			if fhir.IssueOf(err) == nil {
				t.Fatalf("an error that is no issue: %v", err)
			}
			return
		}
		for _, name := range m.Globs() {
			for d, err := range Deliveries("s", m, strings.ReplaceAll(name, "*", ""), bytes.NewReader(data), nil) {
				if err == nil && d.Rejected == nil && len(d.Content)+len(d.Delete) == 0 && len(m.fileFor(name).make) > 0 && m.fileFor(name).patient != nil {
					t.Fatal("a delivery of nothing")
				}
			}
		}
	})
}
