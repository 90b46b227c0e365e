package cast

import "time"

// A Surgery is what a GP practice alone holds of somebody, in more detail than the plain facts have: it is there so that the simulated
// practices serve records as rich as real ones. Everybody's plain facts are as they were.
type Surgery struct {
	Items         []Item // with Label Withheld: left out by the practice, which says so
	Medications   []Medication
	Consultations []Consultation
	Panels        []Panel
	Documents     []Letter
	Arriving      string // the day somebody registered, while the record of the practice before is still on its way
}

// Withheld is the label of what a practice keeps to itself because it is confidential or the person wishes it.
const Withheld = "withheld"

// A Consultation is an encounter with its topics, each with its parts, in the order in which they were written.
type Consultation struct {
	Encounter
	Topics []Topic
}

// A Topic of a consultation; Problem is the code of the problem that it is about, if it is about one.
type Topic struct {
	Title, Problem string
	Parts          []Part
}

// A Part of a topic: History, Examination, Plan.
type Part struct {
	Title string
	Lines []Item
}

// A Panel is a laboratory report whose results stand in groups.
type Panel struct {
	Report
	Groups []Group
}

// A Group of results, with what the clinician said when filing it.
type Group struct {
	Code, Display, Comment string
	Results                []Result
}

// A Letter is a document that a practice keeps. Missing says why there is no file; Size is given where the file is too large to hand out.
type Letter struct {
	Document
	Missing string
	Size    int
}

// SurgeryOf is what the practice where somebody is registered holds of them beyond the plain facts.
func SurgeryOf(key string, today time.Time) Surgery {
	switch key {
	case "priya":
		return priyasSurgery(today)
	case "sam":
		return Surgery{Items: []Item{{Heading: "problems", System: sct, Code: "8098009", Display: "Sexually transmitted infectious disease", Date: day(today, 101),
			Status: "resolved", Label: Withheld, By: "Dr Yasmin Noor", Held: []string{GP2}}}}
	case "laura":
		return Surgery{Arriving: day(today, 20)}
	}
	return Surgery{}
}

// thyroid is a report of how the thyroid does.
func thyroid(id, date, tsh, tshFlag, t4, t4Flag string) Panel {
	return Panel{Report: Report{ID: id, Code: "61167004", Display: "Thyroid function tests", System: sct, Date: date, Status: "final", By: "Severn Pathology", Held: []string{GP2}},
		Groups: []Group{{Code: "61167004", Display: "Thyroid function tests", Results: []Result{
			{"1022791000000101", "Serum TSH level", tsh, "mU/L", "0.3", "5.5", tshFlag}, {"1030801000000101", "Serum free T4 level", t4, "pmol/L", "9.0", "19.0", t4Flag}}}}}
}

func priyasSurgery(t time.Time) Surgery {
	gp := []string{GP2}
	var issues []string
	for n := 14; n >= 1; n-- {
		issues = append(issues, day(t, 28*n))
	}
	return Surgery{
		Medications: []Medication{{Code: "376988009", Display: "Levothyroxine sodium 100microgram tablets", Dose: "One to be taken each morning, half an hour before breakfast",
			Quantity: "28", Unit: "tablet", Type: "repeat", Start: day(t, 392), Status: "active", Issues: issues, By: "Dr Yasmin Noor", For: "Hypothyroidism", Held: gp}},
		Consultations: []Consultation{{
			Encounter: Encounter{ID: "C-7002", Class: "AMB", Type: "Surgery consultation", Code: "185317003", Start: at(t, 34, "09:40"), End: at(t, 34, "09:58"),
				Where: "Riverside Medical Centre", By: "Dr Yasmin Noor", Role: "General practitioner", Held: gp},
			Topics: []Topic{
				{Title: "Hypothyroidism", Problem: "40930008", Parts: []Part{
					{"History", []Item{{Text: "Tired since the winter. No change of weight. Takes tablets most mornings."}}},
					{"Examination", []Item{
						{System: sct, Code: "364075005", Display: "Heart rate", Value: "58", Unit: "/min"},
						{System: sct, Code: "27113001", Display: "Body weight", Value: "71.5", Unit: "kg"}}},
					{"Plan", []Item{{Text: "Thyroid function today; see again with the result."}}},
				}},
				{Title: "Knee pain", Parts: []Part{
					{"History", []Item{{Text: "Left knee, on stairs, two months."}}},
					{"Examination", []Item{{Text: "No effusion, full range."}}},
				}},
			}}},
		Panels: []Panel{{
			Report: Report{ID: "G-7100", Code: "26604007", Display: "Full blood count", System: sct, Date: day(t, 33), Status: "final", By: "Severn Pathology", Held: gp},
			Groups: []Group{
				{Code: "26604007", Display: "Full blood count", Comment: "Normal, no action", Results: []Result{
					{"1022431000000105", "Haemoglobin estimation", "128", "g/L", "115", "165", ""}, {"1022541000000102", "Total white cell count", "6.1", "10*9/L", "4.0", "11.0", ""},
					{"1022651000000100", "Platelet count", "262", "10*9/L", "150", "450", ""}}},
				{Code: "1017401000000104", Display: "Urea and electrolytes", Comment: "Repeat in three months", Results: []Result{
					{"1000651000000109", "Serum sodium", "139", "mmol/L", "133", "146", ""}, {"1000731000000107", "Serum creatinine", "91", "umol/L", "45", "84", "H"}}},
			}},
			thyroid("G-6100", day(t, 420), "11.2", "H", "8.1", "L"), thyroid("G-6400", day(t, 330), "<0.05", "L", "22.4", "H"), thyroid("G-6700", day(t, 150), "2.9", "", "14.0", ""),
		},
		Documents: []Letter{
			{Document: Document{ID: "L-1", Type: "Letter", Code: "823571000000103", Title: "Endocrinology clinic letter", Date: at(t, 120, "11:00"), By: "Severn Acute Trust", MIME: "text/plain",
				Text: "Seen in clinic. Levothyroxine to continue at 100 micrograms. Thyroid function in three months.", Held: gp}},
			{Document: Document{ID: "L-2", Type: "Letter", Code: "823571000000103", Title: "Letter from previous practice", Date: at(t, 3000, "09:00"), By: "Riverside Medical Centre", Held: gp},
				Missing: "The file was not received with the transfer of the record"},
			{Document: Document{ID: "L-3", Type: "Letter", Code: "823571000000103", Title: "Scanned notes 1990 to 2005", Date: at(t, 2900, "09:00"), By: "Riverside Medical Centre", MIME: "application/pdf", Held: gp},
				Size: 9 << 20},
		},
	}
}
