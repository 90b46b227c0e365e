package gpconnect

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"tombolo/dataset"
	"tombolo/fhir"
)

func TestBannersBecomeRemarks(t *testing.T) {
	r := ReadHTML(`<div xmlns="http://www.w3.org/1999/xhtml"><h1>Encounters</h1>
		<div class="gptransfer-banner"><p>Patient record transfer from previous GP practice not yet complete; information recorded before 04-Feb-2026 may be missing</p></div>
		<div class="content-banner"><p>Telephone calls are not shown. Number 999 000 0107.</p></div>
		<div class="date-banner"><p>For the period '01-Jan-2020' to '31-Dec-2020'</p></div>
		<div class="exclusion-banner"><p>Items excluded due to confidentiality and/or patient preferences</p></div>
		<table id="enc-tab"><thead><tr><th>Date</th></tr></thead><tbody><tr><td>04-Feb-2020</td></tr></tbody></table></div>`)
	var got []string
	for _, is := range r.Issues() {
		got = append(got, string(is.Severity)+" "+string(is.Type)+": "+is.Text)
	}
	want := []string{
		"warning incomplete: the record from the person's previous practice has not all arrived; information recorded before 04-Feb-2026 may be missing",
		"warning suppressed: items are left out because they are confidential or because the person wishes it",
		"information incomplete: the practice says of this page: “Telephone calls are not shown. Number ….”",
		"information incomplete: the practice says of this page: “For the period '01-Jan-2020' to '31-Dec-2020'”",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if r.State() != dataset.Present || !strings.Contains(r.Clean, "04-Feb-2020") || !strings.Contains(r.Clean, "Telephone calls are not shown") {
		t.Errorf("%q: %s", r.State(), r.Clean)
	}
}

// The four sentences of the specification, and what may not be taken for them.
func TestWhatAPageTellsOfItsHeading(t *testing.T) {
	none, cannot := `<div><p>No 'Allergies' data is recorded for this patient.</p></div>`, `<div><p>This system does not support retrieval of 'Allergies' data.</p><p>This data may still exist in the source system.</p></div>`
	denied := `<div><p>Access is denied to 'Allergies' data for this patient.</p><p>This data may still exist in the source system.</p></div>`
	transfer := `<div class="gptransfer-banner"><p>Patient record transfer not yet complete; before 01-Jan-2026</p></div>`
	for name, c := range map[string]struct {
		div  string
		want dataset.State
	}{
		"none":                             {none, dataset.NoneRecorded},
		"none in both subsections":         {none + none, dataset.NoneRecorded},
		"none in one, not told in another": {none + cannot, ""},
		"none in one, denied in another":   {none + denied, dataset.NotShared},
		"not told":                         {cannot, ""},
		"not supported":                    {`<p>'Referrals' data is not supported by this system.</p>`, ""},
		"denied":                           {denied, dataset.NotShared},
		"none, and on its way":             {transfer + none, ""},
		"none, and some left out":          {`<div class="exclusion-banner"><p>Items excluded</p></div>` + none, dataset.NotShared},
		"none here, something there":       {none + `<table><tr><td>Peanut</td></tr></table>`, dataset.Present},
		"a head and no rows":               {`<table><thead><tr><td><b>Start</b></td></tr></thead><tbody></tbody></table>`, ""},
		"nothing":                          {"", ""},
		"words of the practice's own":      {`<p>See the paper notes kept in the basement, volumes one to four, for anything before 1990.</p>`, dataset.Present},
	} {
		if got := ReadHTML(c.div).State(); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestAPageMustSayWhoseItIs(t *testing.T) {
	page := func(entries string) fhir.Value {
		v, err := fhir.ParseValue([]byte(`{"resourceType":"Bundle","entry":[` + entries + `]}`))
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	patient := `{"resource":{"resourceType":"Patient","id":"3","identifier":[{"system":"http://fhir.nhs.net/Id/nhs-number","value":"9990002029"}],
		"name":[{"family":["Van","Dyke"],"given":["Nesta"]}],"birthDate":"19/01/1978"}}`
	composition := `{"resource":{"resourceType":"Composition","date":"2026-04-15T10:00:00+01:00","section":[{"text":{"div":"<table><tr><td onclick='x()'>Peanut<script>alert(1)</script></td></tr></table>"}}]}}`
	p, err := readPage(page(patient+","+composition), "ALL", "Allergies", dataset.Allergies)
	if err != nil {
		t.Fatal(err)
	}
	if p.Patient.Text("name.family") != "Van Dyke" || p.Patient.Text("identifier.system") != fhir.SystemNHSNumber || p.Patient.Get("birthDate").Exists() {
		t.Errorf("the patient: %s", p.Patient.Raw())
	}
	if dataset.HeadingOf(p.Document) != dataset.Allergies || p.Document.Text("subject.reference") != "Patient/3" || p.Document.Text("date") != "2026-04-15T09:00:00.000Z" {
		t.Errorf("the document: %s", p.Document.Raw())
	}
	for name, entries := range map[string]string{"nobody": composition, "two people": patient + "," + patient + "," + composition, "no page": patient} {
		if _, err := readPage(page(entries), "ALL", "Allergies", dataset.Allergies); fhir.IssueOf(err) == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

var allowedTags = strings.Fields("p br hr div span ul ol li dl dt dd table caption thead tbody tfoot tr th td b strong i em u sub sup h1 h2 h3 h4 h5 h6 pre blockquote")

// FuzzHTML holds the sanitiser to its word: whatever comes in, only words and structure come out, and they come out the same again.
func FuzzHTML(f *testing.F) {
	for _, s := range []string{
		`<div class="gptransfer-banner"><p>before 04-Feb-2026</p></div><table><tr><td>x</td></tr></table>`,
		`<script>alert(1)</script><img src=x onerror=alert(1)><a href="javascript:alert(1)">x</a><td colspan="2" style="x">y`,
		`<svg><style><!--</style><script>x</script>--></svg><math><mtext><table><mglyph><style><img src=x onerror=1>`,
		`<div><div><div class="content-banner exclusion-banner"><div>a</div>b`, `<p>No 'x' data is recorded for this patient.</p><!-- <b> -->`,
		"<\x00p>\xff\xfe<plaintext><noscript><p title=\"</noscript><img src=x onerror=1>\">", `<table><td></table>&lt;script&gt;&amp;lt;`, `<iframe srcdoc="<script>"></iframe><form><input></form>`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		r := ReadHTML(in)
		_, _ = r.State(), r.Issues()
		z := html.NewTokenizer(strings.NewReader(r.Clean))
		for {
			typ := z.Next()
			if typ == html.ErrorToken {
				break
			}
			if typ == html.CommentToken || typ == html.DoctypeToken {
				t.Fatalf("a %v came out of %q", typ, in)
			}
			if typ == html.TextToken {
				continue
			}
			tok := z.Token()
			if !slices.Contains(allowedTags, tok.Data) {
				t.Fatalf("<%s> came out of %q", tok.Data, in)
			}
			for _, a := range tok.Attr {
				if a.Key != "colspan" && a.Key != "rowspan" {
					t.Fatalf("%s=%q came out of %q", a.Key, a.Val, in)
				}
			}
		}
		if again := ReadHTML(r.Clean).Clean; again != r.Clean && strings.Join(strings.Fields(again), " ") != strings.Join(strings.Fields(r.Clean), " ") {
			t.Fatalf("made safe twice it is another page:\n%q\n%q", r.Clean, again)
		}
		for kind, words := range r.Banners {
			if len(words) > 20 {
				t.Fatalf("%d banners %s", len(words), kind)
			}
		}
	})
}

func BenchmarkReadHTML(b *testing.B) {
	row := `<tr><td class="date-column">04-Feb-2020</td><td>Levothyroxine sodium 100microgram tablets</td><td>One each morning</td></tr>`
	div := `<div><table><tbody>` + strings.Repeat(row, 1000) + `</tbody></table></div>`
	b.SetBytes(int64(len(div)))
	b.ReportAllocs()
	for b.Loop() {
		ReadHTML(div)
	}
}
