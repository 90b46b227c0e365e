package audit

import (
	"bytes"
	"encoding/csv"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tombolo/fhir"
)

// The examples of IHE Basic Audit Log Patterns are kept as they came, byte for byte, and can be read by people.
func TestBALPExamplesRoundTrip(t *testing.T) {
	dir := os.Getenv("TOMBOLO_DATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "shared", "data")
	}
	files, _ := filepath.Glob(filepath.Join(dir, "12-consent-audit-exchange", "ihe-balp-auditevents", "AuditEvent-*.json"))
	if len(files) == 0 {
		t.Skip("the public test data is not here (12-consent-audit-exchange): set TOMBOLO_DATA to where it is")
	}
	l := openLog(t, engine(t), "severn")
	var raw [][]byte
	var want []*fhir.Resource
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		r, err := fhir.Parse(b)
		if err != nil {
			t.Fatalf("%s: %v", filepath.Base(file), err)
		}
		if _, err := l.Append(ctx, Event{Raw: r}); err != nil {
			t.Fatalf("%s: %v", filepath.Base(file), err)
		}
		raw, want = append(raw, r.Raw()), append(want, r)
	}
	who, i := 0, 0
	for e, err := range l.All(ctx, 0, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(e.Body, raw[i]) {
			t.Errorf("%s was changed", filepath.Base(files[i]))
		}
		s, err := e.Summary()
		if err != nil || s.At.IsZero() || s.Outcome != want[i].Text("outcome") {
			t.Errorf("%s: read as %+v (%v)", filepath.Base(files[i]), s, err)
		}
		if _, err := e.DICOM(); err != nil {
			t.Errorf("%s as a DICOM message: %v", filepath.Base(files[i]), err)
		}
		if s.Who != "" || s.User != "" || s.Device != "" {
			who++
		}
		i++
	}
	if i != len(files) || who < len(files)*3/4 {
		t.Errorf("%d of %d examples came back, of %d it is known who it was", i, len(files), who)
	}
	if r := verify(t, l); !r.OK() {
		t.Error(r.Bad)
	}
	if _, err := l.Append(ctx, Event{Raw: fhir.New("Patient", "p", nil)}); !fhir.Is(err, fhir.Structure) {
		t.Errorf("a Patient is taken for an AuditEvent: %v", err)
	}
	// What this program writes claims the same profiles only where it holds what they demand.
	e := view(t, "margaret")
	e.Agent.Device, e.Agent.Address = "Ward tablet", "10.1.2.3"
	entry, err := l.Append(ctx, e)
	if err != nil {
		t.Fatal(err)
	}
	r, _ := entry.Resource()
	if r.Text("meta.profile") != profileRead {
		t.Errorf("a reading with all that BALP asks for claims %q", r.Text("meta.profile"))
	}
}

// No cell of an export is a formula to a spreadsheet, whatever somebody called themselves.
func TestNoCellOfAnExportIsAFormula(t *testing.T) {
	l := openLog(t, engine(t), "severn")
	evil := []string{"=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r\n=1", " =1", "\u00a0=1", "＝1", "|calc", "%x", "=HYPERLINK(\"http://x\",\"y\")", "\ufeff=1", "\u200b=1", "a\n=b", "\u2028=1"}
	for _, s := range evil {
		e := view(t, "margaret")
		e.Agent = Agent{User: s, Name: s, Role: s, Organisation: s, OrgName: s, Device: s, Address: s}
		e.What = []string{s}
		if _, err := l.Append(ctx, e); err != nil {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	if err := WriteCSV(&b, l.All(ctx, 0, 0)); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(&b).ReadAll()
	if err != nil || len(rows) != len(evil)+1 {
		t.Fatalf("%d rows (%v)", len(rows), err)
	}
	for _, row := range rows {
		for _, cell := range row {
			first := strings.TrimLeft(cell, " \u00a0\u3000\u200b\ufeff")
			if first != "" && strings.ContainsAny(first[:1], "=+-@|%\t\r\n") || strings.HasPrefix(first, "＝") || strings.ContainsAny(cell, "\n\r\t") {
				t.Errorf("the cell %q is a formula", cell)
			}
		}
	}
}

func FuzzCell(f *testing.F) {
	f.Add("=1")
	f.Add("\u2028 @x")
	f.Fuzz(func(t *testing.T, s string) {
		c := strings.TrimLeft(Cell(s), " \u00a0\u3000")
		if c != "" && strings.ContainsRune("=+-@＝＋－＠|%\t\r\n", []rune(c)[0]) {
			t.Errorf("%q becomes %q", s, Cell(s))
		}
	})
}
