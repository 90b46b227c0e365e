package extract

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/unicode"

	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/fhir"
)

// small is a mapping of one file, as somebody connecting a first system would write it.
const small = `mapping: clinic/1
patient: {id: patient, nhs: nhs, family: surname, born: dob}
files:
  - name: visits*.csv
    key: visit
    columns: {optional: [note]}
    make:
      - type: Encounter
        heading: encounters
        set: {status: finished, class.code: AMB}
        fields:
          period.start: needed(datetime(start))
          reasonCode[0].text: reason
          text: narrative(note)
`

const header = "visit,patient,nhs,surname,dob,start,reason"

func mapping(t testing.TB, src string) *Mapping {
	t.Helper()
	m, err := Parse([]byte(src))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// read collects what a file gives, and the error that ended it.
func read(m *Mapping, name string, data []byte) (all []connector.Delivery, err error) {
	for d, e := range Deliveries("clinic", m, name, bytes.NewReader(data), nil) {
		if e != nil {
			return append(all, d), e
		}
		all = append(all, d)
	}
	return all, nil
}

func good(all []connector.Delivery) (out []connector.Delivery) {
	for _, d := range all {
		if d.Rejected == nil {
			out = append(out, d)
		}
	}
	return out
}

func bad(all []connector.Delivery) (out []string) {
	for _, d := range all {
		if d.Rejected != nil {
			out = append(out, d.Rejected.Error())
		}
	}
	return out
}

func TestARowBecomesAPatientAndTheirEncounter(t *testing.T) {
	m := mapping(t, small)
	file := header + "\r\nV1,P7,999 000 0107,Taylor,12/03/1948,02/07/2026 09:30,\"Wound, left leg\"\r\n"
	all, err := read(m, "visits.csv@20260703T020000Z", []byte(file))
	if err != nil || len(all) != 1 {
		t.Fatalf("%d deliveries, %v", len(all), err)
	}
	d := all[0]
	if d.Rejected != nil || d.Source != "clinic" || d.Patient != "P7" || d.Map != "extract-clinic/1" || d.ID != "visits.csv@20260703T020000Z#V1" || string(d.Raw) != file {
		t.Errorf("got %+v", d)
	}
	want := []string{
		`{"resourceType":"Patient","id":"P7","identifier":[{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"9990000107"}],"name":[{"use":"official","family":"Taylor"}],"birthDate":"1948-03-12"}`,
		`{"resourceType":"Encounter","id":"V1","subject":{"reference":"Patient/P7"},"meta":{"tag":[{"system":"https://tombolo.dev/CodeSystem/heading","code":"encounters"}]},"status":"finished","class":{"code":"AMB"},"period":{"start":"2026-07-02T09:30:00+01:00"},"reasonCode":[{"text":"Wound, left leg"}]}`,
	}
	for i, r := range d.Content {
		if string(r.Raw()) != want[i] {
			t.Errorf("got  %s\nwant %s", r.Raw(), want[i])
		}
	}
	if h := dataset.HeadingOf(d.Content[1]); h != dataset.Encounters {
		t.Errorf("heading %s", h)
	}
}

func TestBadRowsGoAloneWithRowAndColumn(t *testing.T) {
	rows := []string{
		header,
		"V1,P1,9990000107,Ann,01/02/1950,02/07/2026 09:30,ok",
		"V2,P2,9990000108,Ann,01/02/1950,02/07/2026 09:30,wrong check digit",
		"V3,P3,4444444444,Ann,01/02/1950,02/07/2026 09:30,one repeated digit",
		"V4,P4,,Ann,31/02/1950,02/07/2026 09:30,no such day",
		"V5,P5,,Ann,02/13/1950,02/07/2026 09:30,an American date",
		"V6,P6,,Ann,01/02/50,02/07/2026 09:30,two digits",
		"V7,P7,,Ann,01/02/1950,,no start",
		"V8,P8,,Ann,01/02/1950,02/07/2026",
		"V9,P9,,Ann,01/02/1950,02/07/2026,a,comma",
		",P10,,Ann,01/02/1950,02/07/2026,no key",
		"V11,,,Ann,01/02/1950,02/07/2026,no patient",
		"V12,P12,,Ann,01/02/1950,02/07/2026,bell\x07",
		`V13,P13,,Ann,01/02/1950,02/07/2026,"said "hello" to me"`,
		",,,,,,",
		"",
		"V16,P16,,Ann,01/02/1950,02/07/2026,ok,,,",
		"V17,P17,,Ann,01/02/1950,02/07/2026,6'2\" tall",
	}
	all, err := read(mapping(t, small), "visits.csv", []byte(strings.Join(rows, "\n")+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"row 3, column nhs: the NHS number's check digit is wrong",
		"row 4, column nhs: an NHS number of one repeated digit",
		"row 5, column dob: not a date",
		"row 6, column dob: not a date",
		"row 7, column dob: the year needs four digits",
		"row 8, column start: empty, and it must not be",
		"row 9: the row has 6 cells where the header has 7",
		"row 10: the row has 8 cells where the header has 7",
		"row 11, column visit: the key is empty",
		"row 12, column patient: the row does not say which patient",
		"row 13: the row has a control character",
		"row 14: text follows a closing quotation mark",
	}
	got := bad(all)
	if len(got) != len(want) {
		t.Fatalf("%d rows rejected, want %d: %v", len(got), len(want), got)
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("got %q, want %q", got[i], want[i])
		}
		if strings.Contains(got[i], "Ann") || strings.Contains(got[i], "hello") || strings.Contains(got[i], "99900") {
			t.Errorf("%q tells of the patient", got[i])
		}
	}
	if n := len(good(all)); n != 3 {
		t.Errorf("%d good rows went on, want 3", n)
	}
	for _, d := range all {
		if d.Rejected != nil && (!strings.HasPrefix(string(d.Raw), header) || !strings.Contains(string(d.Raw), "V") && !strings.Contains(string(d.Raw), "P10") || len(d.Content) > 0) {
			t.Errorf("%v: raw %q, %d resources", d.Rejected, d.Raw, len(d.Content))
		}
	}
}

func TestTheWholeFileIsRefusedWithTheRemedy(t *testing.T) {
	for name, c := range map[string]struct{ file, want string }{
		"a column missing":   {"visit,patient,nhs,surname,dateofbirth,start,reason\n", `header: the header lacks the column "dob": have the extract send it`},
		"a column misspelt":  {"visit,patient,nhs,surname,do,start,reason\n", `"dob"; did you mean "do"?`},
		"nothing like it":    {"a,b,c\n1,2,3\n", "is the first row the header"},
		"a column twice":     {header + ",start\n", `the column "start" twice`},
		"empty":              {"", "the file is empty"},
		"a workbook":         {"PK\x03\x04\x14\x00\x06\x00", "save it as CSV"},
		"binary":             {"\x01\x02\x03\x00garbage", "control characters"},
		"an unclosed header": {"\"visit,patient", "never closes"},
	} {
		all, err := read(mapping(t, small), "visits.csv", []byte(c.file))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", name, err, c.want)
		}
		if len(all) != 1 || all[0].Rejected == nil || string(all[0].Raw) != c.file {
			t.Errorf("%s: the file's beginning does not go to quarantine: %+v", name, all)
		}
	}
	_, err := read(mapping(t, small), "other.csv", []byte(header))
	if err == nil || !strings.Contains(err.Error(), "visits*.csv") {
		t.Errorf("a file the mapping does not read: %v", err)
	}
}

func TestExtraColumnsAreToldOnce(t *testing.T) {
	file := header + ",ward,consultant\n"
	for i := range 3 {
		file += fmt.Sprintf("V%d,P1,,Ann,01/02/1950,02/07/2026,x,7B,Hale\n", i)
	}
	all, err := read(mapping(t, small), "visits.csv", []byte(file))
	if err != nil || len(good(all)) != 3 {
		t.Fatal(err, bad(all))
	}
	if len(all[0].Issues) != 1 || all[0].Issues[0].Severity != fhir.Warning || !strings.Contains(all[0].Issues[0].Text, `"ward", "consultant"`) {
		t.Errorf("issues of the first row: %v", all[0].Issues)
	}
	if len(all[1].Issues)+len(all[2].Issues) > 0 {
		t.Error("the warning is repeated on each row")
	}
}

func encoded(t testing.TB, s string, how string) []byte {
	t.Helper()
	var out []byte
	var err error
	switch how {
	case "utf-8":
		out = []byte(s)
	case "utf-8 bom":
		out = []byte("\ufeff" + s)
	case "windows-1252":
		out, err = charmap.Windows1252.NewEncoder().Bytes([]byte(s))
	case "utf-16le bom":
		out, err = unicode.UTF16(unicode.LittleEndian, unicode.UseBOM).NewEncoder().Bytes([]byte(s))
	case "utf-16be bom":
		out, err = unicode.UTF16(unicode.BigEndian, unicode.UseBOM).NewEncoder().Bytes([]byte(s))
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestEncodingsDelimitersAndLineEnds(t *testing.T) {
	const words = "Café visit, £5 for “gauze”, patient’s own\r\nsecond line"
	m := mapping(t, small)
	for _, enc := range []string{"utf-8", "utf-8 bom", "windows-1252", "utf-16le bom", "utf-16be bom"} {
		for _, delimiter := range []string{",", ";", "\t", "|"} {
			for _, end := range []string{"\n", "\r\n", "\r"} {
				file := strings.ReplaceAll(header, ",", delimiter) + end +
					strings.Join([]string{"V0", "P1", "", "Novák", "1950-02-01", "2026-07-02T09:30", "plain"}, delimiter) + end +
					strings.Join([]string{"V1", "P1", "", "Brontë", "1950-02-01", "2026-07-02T09:30", `"` + words + `"`}, delimiter)
				raw := encoded(t, file, enc)
				all, err := read(m, "Visits_2026.CSV", raw)
				if err != nil || len(all) != 2 || len(bad(all)) > 0 {
					t.Errorf("%s %q %q: %v %v", enc, delimiter, end, err, bad(all))
					continue
				}
				d := all[1]
				if got := d.Content[1].Text("reasonCode.text"); got != words {
					t.Errorf("%s %q %q: reason %q", enc, delimiter, end, got)
				}
				if got := all[0].Content[0].Text("name.family") + d.Content[0].Text("name.family"); got != "NovákBrontë" {
					t.Errorf("%s: %q", enc, got)
				}
				if again, err := read(m, "visits.csv", d.Raw); err != nil || len(again) != 1 || string(again[0].Content[1].Raw()) != string(d.Content[1].Raw()) {
					t.Errorf("%s %q: the kept bytes do not read back to the same: %v %v", enc, delimiter, err, bad(again))
				}
			}
		}
	}
}

func TestAFileThatChangesItsEncodingMidwayIsNotGuessedAt(t *testing.T) {
	row := func(i int) string { return fmt.Sprintf("V%d,P1,,Ann,01/02/1950,02/07/2026,£5\n", i) }
	utf, cp := row(1), string(encoded(t, row(2), "windows-1252"))
	for _, file := range []string{header + "\n" + utf + cp, header + "\n" + cp + utf} {
		all, err := read(mapping(t, small), "visits.csv", []byte(file))
		if err != nil || len(good(all)) != 1 || len(bad(all)) != 1 || !strings.Contains(bad(all)[0], "encoding") {
			t.Errorf("%v: %d good, %v", err, len(good(all)), bad(all))
		}
	}
}

func TestARunawayQuoteLosesOneRow(t *testing.T) {
	var b strings.Builder
	b.WriteString(header + "\n")
	for i := range 20_000 {
		reason := strings.Repeat("fine ", 90)
		if i == 5 || i == 19_000 {
			reason = `"never closed`
		}
		fmt.Fprintf(&b, "V%d,P%d,,Ann,01/02/1950,02/07/2026,%s\n", i, i, reason)
	}
	all, err := read(mapping(t, small), "visits.csv", []byte(b.String()))
	if err != nil {
		t.Fatal(err)
	}
	if g, r := len(good(all)), bad(all); g != 19_998 || len(r) != 2 || !strings.HasPrefix(r[0], "row 7:") {
		t.Errorf("%d good rows, rejected %v", g, r)
	}
}

// hostile files: what is measured is that reading them ends, in memory that does not grow with them.
func TestHostileFilesEnd(t *testing.T) {
	n := 2 << 20
	if os.Getenv("TOMBOLO_SOAK") != "" {
		n = 8 << 20
	}
	for name, line := range map[string]string{
		"every line opens a quote": `a","b` + "\n",
		"only quotes":              `"`,
		"only delimiters":          ",",
		"only newlines":            "\n",
		"one endless cell":         "x",
		"quoted newlines":          "\"\n",
		"control bytes":            "\x00\x01\n",
	} {
		t.Run(name, func(t *testing.T) {
			src := io.MultiReader(strings.NewReader(header+"\n"), io.LimitReader(&repeating{[]byte(line), 0}, int64(n)))
			rows := 0
			peak := measure(func() {
				for d := range Deliveries("clinic", mapping(t, small), "visits.csv", src, nil) {
					rows++
					if d.Rejected == nil {
						t.Errorf("taken: %q", d.Raw)
						return
					}
				}
			})
			if peak > 128<<20 {
				t.Errorf("peak heap %d MiB", peak>>20)
			}
		})
	}
}

// repeating gives its bytes over and over.
type repeating struct {
	b []byte
	i int
}

func (r *repeating) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = r.b[r.i]
		r.i = (r.i + 1) % len(r.b)
	}
	return len(p), nil
}

// measure is the most heap in use while f runs, sampled.
func measure(f func()) uint64 {
	runtime.GC()
	stop, peak := make(chan struct{}), make(chan uint64)
	go func() {
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		var top uint64
		var m runtime.MemStats
		for {
			runtime.ReadMemStats(&m)
			top = max(top, m.HeapInuse)
			select {
			case <-stop:
				peak <- top
				return
			case <-tick.C:
			}
		}
	}()
	f()
	close(stop)
	return <-peak
}

func TestMemoryDoesNotFollowTheFile(t *testing.T) {
	want := 16 << 20 // enough to show that memory does not follow the file; make soak reads the hundred
	if os.Getenv("TOMBOLO_SOAK") != "" {
		want = 100 << 20
	}
	rows := 0
	src := &generated{left: want}
	peak := measure(func() {
		for d, err := range Deliveries("clinic", mapping(t, small), "visits.csv", src, nil) {
			if err != nil || d.Rejected != nil {
				t.Fatal(err, d.Rejected)
			}
			rows++
		}
	})
	if rows != src.rows || rows == 0 {
		t.Errorf("%d rows of %d", rows, src.rows)
	}
	if peak > 64<<20 {
		t.Errorf("peak heap %d MiB for a file of %d MiB", peak>>20, want>>20)
	}
	t.Logf("%d rows, peak heap %d MiB", rows, peak>>20)
}

// generated is a long file made on the fly.
type generated struct {
	left, rows int
	pending    []byte
}

func (g *generated) Read(p []byte) (int, error) {
	for len(g.pending) < len(p) && g.left > 0 {
		if g.rows == 0 {
			g.pending = append(g.pending, header+"\r\n"...)
		}
		g.rows++
		before := len(g.pending)
		g.pending = fmt.Appendf(g.pending, "V%d,P%d,9990000107,Taylor,12/03/1948,02/07/2026 09:30,\"Wound, left leg; dressing changed, no sign of infection\r\nSeen with daughter\"\r\n", g.rows, g.rows/7)
		g.left -= len(g.pending) - before
	}
	if len(g.pending) == 0 {
		return 0, io.EOF
	}
	n := copy(p, g.pending)
	g.pending = g.pending[:copy(g.pending, g.pending[n:])]
	return n, nil
}

func TestTheSameExtractGivesTheSameDeliveries(t *testing.T) {
	m, file := mapping(t, small), header+"\nV1,P1,,Ann,01/02/1950,02/07/2026,a\nV2,P1,,Ann,01/02/1950,02/07/2026,b\n"
	first, _ := read(m, "in/visits.csv@1", []byte(file))
	second, _ := read(m, "visits.csv@1", []byte(file))
	for i := range first {
		if first[i].ID != second[i].ID || !bytes.Equal(first[i].Raw, second[i].Raw) {
			t.Errorf("row %d: %s and %s", i, first[i].ID, second[i].ID)
		}
	}
	if next, _ := read(m, "visits.csv@2", []byte(file)); next[0].ID == first[0].ID || next[0].Content[1].ID() != first[0].Content[1].ID() {
		t.Error("the next night's row must be a new delivery of the same resource")
	}
}

func TestNumbersOfPeopleStayOutOfIds(t *testing.T) {
	m := mapping(t, "mapping: m/1\npatient: {id: nhs, nhs: nhs}\nfiles: [{name: a.csv, key: [nhs, n]}]")
	all, err := read(m, "a.csv", []byte("nhs,n\n999 000 0107,1\n"))
	if err != nil || len(good(all)) != 1 {
		t.Fatal(err, bad(all))
	}
	for _, s := range []string{all[0].ID, all[0].Patient, string(all[0].Content[0].Ref())} {
		if strings.Contains(strings.NewReplacer(" ", "", "-", "").Replace(s), "9990000107") {
			t.Errorf("%s holds an NHS number", s)
		}
	}
}

func TestARowCanTakeBack(t *testing.T) {
	m := mapping(t, strings.Replace(small, "    key: visit\n", "    key: visit\n    removed: reason == 'entered in error'\n", 1))
	all, err := read(m, "visits.csv", []byte(header+"\nV1,P1,,Ann,01/02/1950,02/07/2026,Entered in error\n"))
	if err != nil || len(good(all)) != 1 {
		t.Fatal(err, bad(all))
	}
	if d := all[0]; !slices.Equal(d.Delete, []fhir.Ref{"Encounter/V1"}) || len(d.Content) != 0 || d.Patient != "P1" {
		t.Errorf("got %v %v", d.Delete, d.Content)
	}
}

const documents = `mapping: letters/1
patient: {id: patient, family: surname}
files:
  - name: manifest.csv
    key: doc
    make:
      - type: DocumentReference
        heading: documents
        file: file
        types: [application/pdf, text/plain]
        set: {status: current}
        fields:
          meta.security[0].code: label
`

func TestDocumentsStayInTheirFolder(t *testing.T) {
	outside, drop := t.TempDir(), t.TempDir()
	for name, data := range map[string]string{
		filepath.Join(outside, "secret.txt"):       "secret",
		filepath.Join(drop, "visits.csv"):          "another extract",
		filepath.Join(drop, "letters", "a.txt"):    "Dear £",
		filepath.Join(drop, "letters", "b.pdf"):    "%PDF-1.4\n1 0 obj\n",
		filepath.Join(drop, "letters", "page.txt"): "<html><script>alert(1)</script>",
		filepath.Join(drop, "letters", "pic.pdf"):  "GIF89a......",
		filepath.Join(drop, "letters", "none.txt"): "",
	} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, []byte(data), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Symlink(filepath.Join(outside, "secret.txt"), filepath.Join(drop, "letters", "link.txt")),
		os.Symlink(outside, filepath.Join(drop, "letters", "out")),
		os.WriteFile(filepath.Join(drop, "letters", "big.txt"), bytes.Repeat([]byte("x"), maxDocument+1), 0o600)); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(drop)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = root.Close() }()
	for file, want := range map[string]string{
		"a.txt": "", "b.pdf": "", `sub\..\a.txt`: "leaves the drop folder",
		"../visits.csv": "leaves the drop folder", "../../etc/passwd": "leaves the drop folder", "/etc/passwd": "leaves the drop folder",
		`C:\Windows\win.ini`: "leaves the drop folder", "link.txt": "must be a plain file inside", "out/secret.txt": "must be a plain file inside",
		".": "not of a file", "missing.pdf": "send the manifest again", "page.txt": "text/html", "pic.pdf": "image/gif", "none.txt": "is empty", "big.txt": "larger than 10 MiB", "": "does not name its file",
	} {
		row := "doc,patient,surname,file,label\nD1,P1,Taylor," + file + ",NOPAT\n"
		for d, err := range Deliveries("clinic", mapping(t, documents), "manifest.csv", strings.NewReader(row), Documents(root, "letters")) {
			switch {
			case err != nil:
				t.Errorf("%s: %v", file, err)
			case want != "":
				if d.Rejected == nil || !strings.Contains(d.Rejected.Error(), want) || d.Rejected.Expression != "row 2, column file" {
					t.Errorf("%s: got %v, want %q", file, d.Rejected, want)
				}
			case d.Rejected != nil || len(d.Content) != 3:
				t.Errorf("%s: %v", file, d.Rejected)
			default:
				ref, bin := d.Content[1], d.Content[2]
				if ref.Text("content.attachment.url") != "Binary/D1" || bin.ID() != "D1" || bin.Text("meta.security.code") != "NOPAT" || bin.Text("securityContext.reference") != "Patient/P1" {
					t.Errorf("%s: %s %s", file, ref.Raw(), bin.Raw())
				}
			}
		}
	}
	for d := range Deliveries("clinic", mapping(t, documents), "manifest.csv", strings.NewReader("doc,patient,surname,file,label\nD1,P1,T,a.txt,\n"), nil) {
		if d.Rejected == nil {
			t.Error("a document was taken although there is nowhere to open it")
		}
	}
}

func TestANamedPipeDoesNotHangTheReader(t *testing.T) {
	drop := t.TempDir()
	if err := mkfifo(filepath.Join(drop, "pipe")); err != nil {
		t.Skip("no named pipes here:", err)
	}
	root, err := os.OpenRoot(drop)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = root.Close() }()
	if _, err := Documents(root, ".")("pipe"); !fhir.Is(err, fhir.Forbidden) {
		t.Errorf("got %v", err)
	}
}

func TestAReaderThatFailsIsNotTheContentsFault(t *testing.T) {
	broken := io.MultiReader(strings.NewReader(header+"\nV1,P1,,Ann,01/02/1950,02/07/2026,a\n"), errReader{})
	var last error
	n := 0
	for d, err := range Deliveries("clinic", mapping(t, small), "visits.csv", broken, nil) {
		if last = err; err == nil && d.Rejected == nil {
			n++
		}
	}
	if !fhir.Is(last, fhir.Transient) || n != 1 {
		t.Errorf("after %d rows: %v", n, last)
	}
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, fs.ErrClosed }

func BenchmarkDeliveries(b *testing.B) {
	m := mapping(b, small)
	b.ReportAllocs()
	src := &generated{left: 1 << 62}
	n := 0
	b.ResetTimer()
	for d, err := range Deliveries("clinic", m, "visits.csv", src, nil) {
		if err != nil || d.Rejected != nil {
			b.Fatal(err, d.Rejected)
		}
		if n++; n >= b.N {
			break
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "rows/s")
}

// A quote that never closes must not make a quarantine entry of every later line.
func TestAFileOfBadRowsIsGivenUp(t *testing.T) {
	m, err := Parse([]byte("mapping: t/1\nmode: delta\npatient:\n  system: s\n  id: patient_id\nfiles:\n  - name: contacts*.csv\n    key: contact_id\n    make:\n      - type: Encounter\n        heading: encounters\n        set: {status: finished}\n"))
	if err != nil {
		t.Fatal(err)
	}
	file := "contact_id,patient_id\n" + strings.Repeat("C1,P1,and,more\n", 5000)
	rows, refused := 0, error(nil)
	for d, err := range Deliveries("s", m, "contacts.csv", strings.NewReader(file), nil) {
		if err != nil {
			refused = err
			continue
		}
		if d.Rejected == nil {
			t.Fatal("a bad row was taken")
		}
		rows++
	}
	if rows != mostBad || !fhir.Is(refused, fhir.Structure) {
		t.Errorf("%d rows were put aside, then %v; want %d and the file refused", rows, refused, mostBad)
	}
}
