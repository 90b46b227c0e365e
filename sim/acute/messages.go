package acute

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"
	"time"

	"tombolo/connector/hl7v2"
	"tombolo/dataset"
	"tombolo/fhir"
	"tombolo/sim/cast"
)

// A Message is one HL7 v2.4 message as it goes on the wire.
type Message struct {
	Type    string // ADT^A01
	Control string // MSH-10
	Person  string // key of the person in the cast
	Bytes   []byte
}

// A writer makes one trust's messages.
type writer struct {
	source string
	org    cast.Organisation
	people []cast.Person
	today  time.Time
	wrong  bool // mixes up identities: one person's local number with the next one's name and NHS number
}

type segment struct {
	name   string
	fields hl7v2.Fields
}

// structures are MSH-9.3. HL7 v2.4 table 0354
var structures = map[string]string{"A01": "ADT_A01", "A04": "ADT_A01", "A03": "ADT_A03", "A28": "ADT_A05", "A31": "ADT_A05", "A40": "ADT_A39", "R01": "ORU_R01", "T02": "MDM_T02",
	"S12": "SIU_S12", "S14": "SIU_S12", "S15": "SIU_S12", "S26": "SIU_S12"}

// message puts a header before segments. Its control id is made of its content and its time is that of the event, so that the same event is the same
// message however often the trust is started.
func (w *writer) message(p cast.Person, code, event string, at time.Time, segs ...segment) Message {
	var body hl7v2.Encoder
	if code == "ADT" || code == "MDM" {
		segs = append([]segment{{"EVN", hl7v2.Fields{2: stamp(at), 5: operator(w.org.ODS), 6: stamp(at)}}}, segs...)
	}
	for _, s := range segs {
		body.Segment(s.name, s.fields)
	}
	sum := sha256.Sum256(append([]byte(code+event), body.Bytes()...))
	control := strings.ToUpper(hex.EncodeToString(sum[:10]))
	var e hl7v2.Encoder
	e.Segment("MSH", hl7v2.Fields{
		3: "PAS", 4: w.org.ODS, 5: "TOMBOLO", 6: "SEVERN", 7: stamp(at), 9: hl7v2.Comp(code, event, structures[event]), 10: control, 11: "P", 12: "2.4",
		17: "GBR", 18: "UNICODE", 19: "EN", 21: "iTKv1.0", // ITK HL7 v2 message specifications, MSH
	})
	return Message{Type: code + "^" + event, Control: control, Person: p.Key, Bytes: append(e.Bytes(), body.Bytes()...)}
}

// person is everything about one person, in the order it happened: registered, seen, tested, written about, booked, and last what is known now.
func (w *writer) person(i int) []Message {
	p := w.people[i]
	shown := p
	if w.wrong && len(w.people) > 1 {
		q := w.people[(i+1)%len(w.people)]
		shown.NHS, shown.CHI, shown.Given, shown.Family, shown.Born, shown.Sex = q.NHS, q.CHI, q.Given, q.Family, q.Born, q.Sex
	}
	var out []Message
	began := w.began(p)
	if p.OldMRN != "" {
		old := shown
		if len(p.OldNHS) > 0 {
			old.NHS, old.NHSStatus = p.OldNHS[0], "02"
		}
		out = append(out, w.message(p, "ADT", "A28", began.AddDate(0, 0, -30), w.pid(old, p.OldMRN, false), w.pd1(p)))
	}
	mrn := p.LocalID(w.source)
	pid, pd1 := w.pid(shown, mrn, false), w.pd1(p)
	registered := append([]segment{pid, pd1}, w.contacts(p)...)
	registered = append(registered, w.allergies(p)...)
	registered = append(registered, w.problems(p)...)
	registered = append(registered, w.procedures(p, nil)...)
	out = append(out, w.message(p, "ADT", "A28", began, registered...))
	if p.OldMRN != "" {
		mrg := segment{"MRG", hl7v2.Fields{1: hl7v2.Comp(p.OldMRN, "", "", w.org.ODS, "PI"), 7: names(shown)}}
		out = append(out, w.message(p, "ADT", "A40", began.Add(time.Hour), pid, pd1, mrg))
	}
	for _, e := range p.EncountersAt(w.source) {
		out = append(out, w.encounter(p, pid, pd1, e)...)
	}
	for _, r := range p.ReportsAt(w.source) {
		out = append(out, w.report(p, pid, pd1, r))
	}
	for _, d := range p.DocumentsAt(w.source) {
		out = append(out, w.document(p, pid, pd1, d))
	}
	for _, a := range p.AppointmentsAt(w.source) {
		out = append(out, w.appointment(p, pid, pd1, a)...)
	}
	if p.Died != "" || p.Preferred != "" {
		now := append([]segment{w.pid(shown, mrn, true), pd1}, w.contacts(p)...)
		out = append(out, w.message(p, "ADT", "A31", midnight(w.today), append(now, w.allergies(p)...)...))
	}
	return out
}

// began is the day before the trust first saw the person.
func (w *writer) began(p cast.Person) time.Time {
	first := midnight(w.today)
	see := func(s string) {
		if t := parse(s); !t.IsZero() && t.Before(first) {
			first = t
		}
	}
	for _, e := range p.EncountersAt(w.source) {
		see(e.Start)
	}
	for _, r := range p.ReportsAt(w.source) {
		see(r.Date)
	}
	return midnight(first).AddDate(0, 0, -1)
}

// pid is PID as ITK has it. now adds what became known last: the preferred name and a death.
func (w *writer) pid(p cast.Person, mrn string, now bool) segment {
	var numbers []any
	if p.NHS != "" {
		numbers = append(numbers, hl7v2.Comp(p.NHS, "", "", "NHS", "NH"))
	}
	if p.CHI != "" {
		numbers = append(numbers, hl7v2.Comp(p.CHI, "", "", "CHI", "NI"))
	}
	numbers = append(numbers, hl7v2.Comp(mrn, "", "", w.org.ODS, "PI"))
	f := hl7v2.Fields{
		1: "1", 3: hl7v2.Rep(numbers...), 5: names(p), 7: compact(p.Born), 8: map[string]string{"male": "1", "female": "2"}[p.Sex],
		11: hl7v2.Comp(line(p.Address, 0), line(p.Address, 1), p.City, "", p.Postcode, "GBR", "H"), 13: phone(p.Phone), 15: "EN", 22: p.Ethnicity, 32: p.NHSStatus,
	}
	if m := slices.IndexFunc(w.people, func(q cast.Person) bool { return p.Mother != "" && q.Key == p.Mother }); m >= 0 {
		f[21] = hl7v2.Comp(w.people[m].LocalID(w.source), "", "", w.org.ODS, "PI")
	}
	if now {
		if p.Preferred != "" {
			f[5] = hl7v2.Rep(names(p), hl7v2.Comp(p.Family, p.Preferred, "", "", "", "", "N"))
		}
		if p.Died != "" {
			f[29], f[30] = compact(p.Died), "Y"
		}
	}
	return segment{"PID", f}
}

// pd1 is the registered practice, and whether the person's whereabouts are to be protected.
func (w *writer) pd1(p cast.Person) segment {
	f := hl7v2.Fields{}
	for _, o := range cast.Organisations {
		if o.ODS == p.Practice && p.Practice != "" {
			f[3] = hl7v2.Comp(o.Name, "", o.ODS)
		}
	}
	if p.Restricted {
		f[12] = "Y"
	}
	return segment{"PD1", f}
}

// relations: HL7 table 0063 for words that the cast uses.
var relations = map[string]string{"Mother": "MTH", "Father": "FTH", "Daughter": "CHD", "Son": "CHD", "Wife": "SPO", "Husband": "SPO", "Partner": "DOM",
	"Brother": "BRO", "Sister": "SIS", "Friend": "FND", "Parent": "PAR"}

func (w *writer) contacts(p cast.Person) []segment {
	var out []segment
	for i, r := range p.RelationsAt(w.source) {
		code := relations[r.Relationship]
		if code == "" {
			code = "OTH"
		}
		f := hl7v2.Fields{1: strconv.Itoa(i + 1), 2: person(r.Name, "L"), 3: hl7v2.Comp(code, r.Relationship, "HL70063"), 5: phone(r.Phone)}
		if r.NextOfKin {
			f[7] = "N"
		}
		out = append(out, segment{"NK1", f})
	}
	return out
}

func (w *writer) allergies(p cast.Person) []segment {
	var out []segment
	for i, a := range p.ItemsAt(w.source, dataset.Allergies) {
		kind := "MA"
		switch d := strings.ToLower(a.Display); {
		case strings.Contains(d, "penicillin") || strings.Contains(d, "cillin"):
			kind = "DA"
		case strings.Contains(d, "peanut") || strings.Contains(d, "egg") || strings.Contains(d, "shellfish"):
			kind = "FA"
		}
		severity := map[string]string{"high": "SV", "severe": "SV", "moderate": "MO", "low": "MI", "mild": "MI"}[a.Level]
		out = append(out, segment{"AL1", hl7v2.Fields{1: strconv.Itoa(i + 1), 2: kind, 3: coded(a.System, a.Code, a.Display), 4: severity, 5: a.Text, 6: compact(a.Date)}})
	}
	return out
}

// problems are the diagnoses that the trust holds without a visit.
func (w *writer) problems(p cast.Person) []segment {
	return diagnoses(p.ItemsAt(w.source, dataset.Problems))
}

func diagnoses(items []cast.Item) []segment {
	var out []segment
	for i, d := range items {
		out = append(out, segment{"DG1", hl7v2.Fields{1: strconv.Itoa(i + 1), 3: coded(d.System, d.Code, d.Display), 5: compact(d.Date), 6: "F", 16: clinician(d.By)}})
	}
	return out
}

// procedures are those done in an encounter; with none, those done in no encounter that the trust holds.
func (w *writer) procedures(p cast.Person, e *cast.Encounter) []segment {
	var out []segment
	for _, it := range p.ItemsAt(w.source, dataset.Procedures) {
		in := slices.IndexFunc(p.EncountersAt(w.source), func(e cast.Encounter) bool { return during(it.Date, e) })
		if e == nil && in >= 0 || e != nil && !during(it.Date, *e) {
			continue
		}
		out = append(out, segment{"PR1", hl7v2.Fields{1: strconv.Itoa(len(out) + 1), 2: table(it.System), 3: coded(it.System, it.Code, it.Display), 5: compact(it.Date), 11: clinician(it.By)}})
	}
	return out
}

func during(date string, e cast.Encounter) bool {
	d := compact(date)
	if len(d) > 8 {
		d = d[:8]
	}
	start, end := compact(e.Start), compact(e.End)
	return len(start) >= 8 && d >= start[:8] && (len(end) < 8 || d <= end[:8])
}

// table is the name of a code system in messages. HL7 table 0396
func table(system string) string {
	switch system {
	case fhir.SystemSNOMED:
		return "SCT"
	case fhir.SystemICD10:
		return "I10"
	case fhir.SystemOPCS4:
		return "OPCS4"
	case fhir.SystemLOINC:
		return "LN"
	}
	return system
}

func coded(system, code, display string) hl7v2.Part {
	if code == "" {
		return hl7v2.Comp("", display)
	}
	return hl7v2.Comp(code, display, table(system))
}

func names(p cast.Person) hl7v2.Part {
	return hl7v2.Comp(p.Family, line(p.Given, 0), strings.Join(p.Given[min(1, len(p.Given)):], " "), "", p.Prefix, "", "L")
}

// person is a name in words as an XPN: the last word is the family name.
func person(name, use string) hl7v2.Part {
	words := strings.Fields(name)
	if len(words) == 0 {
		return hl7v2.Part{}
	}
	return hl7v2.Comp(words[len(words)-1], strings.Join(words[:len(words)-1], " "), "", "", "", "", use)
}

var titles = []string{"Dr", "Mr", "Mrs", "Ms", "Miss", "Prof", "Sr"}

// clinician is a name in words as an XCN, with a consultant code made of it.
func clinician(name string) hl7v2.Part {
	words := strings.Fields(name)
	if len(words) == 0 {
		return hl7v2.Part{}
	}
	prefix := ""
	if len(words) > 1 && slices.Contains(titles, words[0]) {
		prefix, words = words[0], words[1:]
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(name))
	return hl7v2.Comp(fmt.Sprintf("C9%06d", h.Sum32()%1_000_000), words[len(words)-1], strings.Join(words[:len(words)-1], " "), "", "", prefix, "", "", "GMC")
}

func operator(ods string) hl7v2.Part {
	return hl7v2.Comp("999999999", "Clerk", "Ward", "", "", "Ms", "", "", ods)
}

func phone(n string) any {
	switch {
	case n == "":
		return nil
	case strings.HasPrefix(n, "07"):
		return hl7v2.Comp(n, "PRN", "CP")
	}
	return hl7v2.Comp(n, "PRN", "PH")
}

func line(list []string, n int) string {
	if n < len(list) {
		return list[n]
	}
	return ""
}

// compact is a FHIR date as an HL7 one, to the same precision. The offset is left out, as British systems do: it is the time in London.
func compact(s string) string {
	if len(s) <= 10 {
		return strings.ReplaceAll(s, "-", "")
	}
	t := parse(s)
	if t.IsZero() {
		return ""
	}
	return stamp(t)
}

func stamp(t time.Time) string { return t.In(fhir.London).Format("20060102150405") }

func parse(s string) time.Time {
	span, err := fhir.ParseDate(s)
	if err != nil {
		return time.Time{}
	}
	return span.Start
}

func midnight(t time.Time) time.Time {
	y, m, d := t.In(fhir.London).Date()
	return time.Date(y, m, d, 0, 0, 0, 0, fhir.London)
}
