package cast

import (
	"time"

	d "tombolo/dataset"
	"tombolo/fhir"
)

func george(t time.Time) Person {
	return Person{
		Key: "george", Shows: "two hospital numbers merged into one, and a superseded NHS number",
		NHS: NHSNumber("999000021"), OldNHS: []string{NHSNumber("999000032")}, NHSStatus: "01", Prefix: "Mr", Given: []string{"George"}, Family: "Okafor",
		Born: "1955-07-30", Sex: "male", Address: []string{"3 Mill Street"}, City: "Severnmouth", Postcode: "GL99 2CD", Phone: "01632 960102",
		Ethnicity: "N", Practice: "M85002", OldMRN: "RX9990002", Known: []string{GP2, Acute, Ambulance},
		Items: []Item{
			{Heading: d.Problems, System: sct, Code: "53741008", Display: "Coronary arteriosclerosis", Date: "2018-02-01", Status: "active", By: "Dr Yasmin Noor", Held: []string{GP2}},
			{Heading: d.Allergies, System: sct, Code: "716186003", Display: "No known allergy", Date: "2024-01-12", Status: "active", By: "Dr Yasmin Noor", Held: []string{GP2}},
		},
		Medications: []Medication{{Code: "319996000", Display: "Simvastatin 40mg tablets", Dose: "One at night", Quantity: "28", Unit: "tablet", Type: "repeat", Start: "2018-03-01", Status: "active", Issues: []string{day(t, 20)}, By: "Dr Yasmin Noor", Held: []string{GP2}}},
		Encounters: []Encounter{
			{ID: "V900100", Class: "EMER", Type: "Emergency department attendance", Start: at(t, 400, "19:05"), End: at(t, 400, "23:40"), Reason: "Chest pain", Where: "Emergency Department", By: "Dr Femi Ade", Role: "Consultant in emergency medicine", Held: []string{Acute}},
		},
	}
}

// The twins share birth date, surname, address and practice; only given name, number and facts tell them apart.
func twin(t time.Time, key string) Person {
	p := Person{
		Key: key, Shows: "twins: same birth date, surname and address", NHSStatus: "01", Prefix: "Miss", Family: "Khan",
		Born: "2015-11-05", Sex: "female", Address: []string{"27 Harbour View"}, City: "Severnmouth", Postcode: "GL99 3EF", Phone: "01632 960103",
		Ethnicity: "J", Practice: "M85001", Known: []string{GP1, Acute},
	}
	if key == "aisha" {
		p.NHS, p.Given = NHSNumber("999000043"), []string{"Aisha"}
		p.Items = []Item{{Heading: d.Allergies, System: sct, Code: "91935009", Display: "Allergy to peanuts", Text: "Anaphylaxis", Date: "2018-04-02", Status: "active", Level: "high", By: "Dr Helen Marsh", Held: []string{GP1, Acute}}}
	} else {
		p.NHS, p.Given = NHSNumber("999000054"), []string{"Anisa"}
		p.Items = []Item{{Heading: d.Problems, System: sct, Code: "195967001", Display: "Asthma", Date: "2020-10-10", Status: "active", By: "Dr Helen Marsh", Held: []string{GP1}}}
	}
	p.Encounters = []Encounter{{ID: "V91" + p.NHS[6:9], Class: "AMB", Type: "Outpatient attendance, paediatrics", Start: at(t, 90, "09:30"), End: at(t, 90, "10:00"), Reason: "Paediatric review", Where: "Children's outpatients", By: "Dr Ella Moss", Role: "Consultant paediatrician", Held: []string{Acute}}}
	return p
}

func chloe(t time.Time) Person {
	return Person{
		Key: "chloe", Shows: "a restricted address: where she lives and is seen must not be shown", Restricted: true,
		NHS: NHSNumber("999000065"), NHSStatus: "01", Prefix: "Ms", Given: []string{"Chloe"}, Family: "Bennett",
		Born: "1990-02-14", Sex: "female", Address: []string{"Flat 2, 9 Quay Road"}, City: "Severnmouth", Postcode: "GL99 4GH", Phone: "07700 900123",
		Ethnicity: "A", Practice: "M85002", Known: []string{GP2, Acute, Council},
		Items: []Item{
			{Heading: d.Problems, System: sct, Code: "197480006", Display: "Anxiety disorder", Date: "2021-05-05", Status: "active", By: "Dr Yasmin Noor", Held: []string{GP2}},
			{Heading: d.Safeguarding, Display: "Domestic abuse: MARAC", Text: "Contact only by safe number", Date: day(t, 70), Status: "active", Label: "NOPAT", By: "Dawn Hibbert", Held: []string{Council}},
		},
		Encounters: []Encounter{{ID: "V900311", Class: "EMER", Type: "Emergency department attendance", Start: at(t, 75, "23:20"), End: at(t, 74, "03:10"), Reason: "Head injury", Where: "Emergency Department", By: "Dr Femi Ade", Role: "Consultant in emergency medicine", Held: []string{Acute}}},
	}
}

func daniel(t time.Time) Person {
	return Person{
		Key: "daniel", Shows: "objects to his record being shared", Objects: true,
		NHS: NHSNumber("999000077"), NHSStatus: "01", Prefix: "Mr", Given: []string{"Daniel", "Kwame"}, Family: "Osei",
		Born: "1979-12-01", Sex: "male", Address: []string{"51 Castle Rise"}, City: "Severnmouth", Postcode: "GL99 5JK", Phone: "01632 960105",
		Ethnicity: "N", Practice: "M85001", Known: []string{GP1, Acute, Mental},
		Items: []Item{
			{Heading: d.Problems, System: sct, Code: "84757009", Display: "Epilepsy", Date: "1996-03-03", Status: "active", By: "Dr Helen Marsh", Held: []string{GP1}},
			penicillin(Mental),
		},
		Medications: []Medication{{Code: "322341003", Display: "Levetiracetam 500mg tablets", Dose: "One twice a day", Quantity: "56", Unit: "tablet", Type: "repeat", Start: "2012-01-01", Status: "active", Issues: []string{day(t, 15)}, By: "Dr Helen Marsh", Held: []string{GP1}}},
		Encounters:  []Encounter{{ID: "V900412", Class: "EMER", Type: "Emergency department attendance", Start: at(t, 30, "12:05"), End: at(t, 30, "16:00"), Reason: "Seizure", Where: "Emergency Department", By: "Dr Femi Ade", Role: "Consultant in emergency medicine", Held: []string{Acute}}},
	}
}

func laura(t time.Time) Person {
	return Person{
		Key: "laura", Shows: "maternity; mother of the newborn",
		NHS: NHSNumber("999000098"), NHSStatus: "01", Prefix: "Mrs", Given: []string{"Laura"}, Family: "Wright",
		Born: "1994-06-21", Sex: "female", Address: []string{"8 Orchard Close"}, City: "Severnmouth", Postcode: "GL99 6LM", Phone: "01632 960106",
		Ethnicity: "A", Practice: "M85001", Known: []string{GP1, Acute, Community},
		Items: []Item{
			{Heading: d.Maternity, System: sct, Code: "77386006", Display: "Pregnancy", Text: "Delivered at 39+4 weeks", Date: day(t, 280), End: day(t, 5), Status: "inactive", By: "Midwife Ana Silva", Held: []string{Community}},
		},
		Encounters: []Encounter{{ID: "V900510", Class: "IMP", Type: "Maternity admission", Start: at(t, 6, "21:00"), End: at(t, 4, "12:00"), Reason: "Spontaneous labour", Where: "Delivery suite", By: "Miss Ada Quinn", Role: "Consultant obstetrician", Held: []string{Acute}}},
	}
}

func baby(t time.Time) Person {
	return Person{
		Key: "baby", Shows: "a newborn: a number a few days old, few facts, mother linked", Mother: "laura",
		NHS: NHSNumber("999000101"), NHSStatus: "01", Given: []string{"Baby"}, Family: "Wright",
		Born: day(t, 5), Sex: "male", Address: []string{"8 Orchard Close"}, City: "Severnmouth", Postcode: "GL99 6LM",
		Ethnicity: "A", Known: []string{Acute, Community},
		Encounters: []Encounter{{ID: "V900511", Class: "IMP", Type: "Birth", Start: at(t, 5, "04:31"), End: at(t, 4, "12:00"), Reason: "Liveborn infant", Where: "Delivery suite", By: "Dr Ella Moss", Role: "Consultant paediatrician", Held: []string{Acute}}},
		Relations:  []Relation{{Name: "Laura Wright", Relationship: "Mother", NextOfKin: true, Held: []string{Acute}}},
	}
}

func marek(t time.Time) Person {
	return Person{
		Key: "marek", Shows: "no NHS number: known by local numbers only",
		NHSStatus: "07", Prefix: "Mr", Given: []string{"Marek"}, Family: "Nowak",
		Born: "1986-09-09", Sex: "male", Address: []string{"Caravan 4, Dock Field"}, City: "Severnmouth", Postcode: "GL99 7NP",
		Ethnicity: "C", Known: []string{Acute},
		Encounters: []Encounter{{ID: "V900600", Class: "EMER", Type: "Emergency department attendance", Start: at(t, 3, "18:45"), End: at(t, 3, "22:15"), Reason: "Laceration of hand", Where: "Emergency Department", By: "Dr Femi Ade", Role: "Consultant in emergency medicine", Held: []string{Acute}}},
	}
}

func harold(t time.Time) Person {
	return Person{
		Key: "harold", Shows: "a person who has died", Died: day(t, 14),
		NHS: NHSNumber("999000113"), NHSStatus: "01", Prefix: "Mr", Given: []string{"Harold"}, Family: "Pike",
		Born: "1934-01-25", Sex: "male", Address: []string{"Seaview Nursing Home"}, City: "Severnmouth", Postcode: "GL99 8QR", Phone: "01632 960107",
		Ethnicity: "A", Practice: "M85002", Known: []string{Acute, Community, Council},
		Items: []Item{
			{Heading: d.EndOfLife, System: sct, Code: "861421000000109", Display: "End of life care coordination summary", Text: "Preferred place of death: nursing home", Date: day(t, 60), Status: "completed", By: "Mary Osborne", Held: []string{Community}},
			{Heading: d.Legal, Display: "Deprivation of Liberty Safeguards authorisation (ended)", Text: "Standard authorisation", Date: day(t, 200), End: day(t, 14), Status: "inactive", By: "Severn County Council", Held: []string{Council}},
		},
		Encounters: []Encounter{{ID: "V900700", Class: "IMP", Type: "Admission, general medicine", Start: at(t, 30, "02:00"), End: at(t, 25, "15:00"), Reason: "Pneumonia", Where: "Ward 3A", By: "Dr Nia Pugh", Role: "Consultant physician", Held: []string{Acute}}},
	}
}

func fiona(t time.Time) Person {
	return Person{
		Key: "fiona", Shows: "a visitor from Scotland, known by a CHI number",
		CHI: NHSNumber("010185127"), NHSStatus: "07", Prefix: "Ms", Given: []string{"Fiona"}, Family: "MacLeod",
		Born: "1985-01-01", Sex: "female", Address: []string{"12 Bank Street"}, City: "Portree", Postcode: "IV51 9DA",
		Ethnicity: "A", Known: []string{Acute, Wye},
		Items:      []Item{penicillin(Acute, Wye)},
		Encounters: []Encounter{{ID: "V900800", Class: "EMER", Type: "Emergency department attendance", Start: at(t, 2, "13:00"), End: at(t, 2, "17:30"), Reason: "Fractured wrist", Where: "Emergency Department", By: "Dr Femi Ade", Role: "Consultant in emergency medicine", Held: []string{Acute}}},
	}
}

func sam(t time.Time) Person {
	return Person{
		Key: "sam", Shows: "a record with sensitive parts",
		NHS: NHSNumber("999000134"), NHSStatus: "01", Prefix: "Mx", Given: []string{"Sam"}, Family: "Ellis",
		Born: "1998-08-18", Sex: "female", Address: []string{"30 Mount Pleasant"}, City: "Severnmouth", Postcode: "GL99 9ST", Phone: "01632 960108",
		Ethnicity: "A", Practice: "M85002", Known: []string{GP2, Mental},
		Items: []Item{
			{Heading: d.Problems, System: sct, Code: "8098009", Display: "Sexually transmitted infectious disease", Date: day(t, 100), Status: "resolved", Label: "R", By: "Dr Yasmin Noor", Held: []string{Mental}},
			{Heading: d.Problems, System: sct, Code: "37796009", Display: "Migraine", Date: "2016-03-01", Status: "active", By: "Dr Yasmin Noor", Held: []string{GP2}},
			{Heading: d.RiskAssessments, System: sct, Code: "225338004", Display: "Risk assessment", Text: "Third-party information from partner", Date: day(t, 90), Status: "final", Label: "NOPAT", By: "Ruth Ellery", Held: []string{Mental}},
		},
	}
}

func leo(t time.Time) Person {
	return Person{
		Key: "leo", Shows: "a child with a protection plan",
		NHS: NHSNumber("999000145"), NHSStatus: "01", Given: []string{"Leo"}, Family: "Hughes",
		Born: "2019-05-27", Sex: "male", Address: []string{"6 Station Terrace"}, City: "Severnmouth", Postcode: "GL99 1UV",
		Ethnicity: "A", Practice: "M85001", Known: []string{GP1, Acute, Council},
		Items: []Item{
			{Heading: d.Safeguarding, System: sct, Code: "1064311000000109", Display: "Child protection plan", Text: "Category: neglect", Date: day(t, 150), Status: "active", Label: "NOPAT", By: "Dawn Hibbert", Held: []string{Council}},
			{Heading: d.Immunisations, System: sct, Code: "571591000119106", Display: "MMR vaccination", Date: "2020-06-12", Status: "completed", By: "Sr Joan Price", Held: []string{GP1}},
		},
		Encounters: []Encounter{{ID: "V900900", Class: "EMER", Type: "Emergency department attendance", Start: at(t, 11, "17:25"), End: at(t, 11, "19:00"), Reason: "Scald to forearm", Where: "Children's Emergency Department", By: "Dr Ella Moss", Role: "Consultant paediatrician", Held: []string{Acute}}},
	}
}

func priya(t time.Time) Person {
	return Person{
		Key: "priya", Shows: "an ordinary record at the second practice",
		NHS: NHSNumber("999000156"), NHSStatus: "01", Prefix: "Dr", Given: []string{"Priya"}, Family: "Sharma",
		Born: "1970-10-10", Sex: "female", Address: []string{"19 Canal Walk"}, City: "Severnmouth", Postcode: "GL99 2WX", Phone: "01632 960109",
		Ethnicity: "H", Practice: "M85002", Known: []string{GP2, Acute, Community},
		Items: []Item{
			{Heading: d.Problems, System: sct, Code: "40930008", Display: "Hypothyroidism", Date: "2010-01-20", Status: "active", By: "Dr Yasmin Noor", Held: []string{GP2}},
			{Heading: d.Allergies, System: sct, Code: "294505008", Display: "Allergy to amoxicillin", Text: "Rash", Date: "2001-02-03", Status: "active", Level: "low", By: "Dr Yasmin Noor", Held: []string{GP2}},
		},
		Reports:      []Report{{ID: "P900001", Code: "61167004", Display: "Thyroid function tests", System: fhir.SystemSNOMED, Date: at(t, 35, "08:10"), Status: "final", By: "Severn Pathology", Results: []Result{{"1022791000000101", "Serum TSH level", "6.8", "mU/L", "0.3", "5.5", "H"}}, Held: []string{Acute}}},
		Appointments: []Appointment{{ID: "A55200", Type: "Endocrinology clinic", Start: at(t, -30, "14:00"), End: at(t, -30, "14:20"), Status: "booked", Where: "Outpatients 1", With: "Dr Nia Pugh", Role: "Consultant physician", Held: []string{Acute}}},
	}
}
