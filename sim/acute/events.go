package acute

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"tombolo/connector/hl7v2"
	"tombolo/sim/cast"
)

// encounter is a visit from beginning to end: A01 and A03 for a stay, A04 and A03 for an emergency attendance, one A04 for the rest.
func (w *writer) encounter(p cast.Person, pid, pd1 segment, e cast.Encounter) []Message {
	class := map[string]string{"IMP": "I", "EMER": "E"}[e.Class]
	if class == "" {
		class = "O"
	}
	event := "A04"
	if class == "I" {
		event = "A01"
	}
	clinical := append(diagnoses(e.Diagnosis), w.procedures(p, &e)...)
	body := func(ended bool) []segment {
		segs := append([]segment{pid, pd1}, w.pv1(e, class, ended), segment{"PV2", hl7v2.Fields{3: hl7v2.Comp("", e.Reason)}})
		return append(segs, clinical...)
	}
	if class == "O" || e.End == "" {
		return []Message{w.message(p, "ADT", event, parse(e.Start), body(e.End != "")...)}
	}
	return []Message{
		w.message(p, "ADT", event, parse(e.Start), body(false)...),
		w.message(p, "ADT", "A03", parse(e.End), body(true)...),
	}
}

func (w *writer) pv1(e cast.Encounter, class string, ended bool) segment {
	f := hl7v2.Fields{
		1: "1", 2: class, 3: hl7v2.Comp(e.Where, "", "", w.org.ODS), 7: clinician(e.By), 18: coded("http://snomed.info/sct", e.Code, e.Type),
		19: hl7v2.Comp(e.ID, "", "", "VISITID"), 44: compact(e.Start),
	}
	if class == "I" { // NHS Data Dictionary: admission method and source of admission
		f[4], f[14] = "21", "19"
		switch t := strings.ToLower(e.Type); {
		case strings.Contains(t, "maternity"):
			f[4] = "31"
		case strings.Contains(t, "birth"):
			f[4], f[14] = "82", "79"
		}
	}
	if ended {
		f[45] = compact(e.End)
		if class == "I" {
			f[36] = "19" // discharged to the usual place of residence
		}
	}
	return segment{"PV1", f}
}

// report is ORU^R01: a panel of the laboratory, or the words of an imaging report.
func (w *writer) report(p cast.Person, pid, pd1 segment, r cast.Report) Message {
	section, state := "LAB", map[string]string{"final": "F", "preliminary": "P", "corrected": "C", "amended": "C", "cancelled": "X", "registered": "I"}[r.Status]
	if r.Imaging {
		section = "RAD"
	}
	if state == "" {
		state = "F"
	}
	obr := hl7v2.Fields{1: "1", 2: "O" + r.ID, 3: r.ID, 4: coded(r.System, r.Code, r.Display), 7: compact(r.Date), 22: compact(r.Date), 24: section, 25: state}
	if r.Imaging {
		words := strings.Fields(r.By)
		if len(words) > 1 {
			obr[32] = hl7v2.Comp(hl7v2.Sub("", words[len(words)-1], strings.Join(words[1:len(words)-1], " "), "", "", words[0]))
		}
	}
	segs := []segment{pid, pd1, {"ORC", hl7v2.Fields{1: "RE", 2: "O" + r.ID, 3: r.ID}}, {"OBR", obr}}
	if r.Imaging {
		for i, l := range strings.Split(r.Text, "\n") {
			segs = append(segs, segment{"OBX", hl7v2.Fields{1: strconv.Itoa(i + 1), 2: "TX", 3: coded(r.System, r.Code, r.Display), 5: l, 11: state, 14: compact(r.Date)}})
		}
	} else if r.Text != "" {
		segs = append(segs, segment{"NTE", hl7v2.Fields{1: "1", 2: "L", 3: r.Text}})
	}
	for i, v := range r.Results {
		kind := "ST"
		if _, err := strconv.ParseFloat(v.Value, 64); err == nil {
			kind = "NM"
		}
		segs = append(segs, segment{"OBX", hl7v2.Fields{
			1: strconv.Itoa(i + 1), 2: kind, 3: coded(r.System, v.Code, v.Display), 5: v.Value, 6: hl7v2.Comp(v.Unit, v.Unit, "UCUM"), 7: bounds(v), 8: v.Flag,
			11: state, 14: compact(r.Date), 15: hl7v2.Comp("", r.By),
		}})
	}
	return w.message(p, "ORU", "R01", parse(r.Date), segs...)
}

func bounds(v cast.Result) string {
	switch {
	case v.Low != "" && v.High != "":
		return v.Low + "-" + v.High
	case v.High != "":
		return "<" + v.High
	case v.Low != "":
		return ">" + v.Low
	}
	return ""
}

// document is MDM^T02: text a line an OBX, a PDF encapsulated.
func (w *writer) document(p cast.Person, pid, pd1 segment, d cast.Document) Message {
	txa := hl7v2.Fields{1: "1", 2: coded("http://snomed.info/sct", d.Code, d.Type), 3: "TX", 4: compact(d.Date), 6: compact(d.Date), 9: clinician(d.By),
		12: hl7v2.Comp(d.ID, w.org.ODS), 17: "LA", 19: "AV"}
	title := coded("http://snomed.info/sct", d.Code, d.Title)
	segs := []segment{pid, pd1, {"PV1", hl7v2.Fields{1: "1", 2: "N"}}}
	if d.MIME == "application/pdf" {
		txa[3] = "AP"
		segs = append(segs, segment{"TXA", txa}, segment{"OBX", hl7v2.Fields{1: "1", 2: "ED", 3: title, 11: "F",
			5: hl7v2.Comp(w.org.ODS, "AP", "PDF", "Base64", base64.StdEncoding.EncodeToString(pdf(d.Title, d.Text)))}})
		return w.message(p, "MDM", "T02", parse(d.Date), segs...)
	}
	segs = append(segs, segment{"TXA", txa})
	for i, l := range strings.Split(d.Text, "\n") {
		segs = append(segs, segment{"OBX", hl7v2.Fields{1: strconv.Itoa(i + 1), 2: "TX", 3: title, 5: l, 11: "F"}})
	}
	return w.message(p, "MDM", "T02", parse(d.Date), segs...)
}

// appointment is S12, and then what became of it.
func (w *writer) appointment(p cast.Person, pid, pd1 segment, a cast.Appointment) []Message {
	start, end := parse(a.Start), parse(a.End)
	minutes := strconv.Itoa(int(end.Sub(start).Minutes()))
	body := func(state string) []segment {
		sch := hl7v2.Fields{1: "P" + a.ID, 2: hl7v2.Comp(a.ID, w.org.ODS), 7: hl7v2.Comp("", a.Reason), 8: hl7v2.Comp("", a.Type), 9: minutes, 10: "min",
			11: hl7v2.Comp("", "", minutes, compact(a.Start), compact(a.End)), 16: operator(w.org.ODS), 25: state}
		return []segment{{"SCH", sch}, pid, pd1, {"RGS", hl7v2.Fields{1: "1", 2: "A"}},
			{"AIS", hl7v2.Fields{1: "1", 2: "A", 3: hl7v2.Comp("", a.Type), 4: compact(a.Start), 7: minutes, 8: "min"}},
			{"AIP", hl7v2.Fields{1: "1", 2: "A", 3: clinician(a.With), 4: hl7v2.Comp("", a.Role)}},
			{"AIL", hl7v2.Fields{1: "1", 2: "A", 3: hl7v2.Comp(a.Where, "", "", w.org.ODS)}}}
	}
	booked := start.AddDate(0, 0, -60)
	if today := midnight(w.today).AddDate(0, 0, -1); booked.After(today) {
		booked = today
	}
	out := []Message{w.message(p, "SIU", "S12", booked, body("Booked")...)}
	switch a.Status {
	case "cancelled":
		out = append(out, w.message(p, "SIU", "S15", booked.AddDate(0, 0, 1), body("Cancelled")...))
	case "noshow":
		out = append(out, w.message(p, "SIU", "S26", start, body("Noshow")...))
	case "fulfilled", "arrived":
		out = append(out, w.message(p, "SIU", "S14", start, body("Complete")...))
	}
	return out
}

// pdf makes one plain page of a title and words.
func pdf(title, words string) []byte {
	var page strings.Builder
	page.WriteString("BT /F1 14 Tf 60 780 Td (" + literal(title) + ") Tj /F1 11 Tf 0 -10 Td\n")
	at := ""
	flush := func() {
		page.WriteString("0 -16 Td (" + literal(at) + ") Tj\n")
		at = ""
	}
	for _, word := range strings.Fields(words) {
		if len(at)+len(word) > 85 {
			flush()
		}
		at = strings.TrimSpace(at + " " + word)
	}
	flush()
	page.WriteString("ET")
	objects := []string{
		"<< /Type /Catalog /Pages 2 0 R >>", "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
		"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>",
		fmt.Sprintf("<< /Length %d >>\nstream\n%s\nendstream", page.Len(), page.String()),
		"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
	}
	var b bytes.Buffer
	b.WriteString("%PDF-1.4\n")
	offsets := make([]int, len(objects))
	for i, o := range objects {
		offsets[i] = b.Len()
		fmt.Fprintf(&b, "%d 0 obj\n%s\nendobj\n", i+1, o)
	}
	xref := b.Len()
	fmt.Fprintf(&b, "xref\n0 %d\n0000000000 65535 f \n", len(objects)+1)
	for _, o := range offsets {
		fmt.Fprintf(&b, "%010d 00000 n \n", o)
	}
	fmt.Fprintf(&b, "trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n", len(objects)+1, xref)
	return b.Bytes()
}

func literal(s string) string {
	return strings.NewReplacer(`\`, `\\`, "(", `\(`, ")", `\)`).Replace(strings.Map(func(r rune) rune {
		if r < ' ' || r > 126 {
			return '?'
		}
		return r
	}, s))
}
